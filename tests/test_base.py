"""Base distributions: densities, samples, gradients and temperatures against what torch and the maths give."""

import copy
import pickle

import nflows.distributions as nd
import pytest
import torch
import torch.distributions as td
from torch import nn

from condflows import ActNorm, AffineCoupling, Chain, Flow, LUConv1x1, PairedFlow, glow_step
from condflows.conditioners import MLPConditioner
from condflows.testing import perturb


class Mixture(nn.Module):
    """A mixture of two normals in the plane, which a context of three features decides."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2 + 4)

    def forward(self, context):
        context = context["pose"] if isinstance(context, dict) else context
        weights, means = self.net(context).split([2, 4], 1)
        normals = td.Independent(td.Normal(means.unflatten(1, (2, 2)), 0.7), 1)
        return td.MixtureSameFamily(td.Categorical(logits=weights), normals)


class Tails(nn.Module):
    """Student's distribution of each feature, with the location of a context."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, context):
        return td.StudentT(5.0, self.net(context), 0.5)


def fixed(make):
    """Return a builder of a base and of the same distribution for each row of a context."""
    return lambda: (make(), lambda context: made(make(), len(context)))


def made(distribution, rows):
    batch = (rows, 2)[:2 - len(distribution.event_shape)]
    distribution = distribution.expand(batch)
    return td.Independent(distribution, 1) if len(batch) == 2 else distribution


def conditional(kind):
    def build():
        module = kind().double()
        return module, lambda context: made(module(context), len(context))
    return build


def nflows_conditional():
    net = nn.Linear(3, 4).double()

    def same(context):
        mean, log_std = net(context).chunk(2, 1)
        return td.Independent(td.Normal(mean, log_std.exp()), 1)
    return nd.ConditionalDiagonalNormal((2,), net), same


def nflows_diagonal():
    base = nd.DiagonalNormal((2,)).double()
    with torch.no_grad():
        base.mean_.add_(0.5)
        base.log_std_.sub_(0.3)
    return base, lambda context: made(td.Independent(td.Normal(base.mean_[0], base.log_std_[0].exp()), 1), len(context))


COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
BASES = {
    "none": lambda: (None, lambda context: made(td.Normal(torch.zeros(2, dtype=torch.float64), 1.0), len(context))),
    "of one number": fixed(lambda: td.StudentT(torch.tensor(4.0, dtype=torch.float64))),
    "of each feature": fixed(lambda: td.Laplace(torch.tensor([1.0, -1.0], dtype=torch.float64), 0.5)),
    "of a vector": fixed(lambda: td.MultivariateNormal(torch.ones(2, dtype=torch.float64), COVARIANCE)),
    "of independent features": fixed(
        lambda: td.Independent(td.Normal(torch.ones(2, dtype=torch.float64), 2.0), 1)),
    "transformed": fixed(lambda: td.TransformedDistribution(
        td.Normal(torch.zeros(2, dtype=torch.float64), 1.0), [td.AffineTransform(1.0, 2.0)])),
    "a conditional mixture": conditional(Mixture),
    "conditional tails": conditional(Tails),
    "nflows' standard normal": lambda: (
        nd.StandardNormal((2,)), BASES["none"]()[1]),
    "nflows' conditional normal": nflows_conditional,
    "nflows' learned normal": nflows_diagonal,
}
SAMPLED = [name for name in BASES if name != "nflows' learned normal"]


@pytest.fixture
def transform():
    return perturb(Chain([ActNorm(2, MLPConditioner(3, 4, hidden=(8,))), LUConv1x1(2)])).double()


@pytest.fixture
def context():
    return torch.randn(4, 3, dtype=torch.float64)


@pytest.mark.parametrize("name", BASES)
def test_densities_are_those_of_the_base_and_the_jacobian(name, transform, context):
    base, same = BASES[name]()
    flow = Flow(transform, shape=(2,), base=base)
    x = torch.randn(4, 2, dtype=torch.float64)
    noise, logabsdet = transform(x, context)
    want = same(context).log_prob(noise) + logabsdet
    torch.testing.assert_close(flow.log_prob(x, context), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["of a vector", "a conditional mixture", "nflows' conditional normal"])
def test_densities_integrate_to_one(name, transform, context):
    flow = Flow(transform, shape=(2,), base=BASES[name]()[0])
    edge = torch.linspace(-25, 25, 600, dtype=torch.float64)
    grid = torch.cartesian_prod(edge, edge)
    for row in context[:2]:
        density = flow.log_prob(grid, row.expand(len(grid), 3)).exp().sum() * (edge[1] - edge[0]) ** 2
        assert abs(density - 1) < 1e-3


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_have_the_distribution_and_the_density_of_the_flow(name, transform, context):
    base, same = BASES[name]()
    flow = Flow(transform, shape=(2,), base=base)
    samples, log_prob = flow.sample_and_log_prob(3000, context, batch_size=1700)
    assert samples.shape == (4, 3000, 2)
    assert log_prob.shape == (4, 3000)
    rows = context.repeat_interleave(3000, 0)
    torch.testing.assert_close(flow.log_prob(samples.flatten(0, 1), rows), log_prob.flatten(), rtol=1e-6, atol=1e-6)
    noise = transform(samples.flatten(0, 1), rows)[0].unflatten(0, (4, 3000))
    want = same(context).sample((3000,)).transpose(0, 1)
    for quantile in (0.1, 0.5, 0.9):
        for got, other in ((noise, want), (noise.sum(-1, True), want.sum(-1, True))):
            below = (got < other.quantile(quantile, 1, keepdim=True)).double().mean(1)
            torch.testing.assert_close(below, torch.full_like(below, quantile), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["of a vector", "conditional tails", "nflows' conditional normal"])
def test_samples_have_gradients(name, transform, context):
    base = BASES[name]()[0]
    flow = Flow(transform, shape=(2,), base=base)
    context.requires_grad_()

    def total(context):
        return flow.sample(3, context, generator=torch.Generator().manual_seed(0)).square().sum()

    (gradient,) = torch.autograd.grad(total(context), context)
    step = 1e-6 * torch.randn_like(context)
    with torch.no_grad():
        change = total(context + step) - total(context - step)
    torch.testing.assert_close(2 * (gradient * step).sum(), change, rtol=1e-4, atol=1e-10)
    if isinstance(base, nn.Module):
        flow.sample(3, context).sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in base.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", ["none", "of one number", "of a vector", "of independent features",
                                  "conditional tails", "nflows' standard normal", "nflows' conditional normal"])
def test_the_temperature_scales_what_a_base_has_around_its_location(name, transform, context):
    flow = Flow(transform, shape=(2,), base=BASES[name]()[0])

    def noise(temperature):
        samples = flow.sample(5, context, temperature, generator=torch.Generator().manual_seed(0))
        return transform(samples.flatten(0, 1), context.repeat_interleave(5, 0))[0].unflatten(0, (4, 5))

    location = noise(0)
    torch.testing.assert_close(location, location[:, :1].expand_as(location))
    torch.testing.assert_close(noise(0.5) - location, 0.5 * (noise(1) - location))
    torch.testing.assert_close(noise(torch.tensor(0.5, dtype=torch.float64)), noise(0.5))
    assert (noise(1) - location).abs().mean() > 0.1


@pytest.mark.parametrize("name", ["transformed", "a conditional mixture"])
def test_a_base_without_a_deviation_has_no_temperature(name, transform, context):
    flow = Flow(transform, shape=(2,), base=BASES[name]()[0])
    flow.sample(2, context, temperature=1)
    with pytest.raises(ValueError, match=r"expects temperature=1, got 0\.5: its base \w+ has no standard deviation"):
        flow.sample(2, context, temperature=0.5)


def test_a_base_of_nflows_that_cannot_be_sampled_says_so(transform, context):
    with pytest.raises(NotImplementedError, match=r"DiagonalNormal of nflows cannot be sampled.*condflows\.ActNorm"):
        Flow(transform, shape=(2,), base=nd.DiagonalNormal((2,))).sample(1, context)


def test_noise_outside_of_the_base_has_no_density_and_leaves_the_others_alone():
    flow = Flow(ActNorm(2), shape=(2,), base=td.Beta(2.0, 3.0))
    x = torch.tensor([[0.5, 0.7], [0.5, 1.5], [0.2, 0.1]], requires_grad=True)
    log_prob = flow.log_prob(x)
    torch.testing.assert_close(log_prob[[0, 2]], td.Beta(2.0, 3.0).log_prob(x[[0, 2]]).sum(1))
    assert log_prob[1] == -torch.inf
    log_prob[[0, 2]].sum().backward()
    assert x.grad.isfinite().all()
    assert flow.transform.shift.grad.isfinite().all()
    samples = flow.sample(100)
    assert ((samples >= 0) & (samples <= 1)).all()


@pytest.mark.parametrize("name", ["of a vector", "nflows' conditional normal"])
def test_a_generator_makes_samples_reproducible_and_leaves_torchs_own_alone(name, transform, context):
    flow = Flow(transform, shape=(2,), base=BASES[name]()[0])
    state = torch.get_rng_state()
    draws = [flow.sample(2, context, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make", [
    lambda: td.StudentT(4.0), lambda: td.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    lambda: td.TransformedDistribution(td.Normal(torch.zeros(2), torch.ones(2)), [td.TanhTransform()]),
    lambda: td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.zeros(2, 2), 1.0), 1))])
def test_a_fixed_distribution_follows_the_flow(make):
    flow = Flow(LUConv1x1(2), shape=(2,), base=make())
    x = 0.1 * torch.randn(3, 2)
    before = flow.log_prob(x)
    moved = copy.deepcopy(flow).double()
    torch.testing.assert_close(moved.log_prob(x.double()), before.double(), rtol=1e-4, atol=1e-4)
    assert moved.sample(2).dtype == torch.float64
    assert flow.sample(2).dtype == torch.float32  # and not another flow with it
    assert torch.equal(pickle.loads(pickle.dumps(flow)).log_prob(x), before)


@pytest.mark.parametrize("inverse", [td.SigmoidTransform().inv, td.ComposeTransform([td.SigmoidTransform().inv])])
def test_a_base_may_invert_a_transform(inverse):
    """Compare with the logistic distribution; a transform and its inverse hold each other."""
    flow = Flow(LUConv1x1(2), shape=(2,), base=td.TransformedDistribution(td.Uniform(0.0, 1.0), inverse)).double()
    samples, log_prob = flow.sample_and_log_prob(5)
    noise, logabsdet = flow.transform(samples)
    want = (-noise - 2 * nn.functional.softplus(-noise)).sum(1) + logabsdet
    torch.testing.assert_close(log_prob, want)
    torch.testing.assert_close(flow.log_prob(samples), want)


def test_a_base_of_a_flow_is_found_and_gives_the_shape():
    base = td.MultivariateNormal(torch.zeros(2), torch.eye(2))
    flow = Flow(LUConv1x1(2), base=base)
    assert flow.base is base
    assert flow.shape == (2,)
    assert Flow(LUConv1x1(2), base=nd.StandardNormal((2,))).shape == (2,)
    assert Flow(LUConv1x1(2)).base is None
    assert Flow(LUConv1x1(2), base=td.Normal(0.0, 1.0)).shape is None
    learned = Flow(LUConv1x1(2), base=Mixture())
    assert {name for name, _ in learned.named_parameters() if "net" in name} == {
        "_distribution.given.net.weight", "_distribution.given.net.bias"}


def test_images_and_structured_contexts_have_bases_too(context):
    flow = Flow(LUConv1x1(3), shape=(3, None, None), base=td.Laplace(torch.zeros(3, 1, 1), 1.0))
    assert flow.log_prob(flow.sample(2, size=(4, 6))).shape == (2,)
    flow = Flow(LUConv1x1(2), shape=(2,), base=Mixture())
    samples, log_prob = flow.sample_and_log_prob(5, {"pose": context.float()})
    rows = {"pose": context.float().repeat_interleave(5, 0)}
    torch.testing.assert_close(flow.log_prob(samples.flatten(0, 1), rows), log_prob.flatten())
    flow = Flow(LUConv1x1(2), shape=(2,), base=nd.StandardNormal((2,)))
    assert flow.log_prob(torch.randn(4, 2), {"pose": context}).shape == (4,)


def test_the_base_of_a_pair_reads_the_trace():
    class OfTrace(nn.Module):
        def forward(self, trace):
            return td.Normal(trace[0], 0.5)

    def step(context=0):
        return glow_step(2, MLPConditioner(1, 2, context))

    pair = PairedFlow(Flow(step(), shape=(2,)), Flow(step(2), shape=(2,), base=OfTrace()))
    plain = PairedFlow(pair.source, Flow(pair.target.transform, shape=(2,)))
    x_a, x_b = torch.randn(5, 2), torch.randn(5, 2)
    with torch.no_grad():
        noise = plain.transform_to_noise(x_b, x_a)
        actnorm = pair.source.transform.forward_with_trace(x_a)[2][0]
        change = td.Normal(actnorm, 0.5).log_prob(noise).sum(1) - td.Normal(0.0, 1.0).log_prob(noise).sum(1)
        torch.testing.assert_close(pair.log_probs(x_a=x_a, x_b=x_b)[1], plain.log_probs(x_a=x_a, x_b=x_b)[1] + change)
        torch.testing.assert_close(pair.log_prob(x_b, x_a), pair.log_probs(x_a=x_a, x_b=x_b)[1])
        samples, log_prob = pair.sample_and_log_prob(3, x_a)
        torch.testing.assert_close(pair.log_prob(samples[:, 1], x_a), log_prob[:, 1])


def test_a_lazy_distribution_of_zuko_is_a_base(context):
    zuko = pytest.importorskip("zuko")
    base = zuko.flows.NSF(2, context=3, transforms=1, hidden_features=(8,))
    flow = Flow(AffineCoupling(2, MLPConditioner(1, 2, 3)), shape=(2,), base=base)
    samples, log_prob = flow.sample_and_log_prob(3, context.float())
    torch.testing.assert_close(flow.log_prob(samples[:, 0], context.float()), log_prob[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("base", "message"), [
    (3, "expects as base a distribution of nflows or torch.distributions, or a callable"),
    (lambda context: 3, "expects of its base a torch.distributions.Distribution for a context, got int"),
    (td.Poisson(1.0), "expects a continuous distribution as base, got Poisson"),
    (td.MultivariateNormal(torch.zeros(3), torch.eye(3)), r"over inputs of shape \(2,\).*event shape \(3,\)"),
    (td.Normal(torch.zeros(5), 1.0), r"over inputs of shape \(2,\).*batch shape \(5,\)"),
    (lambda context: td.Normal(torch.zeros(7, 2), 1.0), r"1 of them for this .* batch shape \(7, 2\)"),
    (td.Normal(nn.Parameter(torch.zeros(2)), 1.0), "Normal with parameters to train.*pass a module"),
    (nd.StandardNormal((3,)), "samples of shape"),
])
def test_other_bases_are_refused(base, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Flow(LUConv1x1(2), shape=(2,), base=base).sample(3)
