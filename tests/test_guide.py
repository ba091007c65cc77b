"""Guidance: a flow whose conditioners go further from a context that says nothing."""

import math

import pytest
import torch
from torch import nn

from condflows import (
    ActNorm,
    AffineCoupling,
    Chain,
    Flow,
    LUConv1x1,
    PairedFlow,
    bfloat16_nets,
    by_level,
    glow_step,
    guide,
    multiscale,
)
from condflows.bijector import Bijector, zero_logabsdet
from condflows.conditioners import (
    CouplingConditioner,
    Embed,
    GlobalConditioner,
    MapConditioner,
    MLPConditioner,
    PyramidEncoder,
)
from condflows.testing import check_bijector, perturb

NOTHING = 255
LABELS = torch.randint(3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def pyramid_flow() -> Flow:
    """Build a small flow of images given labels, of which couplings, actnorms, matrices and priors read."""
    features = {12: 4, 24: 6}

    def step(c: int) -> Bijector:
        return glow_step(c, CouplingConditioner(c, 8, features[c], context_width=0),
                         MapConditioner(features[c], 2 * c, 4, kernel=1))

    def prior(c: int) -> Bijector:
        return AffineCoupling(c, CouplingConditioner(c, 8, features[c], context_width=0))

    torch.manual_seed(0)
    transform = multiscale(3, (1, 1), step, prior, lambda c: ActNorm(c, MapConditioner(features[c], 2 * c, 4)))
    return perturb(Flow(transform, embedding_net=PyramidEncoder(1, (4, 6), 3)), 0.05).double()


def test_weight_0_is_the_flow_and_weight_minus_1_that_without_a_condition():
    flow, x = pyramid_flow(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    empty = torch.full_like(LABELS, NOTHING)
    torch.testing.assert_close(guide(flow, 0.0, NOTHING).log_prob(x, LABELS), flow.log_prob(x, LABELS))
    torch.testing.assert_close(guide(flow, -1.0, NOTHING).log_prob(x, LABELS), flow.log_prob(x, empty))
    assert not torch.allclose(guide(flow, 1.0, NOTHING).log_prob(x, LABELS), flow.log_prob(x, LABELS))


@pytest.mark.parametrize("weight", [0.5, 2])
def test_a_conditioner_is_extrapolated(weight):
    net = perturb(MLPConditioner(3, 4), 0.3)
    flow = Flow(ActNorm(2, net), (2,))
    context, x = torch.randn(4, 3), torch.randn(4, 2)
    raw = net(context) + weight * (net(context) - net(torch.full((4, 3), 0.5)))
    expected = Flow(ActNorm(2, Constant(raw)), (2,)).log_prob(x, context)
    torch.testing.assert_close(guide(flow, weight, 0.5).log_prob(x, context), expected)


class Constant(nn.Module):
    """A conditioner that returns the same values."""

    def __init__(self, values: torch.Tensor):
        super().__init__()
        self.values = values

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return self.values


def test_it_is_a_flow_with_an_exact_density():
    guided = guide(pyramid_flow(), 1.5, NOTHING)
    context = tuple(guided._embedding_net(LABELS))
    check_bijector(guided.transform, torch.randn(2, 3, 8, 8, dtype=torch.float64), context)
    generator = torch.Generator().manual_seed(1)
    samples, log_prob = guided.sample_and_log_prob(3, LABELS, by_level((1.1, 0.8), (3, 8, 8)), generator)
    again = guided.log_prob(samples.flatten(0, 1), LABELS.repeat_interleave(3, 0)).view(2, 3)
    torch.testing.assert_close(log_prob, again)


def test_parameters_are_those_of_the_flow():
    flow = pyramid_flow()
    guided = guide(flow, 1.0, NOTHING)
    assert {id(p) for p in guided.parameters()} == {id(p) for p in flow.parameters()}
    assert {id(b) for b in guided.buffers()} == {id(b) for b in flow.buffers()}
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    before = flow.log_prob(x, LABELS)
    with torch.no_grad():
        next(flow.parameters()).add_(0.1)
    assert not torch.allclose(guide(flow, 0.0, NOTHING).log_prob(x, LABELS), before)
    torch.testing.assert_close(guided.log_prob(x, LABELS), guide(flow, 1.0, NOTHING).log_prob(x, LABELS))
    (-guided.log_prob(x, LABELS).mean()).backward()
    assert all(p.grad is not None for p in flow.parameters())


def test_the_encoder_is_called_once_for_each_context():
    flow, calls = pyramid_flow(), []
    flow._embedding_net.register_forward_hook(lambda *_: calls.append(1))
    guide(flow, 1.0, NOTHING).sample(5, LABELS)
    assert len(calls) == 2


def test_labels_images_and_nets_in_bfloat16():
    embed = Embed(4, 3)
    flow = perturb(Flow(Chain([ActNorm(4, embed.before(MLPConditioner(3, 8))), LUConv1x1(4)]), (4,)))
    labels = torch.tensor([0, 2])
    torch.testing.assert_close(guide(flow, -1, 3).log_prob(torch.ones(2, 4), labels),
                               flow.log_prob(torch.ones(2, 4), torch.tensor([3, 3])))
    images = perturb(Flow(Chain([LUConv1x1(4, GlobalConditioner(3, 36))]), (4, 8, 8)))
    assert guide(images, 1, 0).sample(3, torch.rand(2, 3, 8, 8)).shape == (2, 3, 4, 8, 8)
    rounded = bfloat16_nets(pyramid_flow().float())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(guide(rounded, 0, NOTHING).log_prob(x, LABELS), rounded.log_prob(x, LABELS))


class Reads(Bijector):
    """A bijector that reads its context itself."""

    def forward(self, inputs, context=None):
        return inputs + context, zero_logabsdet(inputs)

    def inverse(self, inputs, context=None):
        return inputs - context, zero_logabsdet(inputs)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: guide(PairedFlow(Flow(ActNorm(2), (2,)), Flow(ActNorm(2), (2,))), 1, 0), TypeError, "got PairedFlow"),
    (lambda: guide(Flow(ActNorm(2), (2,)), float("nan"), 0), ValueError, "finite weight, got nan"),
    (lambda: guide(pyramid_flow(), 1, math.nan), ValueError, "expects a finite value for nothing, got nan"),
    (lambda: guide(pyramid_flow(), 1, 0.5).sample(1, LABELS), ValueError, "a context that can hold 0.5, .*int64"),
    (lambda: guide(pyramid_flow(), 1, 300).sample(1, LABELS.byte()), ValueError, "that can hold 300, .*uint8"),
    (lambda: guide(pyramid_flow(), 1, 2).sample(1, LABELS.bool()), ValueError, "that can hold 2, .*bool"),
    (lambda: guide(Flow(Reads(), (2,)), 1, 0), ValueError, "got Reads, which reads it itself"),
    (lambda: guide(Flow(ActNorm(2), (2,), base=MLPConditioner(2, 2)), 1, 0), ValueError, "a base that reads no"),
])
def test_what_cannot_be_guided(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_no_context_and_no_conditioner():
    x = torch.randn(2, 3, 4, 4)
    flow = Flow(Chain([ActNorm(3), LUConv1x1(3)]), (3, 4, 4))
    torch.testing.assert_close(guide(flow, 1, 0).log_prob(x), flow.log_prob(x))
    coupling = Flow(AffineCoupling(3, CouplingConditioner(3, 4)), (3, 4, 4))
    torch.testing.assert_close(guide(coupling, 1, 0).log_prob(x), coupling.log_prob(x))
