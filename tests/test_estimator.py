import pickle
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason='scikit-learn is not installed: pip install "condflows[sklearn]"')

from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import condflows as cf
from condflows.conditioners import MLPConditioner
from condflows.estimator import ConditionalDensityEstimator, tabular_flow

OF_PAIRS = "score_samples is the density of targets given features and takes both"


def quick(**options):
    return ConditionalDensityEstimator(**{"epochs": 2, "random_state": 0, **options})


@parametrize_with_checks([quick()], expected_failed_checks=lambda _: {
    "check_methods_sample_order_invariance": OF_PAIRS, "check_methods_subset_invariance": OF_PAIRS})
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def table(rows=600, targets=None, seed=0):
    """Return features, and targets whose mean and deviation the features decide."""
    random = np.random.default_rng(seed)
    X = random.uniform(-1, 1, (rows, 2))
    shape = rows if targets is None else (rows, targets)
    scale = 0.2 + 0.6 * (X[:, 1] > 0)
    y = 3 * (X[:, 0] if targets is None else X[:, :1]) + (scale if targets is None else scale[:, None]) * (
        random.standard_normal(shape))
    return X, y, scale


def test_the_density_of_one_target_against_the_exact_one():
    X, y, _ = table(4000)
    estimator = ConditionalDensityEstimator(epochs=40, random_state=0).fit(X, y)
    X, y, scale = table(2000, seed=1)
    truth = norm(3 * X[:, 0], scale).logpdf(y).mean()
    assert truth - 0.1 < estimator.score(X, y) < truth + 0.02
    samples = estimator.sample(X[:200], n_samples=500)
    assert np.abs(samples.mean(1) - 3 * X[:200, 0]).mean() < 0.1
    assert np.corrcoef(samples.std(1), scale[:200])[0, 1] > 0.9


def test_two_modes_and_several_targets():
    random = np.random.default_rng(0)
    X = random.uniform(1, 2, (3000, 1))
    y = X * random.choice([-1, 1], (3000, 1)) + 0.1 * random.standard_normal((3000, 3))
    estimator = ConditionalDensityEstimator(epochs=40, random_state=0).fit(X, y)
    samples = estimator.sample([[1.5]], n_samples=1000)[0]
    assert samples.shape == (1000, 3)
    assert (np.abs(np.abs(samples) - 1.5) < 0.5).mean() > 0.9
    assert 0.3 < (samples[:, 0] > 0).mean() < 0.7
    assert (np.sign(samples[:, 0]) == np.sign(samples[:, 2])).mean() > 0.9


def test_rows_in_another_order_and_alone():
    X, y, _ = table(100, targets=2)
    estimator = quick().fit(X, y)
    values = estimator.score_samples(X, y)
    assert np.allclose(estimator.score_samples(X[::-1], y[::-1])[::-1], values, atol=1e-5)
    assert np.allclose([estimator.score_samples(X[[i]], y[[i]])[0] for i in range(5)], values[:5], atol=1e-5)
    assert estimator.score(X, y) == pytest.approx(values.mean())


def test_shapes():
    X, y, _ = table(100)
    one = quick().fit(X, y)
    assert one.sample(X).shape == (100, 1)
    assert one.sample(X, n_samples=7).shape == (100, 7)
    several = quick().fit(X, y[:, None])
    assert several.sample(X, n_samples=7).shape == (100, 7, 1)
    assert np.allclose(one.score_samples(X, y), several.score_samples(X, y[:, None]), atol=1e-5)
    assert several.history_.held_out


def test_samples_in_parts_have_the_right_features(monkeypatch):
    monkeypatch.setattr("condflows.estimator.ROWS", 100)
    X, y, _ = table(2000)
    estimator = quick(epochs=30).fit(X, y)
    samples = estimator.sample(X[:50], n_samples=40)
    assert np.corrcoef(samples.mean(1), X[:50, 0])[0, 1] > 0.95


def test_random_states():
    X, y, _ = table(100)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, other, another = (quick(random_state=state).fit(X, y) for state in (0, 0, 1))
    assert np.array_equal(one.score_samples(X, y), other.score_samples(X, y))
    assert not np.array_equal(one.score_samples(X, y), another.score_samples(X, y))
    assert np.array_equal(one.sample(X), one.sample(X))
    assert not np.array_equal(one.sample(X), one.sample(X, random_state=5))
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(*(quick(random_state=None).fit(X, y).score_samples(X, y) for _ in range(2)))


def test_pipelines_searches_and_cross_validation():
    X, y, _ = table(200)
    pipeline = make_pipeline(StandardScaler(), quick())
    assert np.isfinite(pipeline.fit(X, y).score(X, y))
    assert len(cross_val_score(pipeline, X, y, cv=3)) == 3
    search = GridSearchCV(quick(), {"epochs": [1, 15], "batch_size": [32]}, cv=2).fit(X, y)
    assert search.best_params_["epochs"] == 15
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


def test_a_copy_from_a_file():
    X, y, _ = table(100)
    estimator = quick().fit(X, y)
    assert np.array_equal(pickle.loads(pickle.dumps(estimator)).score_samples(X, y), estimator.score_samples(X, y))


def normal(targets, features):
    return cf.Flow(cf.ActNorm(targets, MLPConditioner(features, 2 * targets)), shape=(targets,)).double()


def test_a_flow_of_ones_own():
    X, y, _ = table(300)
    estimator = quick(build=normal, epochs=20, patience=None, validation_fraction=0.5, learning_rate=1e-2).fit(X, y)
    assert isinstance(estimator.flow_.transform, cf.ActNorm)
    assert estimator.score_samples(X, y).dtype == np.float64
    assert len(estimator.history_.train) == 20


def test_far_from_order_one():
    X, y, _ = table(500)
    near, far = quick(epochs=20).fit(X, y), quick(epochs=20).fit(1e5 + 300 * X, 1e4 + 500 * y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert far.score(1e5 + 300 * X, 1e4 + 500 * y) == pytest.approx(near.score(X, y) - np.log(500), abs=0.05)


def test_mistakes():
    X, y, _ = table(100)
    with pytest.raises(NotFittedError):
        quick().sample(X)
    with pytest.raises(ValueError, match="2 features"):
        quick().fit(X, y).sample(X[:, :1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(X, y).score_samples(X, y[:50])
    with pytest.raises(ValueError, match="contains NaN"):
        quick().fit(X, np.where(y > 0, np.nan, y))
    with pytest.raises(ValueError, match="below 1, or data, got 2"):
        quick(validation_fraction=2).fit(X, y)
    with pytest.raises(ValueError, match="expected a positive whole number of samples, got 0"):
        quick().fit(X, y).sample(X, n_samples=0)
    with pytest.raises(ValueError, match="1 targets, got 2"):
        quick().fit(X, y).score_samples(X, np.stack([y, y], 1))


def test_the_flow_of_tables_is_exact():
    torch.manual_seed(0)
    flow = tabular_flow(3, 2).double()
    cf.testing.perturb(flow)
    cf.testing.check_bijector(flow.transform, torch.randn(4, 3).double(), torch.randn(4, 2).double())
    one = tabular_flow(1, 2).double()
    cf.testing.perturb(one)
    axis = torch.linspace(-200, 200, 400_001).double()[:, None]
    density = one.log_prob(axis, torch.randn(1, 2).double().expand(len(axis), 2)).exp()
    assert torch.trapezoid(density, axis[:, 0]).item() == pytest.approx(1, abs=1e-4)
