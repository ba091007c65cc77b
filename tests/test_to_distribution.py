"""Flows at fixed conditions as distributions of torch: shapes, densities, gradients, and use in torch and Pyro."""

import copy

import pytest
import torch
import torch.distributions as td

from condflows import ActNorm, Chain, Flow, FlowDistribution, Logit, LUConv1x1, PairedFlow, glow_step, multiscale
from condflows.conditioners import CouplingConditioner, MLPConditioner
from condflows.testing import perturb


def step(context=0):
    return glow_step(2, MLPConditioner(1, 2, context, hidden=(8,)), MLPConditioner(context, 4) if context else None)


@pytest.fixture
def flow():
    return perturb(Flow(Chain([step(3), step(3)]), shape=(2,))).double()


@pytest.fixture
def context():
    return torch.randn(4, 3, dtype=torch.float64)


@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 3)])
def test_samples_and_densities_are_those_of_the_flow(flow, context, sample_shape):
    given = flow.to_distribution(context)
    assert isinstance(given, td.Distribution)
    assert (given.batch_shape, given.event_shape, given.has_rsample) == ((4,), (2,), True)
    values = given.rsample(sample_shape)
    assert values.shape == (*sample_shape, 4, 2)
    log_prob = given.log_prob(values)
    assert log_prob.shape == (*sample_shape, 4)
    for i in range(4):
        mine = values[..., i, :].reshape(-1, 2)
        want = flow.log_prob(mine, context[i].expand(len(mine), 3))
        torch.testing.assert_close(log_prob[..., i].reshape(-1), want)


@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 3)])
def test_without_a_context(sample_shape):
    flow = perturb(Flow(Chain([step(), step()]), shape=(2,)))
    given = flow.to_distribution()
    values = given.sample(sample_shape)
    assert values.shape == (*sample_shape, 2)
    assert not values.requires_grad
    torch.testing.assert_close(given.log_prob(values).reshape(-1), flow.log_prob(values.reshape(-1, 2)))
    assert given.log_prob(torch.zeros(7, 1, 2)).shape == (7, 1)


def test_samples_follow_their_conditions(flow, context):
    samples = flow.to_distribution(context).sample((4000,))
    for i in range(4):
        want = flow.sample(4000, context[i : i + 1])[0]
        torch.testing.assert_close(samples[:, i].mean(0), want.mean(0), rtol=0, atol=0.15)


def test_values_broadcast_to_the_batch(flow, context):
    given, value = flow.to_distribution(context), torch.randn(2, dtype=torch.float64)
    torch.testing.assert_close(given.log_prob(value), flow.log_prob(value.expand(4, 2), context))
    values = torch.randn(6, 1, 2, dtype=torch.float64)
    torch.testing.assert_close(given.log_prob(values), given.log_prob(values.expand(6, 4, 2)))


@pytest.mark.parametrize(("rows", "batch"), [(4, (4,)), (4, (5, 4)), (1, (1,)), (1, (6,)), (1, (2, 3)), (None, (3,)),
                                             (None, (2, 3))])
def test_a_batch_can_be_expanded(flow, context, rows, batch):
    if rows is None:
        flow = perturb(Flow(step(), shape=(2,))).double()
    given = flow.to_distribution(None if rows is None else context[:rows])
    expanded = given.expand(batch)
    assert type(expanded) is FlowDistribution
    assert expanded.batch_shape == batch
    values = expanded.rsample((7,))
    assert values.shape == (7, *batch, 2)
    torch.testing.assert_close(expanded.log_prob(values), given.log_prob(values))
    assert (values.flatten(0, -2).std(0) > 0.1).all()  # each a draw of its own
    assert given.batch_shape == (() if rows is None else (rows,))


def test_a_batch_expands_to_what_it_broadcasts_to_alone(flow, context):
    with pytest.raises(RuntimeError, match=r"[Ss]hape|broadcast|expand"):
        flow.to_distribution(context).expand((5,))


def test_gradients_pass_through_samples(flow, context):
    context.requires_grad_()

    def total(context):
        torch.manual_seed(0)
        return flow.to_distribution(context).rsample((3,)).square().sum()

    (gradient,) = torch.autograd.grad(total(context), context)
    move = 1e-6 * torch.randn_like(context)
    with torch.no_grad():
        change = total(context + move) - total(context - move)
    torch.testing.assert_close(2 * (gradient * move).sum(), change, rtol=1e-4, atol=1e-12)
    assert not flow.to_distribution(context).sample().requires_grad


def test_a_base_without_gradients_has_none():
    flow = Flow(LUConv1x1(2), shape=(2,), base=td.MixtureSameFamily(
        td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.zeros(2, 2), 1.0), 1)))
    given = flow.to_distribution()
    assert not given.has_rsample
    assert given.sample((3,)).shape == (3, 2)
    with pytest.raises(NotImplementedError, match="no rsample; use sample"):
        given.rsample()


def test_the_support_is_that_of_a_logit(context):
    flow = Flow(Chain([Logit([0.0, -1.0], [1.0, 1.0]), Chain([step(3)])]), shape=(2,))
    given = flow.to_distribution(context.float())
    inside = torch.tensor([[0.5, -0.5], [0.5, 2.0], [0.1, 0.9], [-0.1, 0.0]])
    assert given.support.check(inside).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="within the support"):  # set, as other libraries turn torch's default off
        FlowDistribution(flow, context.float(), validate_args=True).log_prob(inside)
    trusting = FlowDistribution(flow, context.float(), validate_args=False)
    assert trusting.log_prob(inside).isfinite().tolist() == [True, False, True, False]
    assert td.constraints.real is Flow(step(), shape=(2,)).to_distribution().support.base_constraint


def test_images_of_an_open_size():
    flow = Flow(multiscale(3, (1,), lambda c: glow_step(c, CouplingConditioner(c, 8, 1))))
    given = flow.to_distribution(torch.rand(2, 1, 4, 6))
    assert given.event_shape == (3, 4, 6)
    assert given.log_prob(given.rsample((3,))).shape == (3, 2)
    assert flow.to_distribution(torch.rand(2, 1, 4, 6), size=(8, 8)).event_shape == (3, 8, 8)
    assert given.support.check(torch.zeros(2, 3, 4, 6)).shape == (2,)


def test_a_pair_reads_its_source_once():
    pair = perturb(PairedFlow(Flow(step(), shape=(2,)), Flow(step(2), shape=(2,))))
    x_a = torch.randn(5, 2, requires_grad=True)
    calls = []
    pair.source.transform.register_forward_hook(lambda *call: calls.append(1))
    given = pair.to_distribution(x_a)
    values = given.rsample((3,))
    log_prob = given.log_prob(values)
    assert len(calls) == 1
    torch.testing.assert_close(log_prob[1], pair.log_prob(values[1], x_a))
    log_prob.sum().backward()
    assert x_a.grad.abs().sum() > 0
    images = PairedFlow(multiscale(1, (1,), lambda c: glow_step(c, CouplingConditioner(c, 8))),
                        multiscale(3, (1,), lambda c: glow_step(c, CouplingConditioner(c, 8, c // 3 + 2))))
    given = images.to_distribution((torch.rand(2, 1, 4, 4), torch.randn(2, 2)), size=(4, 4))
    assert given.log_prob(given.sample((3,))).shape == (3, 2)


def test_divergences_of_torch_dispatch_on_it(flow, context):
    given = flow.to_distribution(context)

    @td.register_kl(FlowDistribution, td.Distribution)
    def by_samples(p, q):
        samples = p.rsample((20_000,))
        return (p.log_prob(samples) - q.log_prob(samples)).mean(0)

    actnorm = perturb(ActNorm(2, MLPConditioner(3, 4)), 0.3).double()
    normal = Flow(actnorm, shape=(2,)).to_distribution(context)
    mean = actnorm.inverse(torch.zeros(4, 2, dtype=torch.float64), context)[0]
    deviation = actnorm.inverse(torch.ones(4, 2, dtype=torch.float64), context)[0] - mean
    standard = td.Independent(td.Normal(torch.zeros(4, 2, dtype=torch.float64), 1.0), 1)
    want = td.kl_divergence(td.Independent(td.Normal(mean, deviation), 1), standard)
    torch.testing.assert_close(td.kl_divergence(normal, standard), want, rtol=0.05, atol=0.03)
    assert (td.kl_divergence(given, normal) > 0).all()
    assert td.Independent(given, 1).log_prob(given.sample()).shape == ()
    assert copy.deepcopy(flow).to_distribution(context).batch_shape == (4,)


def test_pyro_fits_a_guide_and_scores_observations(context):
    pyro = pytest.importorskip("pyro", reason="pyro-ppl is not installed")
    from pyro.contrib.zuko import ZukoToPyro

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide_flow = Flow(Chain([step(), step()]), shape=(2,))
    target = td.MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.7], [0.7, 1.5]]))

    def model():
        pyro.sample("z", ZukoToPyro(target))

    def guide():
        pyro.module("guide", guide_flow)
        pyro.sample("z", ZukoToPyro(guide_flow.to_distribution()))

    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}),
                         pyro.infer.Trace_ELBO(num_particles=64, vectorize_particles=True))
    losses = [svi.step() for _ in range(400)]
    assert sum(losses[-20:]) / 20 < 0.03 < losses[0]  # the divergence, which is 0 at best
    torch.testing.assert_close(guide_flow.to_distribution().sample((4000,)).mean(0), target.mean, rtol=0, atol=0.15)

    flow = Flow(step(3), shape=(2,))

    def conditional():
        with pyro.plate("data", 4):
            return pyro.sample("y", ZukoToPyro(flow.to_distribution(context.float())))

    trace = pyro.poutine.trace(conditional).get_trace()
    trace.compute_log_prob()
    y = trace.nodes["y"]
    assert y["value"].shape == (4, 2)
    torch.testing.assert_close(y["log_prob"], flow.log_prob(y["value"], context.float()))
