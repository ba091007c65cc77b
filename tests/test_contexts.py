"""Contexts that teach nothing: standardization, and warnings where a flow cannot see its context."""

import warnings

import pytest
import torch
from torch import distributions, nn

from condflows import (
    ActNorm,
    AffineCoupling,
    Chain,
    Flow,
    Inverse,
    LUConv1x1,
    PairedFlow,
    Split,
    Standardize,
    freeze,
    glow_step,
    initialize,
    multiscale,
)
from condflows.conditioners import (
    CouplingConditioner,
    GatedConditioner,
    GlobalConditioner,
    MapConditioner,
    MLPConditioner,
)
from condflows.testing import check_bijector, perturb


def far(count=512):
    """Return a temperature in kelvin and a pressure in pascal, and one number that depends on both."""
    context = torch.stack([300 + 20 * torch.randn(count), 101325 + 500 * torch.randn(count)], 1)
    deviations = (context - torch.tensor([300.0, 101325.0])) / torch.tensor([20.0, 500.0])
    return deviations.sum(1, keepdim=True) + 0.1 * torch.randn(count, 1), context


@pytest.mark.parametrize("sizes", [(), (5,), (3, 2), (2, 3, 2)])
def test_standardized_data_has_mean_0_and_deviation_1(sizes):
    x = torch.tensor([300.0, -2.0]).view(1, 2, *(1 for _ in sizes)) + 20 * torch.randn(200, 2, *sizes)
    standardize = initialize(Standardize(2), x)
    values = standardize(x)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(values.std(1), torch.ones(2), rtol=1e-4, atol=0)
    check_bijector(standardize.double(), x[:2])
    check_bijector(Chain([standardize, LUConv1x1(2)]).double(), x[:2])
    assert set(standardize.state_dict()) == {"mean", "deviation"}
    assert not list(standardize.parameters())
    constant = initialize(Standardize(1), torch.full((5, 1), 7.0))
    assert (constant.mean.item(), constant.deviation.item()) == (7.0, 1.0)


def test_a_flow_learns_from_standardized_contexts_alone():
    y, context = far()

    def learned(net):
        flow = initialize(Flow(ActNorm(1, net), shape=(1,)), y, context)
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
        for _ in range(400):
            loss = -flow.log_prob(y, context).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return -float(loss)

    with pytest.warns(UserWarning, match="can learn little from a context far from order 1"):
        raw = learned(MLPConditioner(2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        standardized = learned(Standardize(2).before(MLPConditioner(2, 2)))
    assert standardized > 0.3  # the truth is 0.88 nats
    assert raw < -1


def test_the_net_behind_is_the_one_it_was():
    standardize = initialize(Standardize(3), 5 + 2 * torch.randn(100, 3))
    net = perturb(MLPConditioner(2, 4, context_features=3))
    wrapped = standardize.before(net)
    first, context = torch.randn(6, 2), 5 + 2 * torch.randn(6, 3)
    torch.testing.assert_close(wrapped(first, context), net(first, standardize(context)[0]))
    coupling, plain = AffineCoupling(4, wrapped), AffineCoupling(4, net)
    x = torch.randn(6, 4)
    for got, want in zip(coupling(x, context[:2]), plain(x, standardize(context[:2])[0]), strict=True):
        torch.testing.assert_close(got, want)  # a row for three inputs
    check_bijector(coupling, x[:2], context[:2])
    shared = Chain([ActNorm(4, standardize.before(MLPConditioner(3, 8))), coupling])
    assert shared(x, context)[0].shape == x.shape


@pytest.mark.parametrize(("build", "context", "message"), [
    (lambda: ActNorm(1, MLPConditioner(2, 2)), lambda: far(64)[1], r"channel 0: 2.*; context, channel 1: 9|1"),
    (lambda: ActNorm(1, MLPConditioner(1, 2)), lambda: 0.5 + 0.01 * torch.randn(64, 1), "context, channel 0: 0.4"),
    (lambda: AffineCoupling(2, MLPConditioner(1, 2, 1)), lambda: 1e4 * torch.randn(64, 1), "context, channel 0"),
])
def test_what_a_bounded_net_cannot_see_is_said(build, context, message):
    context, bijector = context(), build()
    with pytest.warns(UserWarning, match=message):
        initialize(bijector, torch.randn(64, bijector.num_channels), context)


def test_images_and_parts_of_a_context_are_named():
    class OfPose(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = MLPConditioner(1, 6)

        def forward(self, context):
            return self.net(context["pose"])

    context = {"pose": 300 + torch.randn(64, 1), "map": torch.rand(64, 1, 2, 2)}
    with pytest.warns(UserWarning, match=r"context\['pose'\], channel 0: 29.* of which 'conditioner.net' sees 2\.7"):
        initialize(ActNorm(3, OfPose()), torch.randn(64, 3), context)
    images = torch.rand(2, 1, 4, 4), torch.randint(0, 256, (2, 1, 4, 4)).float()
    images[1].flatten()[:2] = torch.tensor([0.0, 255.0])
    with pytest.warns(UserWarning, match="channel 1: 0 to 255"):
        initialize(ActNorm(3, GlobalConditioner(2, 6)), torch.randn(2, 3, 4, 4), torch.cat(images, 1))


@pytest.mark.parametrize("context", [
    torch.randn(64, 2), torch.rand(64, 2), torch.nn.functional.one_hot(torch.arange(64) % 2).float(),
    torch.nn.functional.one_hot(torch.zeros(64, dtype=torch.long), 2).float(), 5 + 2 * torch.randn(64, 2),
    torch.tensor([300.0, 20.0]).expand(3, 2)], ids=["normal", "uniform", "labels", "one label", "order 1", "constant"])
def test_contexts_of_order_1_get_no_warning(context):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initialize(Flow(ActNorm(3, MLPConditioner(2, 6)), shape=(3,)), torch.randn(len(context), 3), context)


def net(context=0):
    return MLPConditioner(1, 2, context)


UNREAD = {
    "frozen": lambda: freeze(Chain([ActNorm(2), LUConv1x1(2)])),
    "actnorm": lambda: ActNorm(2), "1x1": lambda: LUConv1x1(2), "step": lambda: glow_step(2, net()),
    "chain": lambda: Chain([glow_step(2, net()), Inverse(glow_step(2, net()))]),
    "split": lambda: Split(ActNorm(1), AffineCoupling(2, net())), "split without prior": lambda: Split(ActNorm(1)),
    "standardized": lambda: Chain([Standardize(2), AffineCoupling(2, Standardize(3).before(net()))]),
}
READ = {
    "actnorm": lambda: ActNorm(2, MLPConditioner(3, 4)), "1x1": lambda: LUConv1x1(2, MLPConditioner(3, 10)),
    "coupling": lambda: glow_step(2, net(3)), "inverse": lambda: Inverse(Chain([glow_step(2, net(3))])),
    "split": lambda: Split(ActNorm(1), AffineCoupling(2, net(3))),
    "standardized": lambda: AffineCoupling(2, Standardize(3).before(net(3))),
}


@pytest.mark.parametrize("call", ["log_prob", "sample", "transform_to_noise"])
@pytest.mark.parametrize("name", UNREAD)
def test_a_context_that_nothing_reads_gets_one_warning(name, call):
    flow, context = Flow(UNREAD[name](), shape=(2,)), torch.randn(4, 3)
    arguments = (3,) if call == "sample" else (torch.randn(4, 2),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(flow, call)(*arguments)
    with pytest.warns(UserWarning, match="a context was passed to a Flow in which nothing reads it"):
        getattr(flow, call)(*arguments, context)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(flow, call)(*arguments, context)


@pytest.mark.parametrize("name", READ)
def test_a_context_that_is_read_gets_none(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Flow(READ[name](), shape=(2,)).log_prob(torch.randn(4, 2), torch.randn(4, 3))
        base = Flow(ActNorm(2), shape=(2,), base=lambda context: distributions.Normal(context[:, :2], 1.0))
        base.log_prob(torch.randn(4, 2), torch.randn(4, 3))


@pytest.mark.parametrize("net", [CouplingConditioner, GatedConditioner])
def test_couplings_that_ignore_a_context_are_named_once(net):
    def step(c):
        return glow_step(c, net(c, 8), MapConditioner(3, 2 * c, 8))

    flow, x, context = Flow(step(2), shape=(2, 4, 4)), torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4)
    with pytest.warns(UserWarning, match=f"ignored by 1 {net.__name__}s with context_channels=0, at first by"):
        flow.log_prob(x, context)

    def source(c):
        return glow_step(c, CouplingConditioner(c, 8))

    def target(c):
        return glow_step(c, CouplingConditioner(c, 8), GlobalConditioner(c, 2 * c))

    with warnings.catch_warnings():  # a trace is meant for other operations of the same structure
        warnings.simplefilter("error")
        flow.log_prob(x, context)
        pair = PairedFlow(multiscale(1, (1,), source), multiscale(1, (1,), target))
        pair.log_prob(torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4))


def test_a_net_derived_from_one_of_the_library_is_looked_at_too():
    class OfBoth(MLPConditioner):
        def forward(self, first, context=None):
            return super().forward(torch.cat([first, context], 1))

    class OfImages(MapConditioner):
        def forward(self, first, context=None):
            return super().forward(context)

    x, context = torch.randn(64, 2), torch.randn(64, 1)
    images = torch.randn(8, 2, 4, 4), torch.randn(8, 1, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initialize(AffineCoupling(2, OfBoth(2, 2)), x, context)
        initialize(AffineCoupling(2, OfImages(1, 2, 8)), *images)
    with pytest.warns(UserWarning, match="context, channel 0"):
        initialize(AffineCoupling(2, OfImages(1, 2, 8)), images[0], 1e3 + images[1])
