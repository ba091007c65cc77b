"""Frozen flows: the same maps, nothing to train, nothing that could be out of date."""

import copy
import pickle

import pytest
import torch
from helpers import make_context
from registry import ENTRIES
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from condflows import ActNorm, Chain, Flow, LUConv1x1, PairedFlow, compile_steps, freeze, glow_step, initialize
from condflows.conditioners import MLPConditioner
from condflows.freeze import FoldedConv1x1
from condflows.testing import check_bijector, invertibility_report, perturb
from models.full_glow import full_glow

WITH_CONVOLUTIONS = [name for name, entry in ENTRIES.items()
                     if any(isinstance(module, LUConv1x1) for module in entry.build().modules())]


def flow(conditioner=True):
    nets = (MLPConditioner(3, 8), MLPConditioner(3, 36)) if conditioner else ()
    return perturb(Flow(Chain([glow_step(4, MLPConditioner(2, 4), *nets) for _ in range(2)]), shape=(4,)))


@pytest.mark.parametrize("name", WITH_CONVOLUTIONS)
def test_a_frozen_bijector_is_the_same_map(name):
    entry = ENTRIES[name]
    bijector = perturb(entry.build(), 0.3).double()
    frozen = freeze(bijector)
    inputs = torch.randn(3, entry.channels, *entry.sizes, dtype=torch.float64).requires_grad_()
    context = make_context(entry, inputs, 1)
    for run in (lambda b: b, lambda b: b.inverse):
        for got, want in zip(run(frozen)(inputs, context), run(bijector)(inputs, context), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
        outputs, logabsdet = run(frozen)(inputs, context)
        wanted, logabsdet_wanted = run(bijector)(inputs, context)
        weights = torch.randn_like(outputs)
        gradients = [torch.autograd.grad((weights * y).sum() + d.sum(), inputs)[0]
                     for y, d in ((outputs, logabsdet), (wanted, logabsdet_wanted))]
        torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)
    inside = any(isinstance(module, LUConv1x1) for module in frozen.modules())
    assert not inside or name.startswith("2d: Full-Glow, ")  # whose pair is the test's own module


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8, 9, 17])
def test_the_finite_product_is_the_inverse_at_every_size(channels):
    convolution = LUConv1x1(channels, MLPConditioner(3, 2 * channels**2 + channels)).double()
    check_bijector(freeze(perturb(convolution, 0.5)), torch.randn(2, channels, 3), torch.randn(2, 3))


def test_densities_and_samples_are_those_of_the_flow():
    trained, context = flow(), torch.randn(5, 3)
    frozen = freeze(trained)
    samples, log_prob = frozen.sample_and_log_prob(7, context, 0.7, torch.Generator().manual_seed(0))
    wanted, log_prob_wanted = trained.sample_and_log_prob(7, context, 0.7, torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_prob, log_prob_wanted, rtol=1e-4, atol=1e-4)
    pair = perturb(full_glow(3, (1, 1), 6, context_width=4, grid=2), 0.1)
    frozen = freeze(pair)
    x_a, x_b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    together = [module.log_probs(x_a=x_a, x_b=x_b) for module in (frozen, pair)]
    torch.testing.assert_close(*together, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(frozen.transfer(x_b, x_a, x_b), pair.transfer(x_b, x_a, x_b), rtol=1e-3, atol=1e-3)
    assert isinstance(frozen, PairedFlow)


def test_a_frozen_flow_refuses_to_be_trained():
    trained = flow()
    before = copy.deepcopy(trained.state_dict())
    frozen = freeze(trained)
    assert not frozen.training
    for act in (frozen.train, frozen.requires_grad_):
        with pytest.raises(RuntimeError, match="cannot be trained; train the flow that it was frozen from"):
            act()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert frozen.eval() is frozen
    with pytest.raises(RuntimeError, match="does not require grad"):
        frozen.log_prob(torch.randn(2, 4), torch.randn(2, 3)).mean().backward()
    assert trained.training
    assert all(parameter.requires_grad for parameter in trained.parameters())
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_nothing_that_is_frozen_can_be_out_of_date():
    trained, x, context = flow(), torch.randn(5, 4), torch.randn(5, 3)
    frozen = freeze(trained)
    old = frozen.log_prob(x, context)
    other = perturb(trained, 0.3)
    with pytest.raises(RuntimeError, match="takes the state dict of a frozen flow"):
        frozen.load_state_dict(other.state_dict())
    torch.testing.assert_close(frozen.log_prob(x, context), old)
    assert not any(module._buffers.keys() & {"permutation", "sign"} for module in frozen.modules())
    frozen.load_state_dict(freeze(other).state_dict())
    torch.testing.assert_close(frozen.log_prob(x, context), other.log_prob(x, context), rtol=1e-4, atol=1e-4)
    trained.load_state_dict(other.state_dict())
    torch.testing.assert_close(freeze(trained).log_prob(x, context), other.log_prob(x, context), rtol=1e-4, atol=1e-4)


def test_frozen_flows_are_copied_pickled_moved_and_frozen_again():
    frozen, x, context = freeze(flow()), torch.randn(5, 4), torch.randn(5, 3)
    want = frozen.log_prob(x, context)
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen)), freeze(frozen)):
        assert torch.equal(other.log_prob(x, context), want)
        with pytest.raises(RuntimeError, match="cannot be trained"):
            other.train()
    double = freeze(flow(False).double())
    check_bijector(double.transform, x[:2].double())
    assert invertibility_report(frozen, x, context)[0].error < 1e-4


def test_convolutions_that_are_more_than_their_class_are_left_as_they_are():
    class Doubled(LUConv1x1):
        def inverse(self, inputs, context=None):
            outputs, logabsdet = super().inverse(inputs, context)
            return 2 * outputs, logabsdet

    hooked, calls = LUConv1x1(4), []
    hooked.register_forward_hook(lambda *call: calls.append(call))
    replaced, weighted = LUConv1x1(4), weight_norm(LUConv1x1(4), "upper")
    replaced.inverse = lambda inputs, context=None: (inputs, inputs.new_zeros(len(inputs)))
    shared = LUConv1x1(4)
    chain = Chain([Doubled(4), hooked, replaced, weighted, shared, ActNorm(4), shared])
    frozen = freeze(chain)
    kinds = [isinstance(part, FoldedConv1x1) for part in frozen.parts]
    assert kinds == [False, False, False, False, True, False, True]
    assert frozen.parts[4] is frozen.parts[6]
    x = torch.randn(3, 4)
    for got, want in zip((*frozen(x), *frozen.inverse(x)), (*chain(x), *chain.inverse(x)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert len(calls) == 2


def test_compiled_steps_and_wrong_objects():
    x = torch.randn(3, 4)
    trained = compile_steps(flow(False), backend="eager")
    torch.testing.assert_close(freeze(trained).log_prob(x), trained.log_prob(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError, match="freeze expects a flow or a bijector, got int"):
        freeze(3)
    assert isinstance(freeze(LUConv1x1(3)), FoldedConv1x1)
    assert isinstance(initialize(freeze(flow(False)), x), nn.Module)  # sets actnorms, which stay as they are
