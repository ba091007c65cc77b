"""Flows in sbi, where the posterior is known exactly: a linear simulator with normal noise."""

import copy
import pickle
from unittest.mock import Mock

import pytest
import torch
import torch.distributions as td
from nflows.distributions import StandardNormal
from nflows.flows import Flow as NflowsFlow
from torch import nn

import condflows as cf
from condflows.conditioners import MLPConditioner

pytest.importorskip("sbi", reason="sbi is not installed: pip install sbi")

from sbi.inference import NLE, NPE
from sbi.neural_nets.estimators import NFlowsFlow
from sbi.utils import BoxUniform

pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of epochs")

A, NOISE = torch.tensor([[1.0, 0.5], [-0.3, 0.8]]), 0.5
PRIOR = td.MultivariateNormal(torch.zeros(2), torch.eye(2))
OBSERVED = torch.tensor([[1.0, -0.5], [-1.0, 0.5], [0.2, 1.0]])


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Run in an empty directory, and find it empty: without a tracker sbi would write TensorBoard's files."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir())


def simulate(count, prior=PRIOR):
    theta = prior.sample((count,))
    return theta, td.Normal(theta @ A.T, NOISE).sample()


def posterior(x):
    covariance = torch.linalg.inv(torch.eye(2) + A.T @ A / NOISE**2)
    return td.MultivariateNormal(x @ A @ covariance / NOISE**2, covariance)


def build(theta, x):
    """Build a density estimator of theta given x; sbi passes the simulations, which also initialize the actnorms."""
    size, features = theta.shape[1], x.shape[1]
    coupling = MLPConditioner(size - size // 2, 2 * (size // 2), features, hidden=(32,))
    actnorm = MLPConditioner(features, 2 * size, hidden=(32,))
    flow = cf.Flow(cf.Chain([cf.glow_step(size, coupling, actnorm)]), shape=(size,))
    return NFlowsFlow(cf.initialize(flow, theta, x), theta.shape[1:], x.shape[1:])


def build_in_nflows_flow(theta, x):
    """Build the same with a flow of nflows around the transform."""
    size = theta.shape[1]
    return NFlowsFlow(NflowsFlow(build(theta, x).net.transform, StandardNormal([size])), theta.shape[1:], x.shape[1:])


def build_with_embedding(theta, x):
    """Build the same with a net in front that turns x, 20 numbers of which 2 matter, into 2 features."""
    size = theta.shape[1]
    embedded = build(theta, x[:, :2])
    flow = cf.Flow(embedded.net.transform, shape=(size,), embedding_net=nn.Linear(20, 2))
    return NFlowsFlow(flow, theta.shape[1:], x.shape[1:])


def train(method, estimator, theta, x, epochs=20, **options):
    torch.manual_seed(0)
    inference = method(options.pop("prior", PRIOR), density_estimator=estimator, tracker=Mock(),
                       show_progress_bars=False)
    inference.append_simulations(theta, x)
    estimator = inference.train(training_batch_size=200, learning_rate=5e-3, max_num_epochs=epochs)
    return inference.build_posterior(**options), estimator


def agrees(samples, exact, mean=0.35, deviation=0.2):
    """Compare means, in the exact deviations, and deviations, by their ratio."""
    errors = (samples.mean(0) - exact.mean) / exact.stddev
    assert errors.abs().max() < mean
    torch.testing.assert_close(samples.std(0) / exact.stddev, torch.ones(2), rtol=0, atol=deviation)


@pytest.fixture(scope="module")
def simulations():
    torch.manual_seed(0)
    return simulate(4000)


@pytest.mark.parametrize("builder", [build, build_in_nflows_flow])
def test_posteriors_are_the_exact_ones(builder, simulations):
    learned, estimator = train(NPE, builder, *simulations)
    theta, x = simulate(4000)
    divergence = (posterior(x).log_prob(theta) - estimator.log_prob(theta[None], x)[0]).mean()
    assert 0 < divergence < 0.1 < 1 < (posterior(x).log_prob(theta) - PRIOR.log_prob(theta)).mean()
    for x in OBSERVED:
        samples, exact = learned.sample((4000,), x=x, show_progress_bars=False), posterior(x)
        agrees(samples, exact)
        assert (learned.log_prob(samples, x=x) - exact.log_prob(samples)).mean() < 0.1
    together = learned.sample_batched((4000,), x=OBSERVED, show_progress_bars=False)
    for samples, x in zip(together.unbind(1), OBSERVED, strict=True):
        agrees(samples, posterior(x))


def test_both_flows_are_one_function(simulations):
    (ours, own), (nflows, others) = (train(NPE, builder, *simulations, epochs=2)
                                     for builder in (build, build_in_nflows_flow))
    theta, x = simulations[0][:50], simulations[1][:50]
    torch.testing.assert_close(own.log_prob(theta[None], x), others.log_prob(theta[None], x), rtol=1e-5, atol=1e-5)
    noise = own.inverse_transform(theta, x)
    torch.testing.assert_close(noise, own.net.transform_to_noise(theta, x))
    torch.testing.assert_close(ours.log_prob(theta, x=OBSERVED[:1]), nflows.log_prob(theta, x=OBSERVED[:1]))
    for again in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert torch.equal(again.log_prob(theta[None], x), own.log_prob(theta[None], x))


def test_an_embedding_net_is_trained_with_the_flow():
    torch.manual_seed(0)
    theta, x = simulate(4000)
    x = torch.cat([x, torch.randn(4000, 18)], 1)
    learned, estimator = train(NPE, build_with_embedding, theta, x, epochs=30)
    assert isinstance(estimator.embedding_net, nn.Linear)
    weight = estimator.embedding_net.weight.detach().abs()
    assert weight[:, :2].mean() > 3 * weight[:, 2:].mean()
    for one in OBSERVED:
        seen = torch.cat([one, torch.zeros(18)])
        agrees(learned.sample((4000,), x=seen, show_progress_bars=False), posterior(one), deviation=0.25)


def test_a_second_round_narrows_the_prior(simulations):
    """Simulate again from the first posterior, which sbi corrects for with atoms, many thetas for one x."""
    torch.manual_seed(0)
    x = OBSERVED[0]
    inference = NPE(PRIOR, density_estimator=build, tracker=Mock(), show_progress_bars=False)
    inference.append_simulations(*(part[:2000] for part in simulations))
    inference.train(training_batch_size=200, learning_rate=5e-3, max_num_epochs=10)
    proposal = inference.build_posterior().set_default_x(x)
    theta = proposal.sample((1000,), show_progress_bars=False)
    inference.append_simulations(theta, td.Normal(theta @ A.T, NOISE).sample(), proposal=proposal)
    inference.train(training_batch_size=200, learning_rate=2e-3, max_num_epochs=10)
    samples = inference.build_posterior().sample((4000,), x=x, show_progress_bars=False)
    agrees(samples, posterior(x), deviation=0.25)


def build_in_box(theta, x):
    """Put a ``Logit`` first, as all parameters lie between -2 and 2."""
    flow = cf.Flow(cf.Chain([cf.Logit(-2.0, 2.0), build(theta, x).net.transform]), shape=(2,))
    return NFlowsFlow(cf.initialize(flow, theta, x), theta.shape[1:], x.shape[1:])


def test_nothing_leaks_out_of_a_box():
    torch.manual_seed(0)
    box = BoxUniform(-2 * torch.ones(2), 2 * torch.ones(2))
    learned, estimator = train(NPE, build_in_box, *simulate(3000, box), epochs=15, prior=box)
    x = torch.tensor([2.5, 1.0])  # the posterior is cut off by the box
    samples = estimator.sample((5000,), x[None])[:, 0]
    assert samples.abs().max() < 2
    axis = torch.linspace(-1.99, 1.99, 200)
    grid = torch.cartesian_prod(axis, axis)
    weights = td.Normal(grid @ A.T, NOISE).log_prob(x).sum(1).softmax(0)
    torch.testing.assert_close(samples.mean(0), weights @ grid, rtol=0, atol=0.1)
    torch.testing.assert_close(learned.log_prob(samples[:9], x=x, norm_posterior=True, leakage_correction_params={
        "num_rejection_samples": 1000}), learned.log_prob(samples[:9], x=x, norm_posterior=False))


def test_a_flow_of_the_simulators_density_is_a_likelihood(simulations):
    learned, estimator = train(NLE, build, *simulations, epochs=10, sample_with="rejection")
    theta, x = simulations[0][:500], simulations[1][:500]
    exact = td.Normal(theta @ A.T, NOISE).log_prob(x).sum(1)
    assert (exact - estimator.log_prob(x[None], theta)[0]).mean() < 0.05
    samples = learned.sample((1000,), x=OBSERVED[0], show_progress_bars=False)
    agrees(samples, posterior(OBSERVED[0]))
