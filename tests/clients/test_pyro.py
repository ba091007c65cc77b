"""Flows in Pyro beyond tests/test_to_distribution.py: as guides and as likelihoods, against exact posteriors."""

import pytest
import torch
import torch.distributions as td
from torch import nn

from condflows import ActNorm, Chain, Flow, FlowDistribution, Logit, PairedFlow, glow_step
from condflows.conditioners import MLPConditioner
from condflows.testing import perturb

pyro = pytest.importorskip("pyro", reason="Pyro is not installed: pip install pyro-ppl")

import pyro.distributions as dist  # noqa: E402
from pyro.distributions.torch_distribution import TorchDistributionMixin  # noqa: E402
from pyro.infer import MCMC, NUTS, SVI, Importance, Predictive, Trace_ELBO  # noqa: E402
from pyro.infer.importance import psis_diagnostic  # noqa: E402


class PyroFlow(FlowDistribution, TorchDistributionMixin):
    """A flow at fixed conditions, ``PyroFlow(flow, context)``, as a distribution of Pyro."""


A, NOISE = torch.tensor([[1.0, 0.5], [-0.3, 0.8]]), 0.5


@pytest.fixture(autouse=True)
def _fresh():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)


def conditional_flow():
    steps = [glow_step(2, MLPConditioner(1, 2, 2, hidden=(32,)), MLPConditioner(2, 4, hidden=(32,))) for _ in range(2)]
    return Flow(Chain(steps), shape=(2,))


def linear_flow():
    """Build a flow that is the normal distribution of deviation NOISE around A @ context."""
    net = nn.Linear(2, 4)
    actnorm = ActNorm(2, net, affine=lambda scale, shift: (scale, shift))
    with torch.no_grad():
        net.weight.copy_(torch.cat([torch.zeros(2, 2), -A / NOISE]))
        net.bias.zero_()
        actnorm.log_scale.fill_(-torch.tensor(NOISE).log())
        actnorm.unit.fill_(NOISE)
    return Flow(actnorm, shape=(2,)).requires_grad_(False)


def exact_posterior(total, count):
    """Return the posterior of theta given the sum of a number of observations around A @ theta."""
    covariance = torch.linalg.inv(torch.eye(2) + count * A.T @ A / NOISE**2)
    return td.MultivariateNormal(total @ A @ covariance / NOISE**2, covariance)


def test_the_linear_flow_is_the_normal_distribution_it_stands_for():
    theta, y = torch.randn(5, 2), torch.randn(5, 2)
    want = td.Normal(theta @ A.T, NOISE).log_prob(y).sum(1)
    torch.testing.assert_close(linear_flow().log_prob(y, theta), want)


# --- As a guide -------------------------------------------------------------------------------------------------------


def local_model(x, size=None):
    """Observe each x_i around A @ z_i, for z_i of its own."""
    with pyro.plate("data", len(x), subsample_size=size) as rows:
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ A.T, NOISE).to_event(1), obs=x[rows])


def amortized_guide(flow):
    def guide(x, size=None):
        pyro.module("guide", flow)
        with pyro.plate("data", len(x), subsample_size=size) as rows:
            pyro.sample("z", PyroFlow(flow, x[rows]))
    return guide


def test_the_objective_is_that_of_the_flows_own_samples():
    flow, x = perturb(conditional_flow()), torch.randn(6, 2)
    pyro.set_rng_seed(1)
    loss = Trace_ELBO().differentiable_loss(local_model, amortized_guide(flow), x)
    pyro.set_rng_seed(1)
    z, log_q = flow.sample_and_log_prob(1, x)
    z, log_q = z[:, 0], log_q[:, 0]
    log_p = td.Normal(0.0, 1.0).log_prob(z).sum(1) + td.Normal(z @ A.T, NOISE).log_prob(x).sum(1)
    want = (log_q - log_p).sum()
    torch.testing.assert_close(loss, want)
    parameters = list(flow.parameters())
    for got, expected in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(want, parameters), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_one_guide_finds_the_posterior_of_each_observation_from_parts_of_the_data():
    x = td.Normal(torch.randn(1000, 2) @ A.T, NOISE).sample()
    flow = conditional_flow()
    svi = SVI(local_model, amortized_guide(flow), pyro.optim.ClippedAdam({"lr": 1e-2, "lrd": 0.99}), Trace_ELBO())
    for _ in range(300):
        svi.step(x, 100)
    exact = [exact_posterior(one, 1) for one in x[:50]]
    samples = flow.to_distribution(x[:50]).sample((2000,))
    means, deviations = (torch.stack([getattr(one, name) for one in exact]) for name in ("mean", "stddev"))
    errors = (samples.mean(0) - means) / deviations
    assert errors.square().mean().sqrt() < 0.2
    assert means.std() > 3 * (samples.mean(0) - means).std()  # each its own, not one for all
    torch.testing.assert_close((samples.std(0) / deviations).mean(0), torch.ones(2), rtol=0.1, atol=0)


@pytest.mark.parametrize(("deviation", "good"), [(1.2, True), (0.1, False)])
def test_pyros_diagnostic_judges_a_guide(deviation, good):
    """Take the prior as model, of which a wide normal is a good guide and a narrow one a bad one."""
    actnorm = ActNorm(2)
    with torch.no_grad():
        actnorm.log_scale.fill_(-torch.tensor(deviation).log())
    guide_flow = Flow(actnorm, shape=(2,))

    def model():
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    def guide():
        pyro.sample("z", PyroFlow(guide_flow))

    assert (psis_diagnostic(model, guide, num_particles=5000) < 0.7) == good


# --- As a likelihood --------------------------------------------------------------------------------------------------


def global_model(flow, y):
    """Observe all rows of y from one flow whose context is theta."""
    theta = pyro.sample("theta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", PyroFlow(flow, theta[None]), obs=y)


@pytest.fixture
def observed():
    return td.Normal(A @ torch.tensor([0.7, -1.0]), NOISE).sample((8,))


def test_nuts_samples_the_posterior_of_a_flows_context(observed):
    mcmc = MCMC(NUTS(global_model, max_tree_depth=4), num_samples=300, warmup_steps=60, disable_progbar=True)
    mcmc.run(linear_flow(), observed)
    theta, exact = mcmc.get_samples()["theta"], exact_posterior(observed.sum(0), 8)
    assert ((theta.mean(0) - exact.mean) / exact.stddev).abs().max() < 0.3
    torch.testing.assert_close(theta.std(0), exact.stddev, rtol=0.25, atol=0)


def test_nuts_stays_inside_of_a_flows_support():
    """Take as prior of two probabilities a flow of uniform density, so that the posterior is a beta distribution."""
    uniform = Flow(Logit(0.0, 1.0), shape=(2,), base=td.TransformedDistribution(
        td.Uniform(0.0, 1.0), [td.SigmoidTransform().inv]))

    def model(successes):
        chances = pyro.sample("chances", PyroFlow(uniform))
        pyro.sample("successes", dist.Binomial(10, chances).to_event(1), obs=successes)

    mcmc = MCMC(NUTS(model, max_tree_depth=4), num_samples=300, warmup_steps=60, disable_progbar=True)
    mcmc.run(torch.tensor([9.0, 3.0]))
    chances = mcmc.get_samples()["chances"]
    assert 0 < chances.min() < chances.max() < 1
    exact = td.Beta(torch.tensor([10.0, 4.0]), torch.tensor([2.0, 8.0]))
    torch.testing.assert_close(chances.mean(0), exact.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(chances.std(0), exact.stddev, rtol=0.3, atol=0)


def test_importance_sampling_gives_the_evidence(observed):
    """Use as guide a flow that is wider than the posterior."""
    exact, actnorm = exact_posterior(observed.sum(0), 8), ActNorm(2)
    with torch.no_grad():
        actnorm.log_scale.copy_(-(1.5 * exact.stddev).log())
        actnorm.shift.copy_(-exact.mean / (1.5 * exact.stddev))
    guide_flow = Flow(actnorm, shape=(2,))

    def guide(flow, y):
        pyro.sample("theta", PyroFlow(guide_flow))

    importance = Importance(global_model, guide, num_samples=1000).run(linear_flow(), observed)
    theta = torch.zeros(2)  # at any theta, evidence = prior * likelihood / posterior
    want = (td.Normal(0.0, 1.0).log_prob(theta).sum() + td.Normal(A @ theta, NOISE).log_prob(observed).sum()
            - exact.log_prob(theta))
    assert float(importance.get_log_normalizer()) == pytest.approx(float(want), abs=0.1)
    assert importance.get_ESS() > 300


# --- Plates and batches -----------------------------------------------------------------------------------------------


def test_plates_expand_a_flow_and_score_every_value():
    free = perturb(Flow(glow_step(2, MLPConditioner(1, 2)), shape=(2,)))
    given, x = perturb(conditional_flow()), torch.randn(4, 2)

    def model():
        with pyro.plate("repeats", 3, dim=-2):
            pyro.sample("outer", PyroFlow(free))
            with pyro.plate("rows", 4, dim=-1):
                pyro.sample("both", PyroFlow(free))
                pyro.sample("given", PyroFlow(given, x))

    nodes = pyro.poutine.trace(model).get_trace().nodes
    for name, batch in (("outer", (3, 1)), ("both", (3, 4)), ("given", (3, 4))):
        value, context = nodes[name]["value"], x.repeat(3, 1) if name == "given" else None
        assert value.shape == (*batch, 2)
        assert len(value.flatten(0, 1).unique(dim=0)) == batch[0] * batch[1]
        flow = given if name == "given" else free
        want = flow.log_prob(value.flatten(0, 1), context).view(batch)
        torch.testing.assert_close(nodes[name]["fn"].log_prob(value), want)
    trace = pyro.poutine.trace(model).get_trace()
    assert torch.isfinite(trace.log_prob_sum())


def test_predictive_draws_from_guide_and_model():
    flow, x = conditional_flow(), torch.randn(4, 2)
    for parallel in (False, True):
        drawn = Predictive(local_model, guide=amortized_guide(flow), num_samples=7, parallel=parallel)(x)
        assert drawn["z"].shape == (7, 4, 2)


def test_a_pair_is_a_likelihood_given_its_source():
    pair = perturb(PairedFlow(Flow(glow_step(2, MLPConditioner(1, 2)), shape=(2,)),
                              Flow(glow_step(2, MLPConditioner(1, 2, 2)), shape=(2,))))
    x_a, x_b = torch.randn(4, 2), torch.randn(4, 2)

    def model():
        with pyro.plate("pairs", 4):
            given = pair.to_distribution(x_a)
            pyro.sample("x_b", PyroFlow(given.flow, given.context), obs=x_b)

    trace = pyro.poutine.trace(model).get_trace()
    torch.testing.assert_close(trace.log_prob_sum(), pair.log_prob(x_b, x_a).sum())


def test_latent_contexts_of_several_particles_are_rows():
    """Score data under contexts ``(particles, 1, 2)``, flattened to rows; as they are, nets refuse them."""
    flow, theta, y = linear_flow(), torch.randn(3, 1, 2), torch.randn(5, 2)
    with pytest.raises(ValueError, match="expects a context tensor with 2 channels"):
        conditional_flow().to_distribution(theta).sample()

    def model():
        with pyro.plate("particles", 3, dim=-2):
            log_prob = PyroFlow(flow, theta.flatten(0, -2)).log_prob(y[:, None])  # (5, 3)
            pyro.factor("y", log_prob.sum(0)[:, None])

    site = pyro.poutine.trace(model).get_trace()
    site.compute_log_prob()
    want = td.Normal(theta @ A.T, NOISE).log_prob(y).sum((1, 2))
    torch.testing.assert_close(site.nodes["y"]["log_prob"][:, 0], want)
