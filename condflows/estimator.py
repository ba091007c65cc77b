"""A conditional flow as an estimator of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from condflows.bijector import Bijector
from condflows.chain import Chain
from condflows.checks import check_count
from condflows.conditioners import MLPConditioner
from condflows.couplings import AffineCoupling
from condflows.fit import fit
from condflows.flow import Flow
from condflows.luconv import LUConv1x1
from condflows.standardize import Standardize

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('condflows.estimator expects scikit-learn; pip install "condflows[sklearn]"',
                              name=error.name) from None

__all__ = ["ConditionalDensityEstimator", "tabular_flow"]

ROWS = 2**16
"""Number of samples that are drawn at a time."""


class NormalMixture(nn.Module):
    """Make a mixture of diagonal normal distributions, whose weights, means and deviations a net of a context gives."""

    def __init__(self, net: nn.Module, num_targets: int, components: int):
        super().__init__()
        self.net = net
        self.means = nn.Parameter(torch.randn(components, num_targets))

    def forward(self, context: Tensor) -> MixtureSameFamily:
        components, size = self.means.shape
        logits, shifts, scales = self.net(context).split([components, components * size, components * size], dim=1)
        means = self.means + shifts.unflatten(1, (components, size))
        deviations = (3 * torch.tanh(scales / 3)).exp().unflatten(1, (components, size))
        return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(means, deviations), 1))


def tabular_flow(num_targets: int, num_features: int, steps: int = 4, components: int = 4,
                 hidden: Sequence[int] = (64, 64)) -> Flow:
    r"""Build a flow of a row of numbers given another.

    Targets and features are standardized. Couplings and linear maps, :math:`f`, lead the targets to a mixture of normal
    distributions :math:`q`; couplings and mixture read the features:

    .. math:: \log p(y \mid x) = \log q(f(y, x) \mid x) + \log \left| \det \partial f / \partial y \right|

    Of one target there is nothing to couple, and the mixture alone is its density (a mixture density network).

    Shapes: targets ``(batch, num_targets)``, features ``(batch, num_features)``.
    Paper: Real NVP (arXiv 1605.08803), and Bishop, Mixture density networks (1994).

    Args:
        num_targets: the number of values whose density is modelled.
        num_features: the number of values of the context.
        steps: the number of couplings of two or more targets.
        components: the number of normal distributions.
        hidden: the widths of the hidden layers of each net.

    Raises:
        ValueError: no targets or features.

    >>> from condflows.estimator import tabular_flow
    >>> flow = tabular_flow(num_targets=2, num_features=5)
    >>> flow.log_prob(torch.randn(10, 2), torch.randn(10, 5)).shape
    torch.Size([10])
    """
    first, second = num_targets - num_targets // 2, num_targets // 2
    context = Standardize(num_features)

    def step() -> list[Bijector]:
        net = MLPConditioner(first, 2 * second, num_features, hidden)
        return [LUConv1x1(num_targets), AffineCoupling(num_targets, context.before(net))]

    couplings = [part for _ in range(steps if second else 0) for part in step()]
    parameters = MLPConditioner(num_features, components * (1 + 2 * num_targets), hidden=hidden)
    base = NormalMixture(context.before(parameters), num_targets, components)
    return Flow(Chain([Standardize(num_targets), *couplings]), shape=(num_targets,), base=base)


class ConditionalDensityEstimator(BaseEstimator):
    r"""Estimate the density of targets given features, in scikit-learn's manner: a thin layer on :func:`condflows.fit`.

    It maximizes :math:`\sum_i \log p(y_i \mid x_i)` over a flow, and stops where that of a held-out part falls.

    Shapes: features ``X (rows, features)``, targets ``y (rows,)`` or ``(rows, targets)``; log-densities ``(rows,)``, in
    nats. Paper: none; the interface is that of scikit-learn.

    Args:
        build: makes the flow of a number of targets and a number of features; :func:`tabular_flow` if None.
        epochs: the largest number of passes over the rows.
        batch_size: the number of rows in a step.
        learning_rate: the largest learning rate of Adam.
        validation_fraction: the share of the rows that is held out to stop early and to choose the weights.
        patience: the number of epochs without a better held-out log-density after which the training ends.
        random_state: seeds weights, batches and samples, as everywhere in scikit-learn.
        verbose: show a progress bar.

    Attributes:
        flow_: the trained flow.
        history_: the losses of the training, a :class:`condflows.History`.
        n_features_in_: the number of features.
        n_targets_: the number of targets.

    Raises:
        ValueError: rows that do not fit together, values that are not finite, and the errors of :func:`condflows.fit`.
        ModuleNotFoundError: without scikit-learn.

    >>> from condflows.estimator import ConditionalDensityEstimator
    >>> X = torch.rand(500, 2).numpy()
    >>> y = X[:, 0] + 0.1 * torch.randn(500).numpy()
    >>> estimator = ConditionalDensityEstimator(epochs=5, random_state=0).fit(X, y)
    >>> estimator.score_samples(X, y).shape, estimator.sample(X, n_samples=10).shape
    ((500,), (500, 10))
    """

    def __init__(self, build: Callable[[int, int], nn.Module] | None = None, epochs: int = 200, batch_size: int = 128,
                 learning_rate: float = 3e-3, validation_fraction: float = 0.1, patience: int | None = 20,
                 random_state: Any = None, verbose: bool = False):
        self.build = build
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> ConditionalDensityEstimator:
        """Fit the density of targets given features; returns the estimator."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, ensure_min_samples=2)
        self._one_target, self.n_targets_ = y.ndim == 1, y[0].size
        with seeded(self.random_state):
            self.flow_: Any = (self.build or tabular_flow)(self.n_targets_, X.shape[1])
            self.history_ = fit(self.flow_, self._tensor(y), self._tensor(X), epochs=self.epochs,
                                batch_size=self.batch_size, learning_rate=self.learning_rate,
                                held_out=self.validation_fraction, patience=self.patience, progress=self.verbose)
        self.flow_.eval()
        return self

    def score_samples(self, X: Any, y: Any) -> np.ndarray:
        """Return the log-density of each row of targets given its features, in nats."""
        X, y = self._features(X), check_array(y, ensure_2d=False, dtype="numeric")
        check_consistent_length(X, y)
        if y[0].size != self.n_targets_:
            raise ValueError(f"ConditionalDensityEstimator was fitted to {self.n_targets_} targets, got {y[0].size}; "
                             "pass those")
        with torch.no_grad():
            return self.flow_.log_prob(self._tensor(y), self._tensor(X)).double().cpu().numpy()

    def score(self, X: Any, y: Any) -> float:
        """Return the mean log-density of targets given features, in nats; higher is better."""
        return float(self.score_samples(X, y).mean())

    def sample(self, X: Any, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw targets ``(rows, n_samples)``, or ``(rows, n_samples, targets)``, for each row of features.

        Args:
            X: features.
            n_samples: the number of samples for each row.
            random_state: seeds the samples; that of the estimator if None.
        """
        check_count(n_samples, 1, "expected a positive whole number of samples")
        rows = self._tensor(self._features(X)).split(max(1, ROWS // n_samples))
        with seeded(self.random_state if random_state is None else random_state), torch.no_grad():
            samples = torch.cat([self.flow_.sample(n_samples, part) for part in rows])
        return (samples[..., 0] if self._one_target else samples).double().cpu().numpy()

    def _features(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, reset=False)

    def _tensor(self, values: np.ndarray) -> Tensor:
        like = next(self.flow_.parameters())
        rows = np.array(values, dtype=np.float64, order="C").reshape(len(values), -1)
        return torch.from_numpy(rows).to(like)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


@contextmanager
def seeded(random_state: Any) -> Iterator[None]:
    """Seed torch's random numbers from a random state of scikit-learn, and put those of before back."""
    with torch.random.fork_rng():
        torch.manual_seed(check_random_state(random_state).randint(2**31 - 1))
        yield
