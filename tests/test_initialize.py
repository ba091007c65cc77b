"""Section 4 of the paper: normalized activations, rotations, nets that start at zero output."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow as NFlow
from torch import nn

from condflows import ActNorm, Bijector, Chain, Flow, Inverse, LUConv1x1, PairedFlow, glow_step, initialize
from condflows.conditioners import CouplingConditioner, GlobalConditioner, MLPConditioner
from condflows.testing import perturb
from models.full_glow import full_glow


def outputs_of_actnorms(flow, inputs, context=None):
    """Return the outputs of each actnorm in one forward pass."""
    seen = {}
    hooks = [
        module.register_forward_hook(lambda module, args, result, name=name: seen.__setitem__(name, result[0]))
        for name, module in flow.named_modules() if isinstance(module, ActNorm)
    ]
    with torch.no_grad():
        getattr(flow, "log_prob", flow)(inputs, context)
    for hook in hooks:
        hook.remove()
    return seen


def assert_normalized(outputs, tolerance=1e-4):
    values = outputs.transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), rtol=0, atol=tolerance)
    torch.testing.assert_close(values.std(1), torch.ones(len(values)), rtol=0, atol=tolerance)


def test_every_actnorm_of_full_glow_is_normalized():
    flow = full_glow(3, (2, 2), 8, context_width=4)
    x_a, x_b = torch.rand(4, 3, 16, 16) ** 3, 0.1 * torch.rand(4, 3, 16, 16)
    assert initialize(flow, x_b, x_a) is flow
    seen = outputs_of_actnorms(flow, x_b, x_a)
    assert len(seen) == 2 * (4 + 1)
    for outputs in seen.values():
        assert_normalized(outputs)


def test_conditioners_that_do_not_start_at_zero_are_normalized_too():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(12, 6))

    step = Chain([ActNorm(3, Net()), LUConv1x1(3), ActNorm(3, perturb(GlobalConditioner(3, 6), 0.5))])
    x, context = 3 * torch.randn(50, 3, 2, 2) + 1, torch.randn(50, 3, 2, 2)
    initialize(step, x, context)
    for outputs in outputs_of_actnorms(step, x, context).values():
        assert_normalized(outputs)


@pytest.mark.parametrize("shape", [(40, 3), (2, 3), (5, 3, 8), (2, 3, 8, 8), (2, 3, 4, 4, 4), (1, 3, 8, 8)])
def test_any_number_of_dimensions(shape):
    actnorm = ActNorm(3)
    x = torch.randn(shape) * torch.tensor([1e-4, 1.0, 1e4]).reshape(1, 3, *(1 for _ in shape[2:])) + 7e-4
    initialize(actnorm, x)
    assert_normalized(actnorm(x)[0], 1e-3)


@pytest.mark.filterwarnings("error")
@settings(max_examples=30)
@given(st.floats(-1e4, 1e4), st.sampled_from([(1, 3), (2, 3), (4, 3), (1, 3, 2, 2), (3, 3, 2, 2)]))
def test_constant_channels_and_single_vectors_give_no_infinities(value, shape):
    actnorm = ActNorm(3)
    x = torch.randn(shape)
    x[:, 1] = value
    initialize(actnorm, x)
    outputs, logabsdet = actnorm(x)
    assert torch.isfinite(outputs).all()
    assert torch.isfinite(logabsdet).all()
    assert actnorm.log_scale[1] == 0
    assert outputs[:, 1].abs().max() <= 1e-6 * (1 + abs(value))
    assert torch.isfinite(actnorm(torch.randn(shape))[0]).all()


def test_a_label_map_with_flat_channels():
    """Initialize on channels that do not vary in the batch, at every level."""
    flow = full_glow(3, (1, 1), 8, context_width=4)
    x_a = torch.zeros(2, 3, 8, 8)
    x_a[:, 0, :4] = 0.5
    initialize(flow, torch.rand(2, 3, 8, 8), x_a)
    assert all(torch.isfinite(p).all() for p in flow.parameters())
    assert torch.isfinite(torch.cat(flow(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)))).all()


def test_nothing_else_changes():
    step = glow_step(4, CouplingConditioner(4, 8), conv=GlobalConditioner(2, 36))
    before = {name: value.clone() for name, value in step.state_dict().items()}
    x, context = 5 * torch.randn(8, 4, 4, 4), torch.randn(8, 2, 4, 4)
    initialize(step, x, context)
    changed = {name for name, value in step.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"bijectors.0.log_scale", "bijectors.0.shift", "bijectors.0.unit"}
    # The conditional 1x1 is the same rotation for every context, and the coupling passes on what it gets.
    y = step(x, context)[0]
    assert torch.equal(y, step(x, torch.randn(8, 2, 4, 4))[0])
    torch.testing.assert_close(y.square().sum(1), step.bijectors[0](x)[0].square().sum(1), rtol=1e-4, atol=1e-4)


def test_flows_of_every_kind():
    x, context = 3 * torch.randn(30, 2) + 1, torch.randn(30, 3)
    chain = Chain([ActNorm(2), ActNorm(2, MLPConditioner(3, 4))])
    for flow in (Flow(chain), NFlow(chain, StandardNormal([2])), chain):
        initialize(perturb(flow), x, context)
    paired = PairedFlow(ActNorm(2), ActNorm(2, MLPConditioner(2, 4)))
    initialize(paired, x, x + 1)
    for outputs in outputs_of_actnorms(paired, x, x + 1).values():
        assert_normalized(outputs)


def test_a_module_that_is_used_twice_is_set_once():
    actnorm = ActNorm(2)
    x = 3 * torch.randn(30, 2)
    initialize(Chain([actnorm, actnorm]), x)
    assert_normalized(actnorm(x)[0])


def test_batches_far_from_0_are_measured_to_the_last_digits():
    x = 1e4 + torch.randn(1000, 3)
    actnorm = initialize(ActNorm(3), x)
    deviation, mean = torch.std_mean(x.double(), 0)
    torch.testing.assert_close(actnorm.log_scale.detach(), -deviation.log().float(), rtol=0, atol=3e-7)
    want = (-actnorm.log_scale.double().exp() * mean).float()
    torch.testing.assert_close(actnorm.shift.detach(), want.detach(), rtol=3e-7, atol=0)


def test_float64_and_training_mode_are_kept():
    actnorm = ActNorm(2).double().eval()
    x = 1e6 + torch.randn(100, 2, dtype=torch.float64)
    initialize(actnorm, x)
    outputs = actnorm(x)[0]
    assert outputs.mean(0).abs().max() < 1e-8
    assert (outputs.std(0) - 1).abs().max() < 1e-9
    assert not actnorm.training
    assert actnorm.shift.requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_values_are_refused_and_change_nothing(bad):
    actnorm = ActNorm(2, MLPConditioner(3, 4))
    x, context = torch.randn(5, 2), torch.randn(5, 3)
    x[1, 0] = bad
    with pytest.raises(ValueError, match=r"expects finite inputs, got 1 NaN or infinite values.*\(5, 2\)"):
        initialize(actnorm, x, context)
    x, context[0, 0] = torch.randn(5, 2), bad
    with pytest.raises(ValueError, match="expects finite context"):
        initialize(actnorm, x, context)
    assert not actnorm.shift.any()


def test_an_actnorm_out_of_reach_is_reported():
    chain = Chain([ActNorm(2), Inverse(ActNorm(2))])
    with pytest.warns(UserWarning, match="1 actnorms are not called") as warned:
        initialize(chain, 3 * torch.randn(5, 2))
    assert warned[0].filename == __file__  # it points at the call
    assert chain.bijectors[0].log_scale.any()
    assert not chain.bijectors[1].bijector.log_scale.any()


def test_contexts_may_be_passed_by_name():
    class Own(Bijector):
        def __init__(self):
            super().__init__()
            self.actnorm = ActNorm(2, perturb(MLPConditioner(3, 4), 0.5))

        def forward(self, inputs, context=None):
            return self.actnorm(inputs, context=context)

    x, context = 3 * torch.randn(30, 2), torch.randn(30, 3)
    assert_normalized(initialize(Own(), x, context)(x, context)[0])


def test_no_hooks_are_left_behind():
    actnorm = ActNorm(2)
    initialize(actnorm, torch.randn(5, 2))
    with pytest.raises(ValueError, match="channels"):
        initialize(actnorm, torch.randn(5, 3))
    before = copy.deepcopy(actnorm.state_dict())
    actnorm(5 * torch.randn(5, 2))
    assert all(torch.equal(value, before[name]) for name, value in actnorm.state_dict().items())


def test_a_failure_in_the_middle_changes_nothing():
    chain = Chain([ActNorm(3), ActNorm(4)])
    with pytest.raises(ValueError, match="expects 4 channels"):
        initialize(chain, 5 * torch.randn(6, 3))
    assert not chain.bijectors[0].log_scale.any()


def test_what_it_does_not_take():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args):
            return self.module(*args)

    with pytest.raises(TypeError, match="expects a flow or a bijector, got Wrapper; initialize the flow before"):
        initialize(Wrapper(PairedFlow(ActNorm(2), ActNorm(2))), torch.randn(4, 2), torch.randn(4, 2))
    with pytest.raises(ValueError, match="at least one input"):
        initialize(ActNorm(2), torch.randn(0, 2))
    with pytest.raises(TypeError, match="initialize expects a tensor"):
        initialize(ActNorm(2), [1.0])
