"""Flows trained on a density alone: gradients of the reverse divergence, fits, evidences and whose context is whose."""

import copy
import importlib.util
import math
from pathlib import Path

import pytest
import torch
import torch.distributions as td
from nflows.distributions import StandardNormal
from nflows.transforms import MaskedAffineAutoregressiveTransform

from condflows import (
    ActNorm,
    Chain,
    Flow,
    LUConv1x1,
    MixtureCoupling,
    PairedFlow,
    SplineCoupling,
    fit,
    glow_step,
    initialize,
)
from condflows.conditioners import MLPConditioner
from condflows.testing import perturb

EXAMPLE = Path(__file__).parents[1] / "examples" / "variational_inference.py"


@pytest.fixture(scope="module")
def example():
    """Import the example, as its pareto_k is the one that the documentation shows."""
    spec = importlib.util.spec_from_file_location("variational_inference_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Whitened(StandardNormal):
    """Standard normal noise whose sample mean is 0 and covariance 1 for each condition: means of squares are exact."""

    def _sample(self, num_samples, context):
        noise = torch.randn(1 if context is None else len(context), num_samples, *self._shape, dtype=torch.float64)
        noise = noise - noise.mean(1, keepdim=True)
        factor = torch.linalg.cholesky(noise.mT @ noise / num_samples)
        noise = torch.linalg.solve_triangular(factor, noise.mT, upper=False).mT
        return noise[0] if context is None else noise


def affine_flow(context=0):
    """Build a flow whose samples are normal: any affine map of the noise, given a context of this many numbers."""
    actnorm = ActNorm(2, MLPConditioner(context, 4, hidden=(8,)) if context else None)
    return perturb(Flow(Chain([actnorm, LUConv1x1(2)]), shape=(2,), base=Whitened([2])), 0.3).double()


def as_normal(flow, context=None):
    """Return the normal distribution of an affine flow's samples, from where it sends 0 and the unit vectors."""
    rows = 1 if context is None else len(context)
    points = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    noise = points.repeat(rows, 1)
    of_point = None if context is None else context.repeat_interleave(3, 0)
    sent = flow.transform.inverse(noise, of_point)[0].unflatten(0, (rows, 3))
    matrix = (sent[:, 1:] - sent[:, :1]).mT
    return td.MultivariateNormal(sent[:, 0], matrix @ matrix.mT)


def gradients(loss, flow):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(flow.parameters()), retain_graph=True)])


TARGET = td.MultivariateNormal(torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.7], [0.7, 1.5]]).double())


def test_the_gradient_by_samples_is_that_of_the_divergence():
    flow = affine_flow()
    samples, log_q = flow.sample_and_log_prob(100)
    want = td.kl_divergence(as_normal(flow), TARGET)
    torch.testing.assert_close((log_q - TARGET.log_prob(samples)).mean(), want[0], rtol=1e-10, atol=0)
    got = gradients((log_q - TARGET.log_prob(samples)).mean(), flow)
    torch.testing.assert_close(got, gradients(want.sum(), flow), rtol=1e-9, atol=1e-10)
    assert got.abs().max() > 0.1


def drawn_with_densities(flow, context, count):
    return flow.sample_and_log_prob(count, context)


def drawn_then_scored(flow, context, count):
    given = flow.to_distribution(context)
    samples = given.rsample((count,))
    return samples.transpose(0, 1), given.log_prob(samples).T


@pytest.mark.parametrize("draw", [drawn_with_densities, drawn_then_scored])
def test_the_gradient_given_a_context_is_that_of_each_rows_divergence(draw):
    flow, context = affine_flow(3), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    targets = td.MultivariateNormal(torch.randn(4, 2).double(), TARGET.covariance_matrix)
    samples, log_q = draw(flow, context, 50)
    got = (log_q - targets.log_prob(samples.transpose(0, 1)).T).mean(1)
    want = td.kl_divergence(as_normal(flow, context), targets)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=0)
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5]).double()  # so that no row stands in for another
    torch.testing.assert_close(gradients(weights @ got, flow), gradients(weights @ want, flow), rtol=1e-8, atol=1e-9)
    got, want = (torch.autograd.grad(weights @ values, context) for values in (got, want))
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


def step(kind):
    outputs = {"affine": 2, "spline": 23, "mixture": 26}
    if kind == "autoregressive of nflows":
        return MaskedAffineAutoregressiveTransform(2, 8, num_blocks=1, context_features=3)
    coupling = {"spline": SplineCoupling, "mixture": MixtureCoupling}.get(kind)
    return glow_step(2, MLPConditioner(1, outputs[kind], 3, hidden=(8,)), **({"kind": coupling} if coupling else {}))


@pytest.mark.parametrize("base", ["normal", "student", "mixture"])
@pytest.mark.parametrize("kind", ["affine", "spline", "mixture", "autoregressive of nflows"])
def test_gradients_through_samples_equal_finite_differences(kind, base):
    """Move all parameters along a random direction, with the same noise; a fixed base needs no gradient of its own."""
    made = {"normal": None, "student": td.StudentT(4.0), "mixture": td.MixtureSameFamily(
        td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.5), 1))}
    flow = perturb(Flow(Chain([step(kind), step(kind)]), shape=(2,), base=made[base])).double()
    context = torch.randn(5, 3, dtype=torch.float64)
    targets = td.MultivariateNormal(torch.randn(5, 2).double(), TARGET.covariance_matrix)

    def divergence():
        torch.manual_seed(0)
        samples, log_q = flow.sample_and_log_prob(20, context)
        return (log_q - targets.log_prob(samples.transpose(0, 1)).T).mean()

    parameters = list(flow.parameters())
    direction = [torch.randn_like(p) for p in parameters]
    got = sum((g * d).sum() for g, d in zip(torch.autograd.grad(divergence(), parameters), direction, strict=True))
    ends = []
    for sign in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, move in zip(parameters, direction, strict=True):
                parameter += sign * move
            ends.append(divergence())
    torch.testing.assert_close(got, (ends[0] - ends[1]) / 2e-6, rtol=2e-5, atol=1e-7)
    assert got.abs() > 1e-3


def test_an_exact_flow_stays_where_it_is():
    flow = affine_flow()
    with torch.no_grad():
        target = as_normal(flow)
    samples, log_q = flow.sample_and_log_prob(100)
    log_weights = target.log_prob(samples) - log_q
    torch.testing.assert_close(log_weights, torch.zeros_like(log_weights), rtol=0, atol=1e-12)
    assert gradients(-log_weights.mean(), flow).abs().max() < 1e-10


def test_the_gradient_at_an_exact_curved_flow_is_noise_around_0():
    flow = perturb(Flow(Chain([step("affine"), step("affine")]), shape=(2,))).double()
    target, context = copy.deepcopy(flow), torch.randn(2, 3, dtype=torch.float64)

    def gradient():
        samples, log_q = flow.sample_and_log_prob(50, context)
        log_p = target.log_prob(samples.flatten(0, 1), context.repeat_interleave(50, 0))
        torch.testing.assert_close(log_p, log_q.flatten(), rtol=1e-9, atol=1e-9)
        return gradients((log_q.flatten() - log_p).mean(), flow)

    drawn = torch.stack([gradient() for _ in range(150)])
    moves = drawn.std(0) > 1e-9
    errors = drawn.mean(0)[moves] / (drawn.std(0)[moves] / math.sqrt(len(drawn)))
    assert errors.abs().max() < 5
    assert errors.square().mean().sqrt() == pytest.approx(1, abs=0.4)


# --- Fits, by the loop of the example and of the documentation --------------------------------------------------------

PRIOR = td.MultivariateNormal(torch.zeros(2), torch.eye(2))
DESIGN, NOISE = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.6, -1.0]]), 0.5


def log_joint(theta, x):
    return PRIOR.log_prob(theta) + td.Normal(theta @ DESIGN.T, NOISE).log_prob(x).sum(-1)


def posterior(x):
    """Return the posterior and the log-evidence of a linear model with normal noise, in closed form."""
    covariance = torch.linalg.inv(torch.eye(2) + DESIGN.T @ DESIGN / NOISE**2)
    marginal = td.MultivariateNormal(torch.zeros(3), DESIGN @ DESIGN.T + NOISE**2 * torch.eye(3))
    return td.MultivariateNormal(x @ DESIGN @ covariance / NOISE**2, covariance), marginal.log_prob(x)


def divergence(flow, exact, context=None):
    """Return the reverse divergence to an exact density, a mean over many samples."""
    with torch.no_grad():
        samples, log_q = flow.sample_and_log_prob(20_000, context)
    samples, log_q = (samples, log_q) if context is None else (samples[0], log_q[0])
    return float((log_q - exact.log_prob(samples)).mean())


def test_a_short_fit_finds_a_normal_posterior(example):
    exact, _ = posterior(torch.tensor([0.5, -1.0, 1.5]))
    flow = Flow(Chain([ActNorm(2), LUConv1x1(2)]), shape=(2,))
    before = divergence(flow, exact)
    fit(flow, target=lambda theta: log_joint(theta, torch.tensor([0.5, -1.0, 1.5])), epochs=3, batch_size=64,
           learning_rate=3e-2, progress=False)
    assert divergence(flow, exact) < 2e-3 < 1 < before


def test_a_short_fit_finds_the_posterior_of_each_observation(example):
    x = td.Normal(PRIOR.sample((2000,)) @ DESIGN.T, NOISE).sample()
    steps = [glow_step(2, MLPConditioner(1, 2, 3, hidden=(32,)), MLPConditioner(3, 4, hidden=(32,))) for _ in range(2)]
    flow = Flow(Chain(steps), shape=(2,))
    fit(flow, target=log_joint, context=x, epochs=20, batch_size=100, learning_rate=1e-2, progress=False)
    own, others = [], []
    for one, other in zip(x[:8], x[8:16], strict=True):
        exact, _ = posterior(one)
        own.append(divergence(flow, exact, one[None]))
        others.append(divergence(flow, exact, other[None]))
    assert sum(own) / 8 < 0.05 < 1 < sum(others) / 8
    assert max(own) < 0.2


def test_the_evidence_by_weights_is_the_exact_one():
    x = torch.tensor([0.5, -1.0, 1.5])
    exact, evidence = posterior(x)
    # Not fitted: a flow at the posterior's mean and twice its deviations, with tails that are heavy.
    flow = initialize(Flow(ActNorm(2), shape=(2,), base=td.StudentT(5.0)),
                      exact.mean + 2 * exact.stddev * torch.randn(5000, 2))
    samples, log_q = flow.sample_and_log_prob(100_000)
    log_weights = (log_joint(samples, x) - log_q).detach().double()
    weights = (log_weights - evidence).exp()
    assert weights.mean() == pytest.approx(1, abs=4 * float(weights.std()) / math.sqrt(len(weights)))
    assert weights.std() < 2
    mean = log_weights.softmax(0) @ samples.double()
    torch.testing.assert_close(mean.float(), exact.mean, rtol=0, atol=0.01)


# --- Contexts and samples ---------------------------------------------------------------------------------------------


def pair():
    source = glow_step(2, MLPConditioner(1, 2, hidden=(8,)))
    target = glow_step(2, MLPConditioner(1, 2, 2, hidden=(32,)), MLPConditioner(2, 4, hidden=(32,)))
    return PairedFlow(Flow(source, shape=(2,)), Flow(target, shape=(2,)))


def conditional():
    return Flow(glow_step(2, MLPConditioner(1, 2, 2, hidden=(32,)), MLPConditioner(2, 4, hidden=(32,))), shape=(2,))


@pytest.mark.parametrize("make", [conditional, pair])
def test_each_row_of_the_context_gets_its_own_samples(make, example):
    """Fit a narrow normal around each context; a row with the samples of another would be far off."""
    torch.manual_seed(0)
    flow, context = make(), 1.5 * torch.randn(400, 2)

    def target(samples, rows):
        assert samples.shape == rows.shape
        return td.Normal(rows, 0.1).log_prob(samples).sum(1)

    fit(flow, target=target, context=context, epochs=60, batch_size=100, learning_rate=1e-2, progress=False)
    with torch.no_grad():
        samples, log_q = flow.sample_and_log_prob(3, context)
    assert samples.shape == (400, 3, 2)
    assert log_q.shape == (400, 3)
    errors = samples - context[:, None]
    assert errors.square().mean().sqrt() < 0.3
    assert (samples - context.roll(1, 0)[:, None]).square().mean().sqrt() > 1.5
    drawn = flow.to_distribution(context).sample((3,))
    assert (drawn - context).square().mean().sqrt() < 0.3


@pytest.mark.parametrize("make", [conditional, pair])
def test_the_loss_of_a_row_moves_its_own_context_alone(make):
    flow, context = perturb(make()), torch.randn(3, 2, requires_grad=True)
    samples, log_q = flow.sample_and_log_prob(4, context)
    (gradient,) = torch.autograd.grad((log_q - samples.square().sum(-1))[1].mean(), context)
    assert (gradient.abs().sum(1) > 0).tolist() == [False, True, False]


# --- The diagnostic of the weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [1.5, 3.0, 10.0])
def test_the_tail_index_is_pyros(df, example):
    stats = pytest.importorskip("pyro.ops.stats", reason="pyro-ppl is not installed: pip install pyro-ppl")
    samples = torch.randn(4000, dtype=torch.float64)
    log_weights = td.StudentT(df).log_prob(samples) - td.Normal(0.0, 1.0).log_prob(samples)
    weights = (log_weights - log_weights.max()).exp().sort().values
    tail = math.ceil(3 * math.sqrt(4000))
    want, _ = stats.fit_generalized_pareto(weights[-tail:] - weights[-tail - 1])
    assert example.pareto_k(log_weights) == pytest.approx(want, abs=1e-9)
    assert example.pareto_k(log_weights.float() - 50) == pytest.approx(want, abs=0.01)


@pytest.mark.parametrize("index", [0.2, 0.5, 0.9])
def test_the_tail_index_is_that_of_pareto_weights(index, example):
    log_weights = -index * torch.rand(100_000, dtype=torch.float64).log()  # whose tails fall as weight^(-1 / index)
    assert example.pareto_k(log_weights) == pytest.approx(index, abs=0.1)


def test_normal_weights_of_wide_and_narrow_proposals(example):
    """The weights of a normal with deviation s for the standard one are a power law of index 1 - s^2 where s < 1."""
    for deviation in (0.4, 0.6):
        narrow = td.Normal(0.0, deviation)
        samples = narrow.sample((200_000,))
        log_weights = td.Normal(0.0, 1.0).log_prob(samples) - narrow.log_prob(samples)
        assert example.pareto_k(log_weights) == pytest.approx(1 - deviation**2, abs=0.15)
