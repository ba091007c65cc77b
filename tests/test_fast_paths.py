"""The laws hold, and results do not change, on the paths that exist for speed or memory alone.

Checkpointed steps are entries of the registry; bfloat16 is in test_laws.py and test_precision.py.
"""

import pytest
import torch
from registry import ENTRIES
from test_laws import make_context

from condflows import AffineCoupling, conditioners, glow_step
from condflows.conditioners import CouplingConditioner, MapConditioner
from condflows.testing import check_bijector, perturb
from condflows.trace import map_context

PARTS = 16  # more values than this in a hidden layer go through a net in parts


def gradients(call, inputs, net):
    inputs = inputs.clone().requires_grad_()
    outputs = call(inputs)
    return outputs, torch.autograd.grad(outputs.sin().sum(), [inputs, *net.parameters()])


# --- convolutions in parts ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "shape", [(3, 4, 5, 3), (1, 4, 70, 2), (2, 4, 33, 3), (2, 4, 100), (1, 4, 40, 2, 3), (0, 4, 40, 2)], ids=str)
def test_parts_give_what_the_whole_gives(shape, monkeypatch):
    torch.manual_seed(0)
    net = perturb(MapConditioner(4, 6, width=8, spatial_dims=len(shape) - 2)).double()
    inputs = torch.randn(shape, dtype=torch.float64)
    calls = []
    net.net[0].register_forward_hook(lambda _, args, output: calls.append(args[0].shape))
    whole, whole_gradients = gradients(net, inputs, net)
    assert calls == [inputs.shape]
    monkeypatch.setattr(conditioners, "LARGE", PARTS)
    parts, parts_gradients = gradients(net, inputs, net)
    assert len(calls) == 1 + (shape[0] * -(-shape[2] // 32) or 1)
    assert all(batch == 0 or (batch == 1 and rows <= 36) for batch, _, rows, *_ in calls[1:])
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts_gradients, whole_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("size", [(35,), (34, 1), (3, 2), (33, 1, 1)], ids=str)
def test_laws_of_a_coupling_in_parts(size, checkpoint, monkeypatch):
    monkeypatch.setattr(conditioners, "LARGE", PARTS)
    torch.manual_seed(0)
    net = CouplingConditioner(2, 6, 2, spatial_dims=len(size), context_width=4, checkpoint=checkpoint)
    check_bijector(AffineCoupling(2, net), torch.randn(2, 2, *size), torch.randn(2, 2, *size))


@pytest.mark.parametrize("in_a_step", [False, True])
def test_hidden_layers_of_strips_are_recomputed(in_a_step, monkeypatch):
    monkeypatch.setattr(conditioners, "LARGE", PARTS)
    net = CouplingConditioner(4, 8, checkpoint=True)
    step = perturb(glow_step(4, net, checkpoint=in_a_step))
    rows = []
    step.bijectors[2].conditioner.net[0].register_forward_hook(lambda _, args, output: rows.append(args[0].shape[2]))
    step(torch.randn(1, 4, 70, 2))[0].sum().backward()
    strips = [34, 36, 8]
    # In a checkpointed step the backward pass begins with the step's own recomputation.
    assert rows == strips * (2 if in_a_step else 1) + strips[::-1]
    rows.clear()
    with torch.no_grad():
        step(torch.randn(1, 4, 70, 2))
    assert rows == strips


# --- memory formats -------------------------------------------------------------------------------------------------

def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith("2d")])
def test_channels_last_images_give_the_same(name):
    entry = ENTRIES[name]
    bijector = perturb(entry.build()).double()
    inputs = torch.randn(2, entry.channels, *entry.sizes, dtype=torch.float64)
    context = make_context(entry, inputs, 0)
    last = map_context(channels_last, context)
    results = [bijector(inputs, context), bijector(channels_last(inputs), last)]
    results += [bijector.inverse(x, c) for x, c in ((results[0][0], context), (channels_last(results[0][0]), last))]
    for plain, laid_out in (results[:2], results[2:]):
        torch.testing.assert_close(laid_out, plain, rtol=1e-12, atol=1e-12)


# --- compiled -------------------------------------------------------------------------------------------------------

@torch.compile(backend="aot_eager", fullgraph=True, dynamic=False)
def run_compiled(method, inputs, context):
    return method(inputs, context)


@pytest.mark.parametrize("name", [
    "vector: glow step checkpointed", "2d: glow step given its own kind", "2d: Full-Glow's target"])
def test_laws_of_compiled_flows(name):
    torch._dynamo.reset()
    entry = ENTRIES[name]
    bijector = perturb(entry.build()).double()
    sample = torch.randn(1, entry.channels, *entry.sizes, dtype=torch.float64)
    d = sample.numel()
    # One copy for each dimension, so that one backward pass gives every row of the Jacobian.
    copies = sample.repeat_interleave(d, 0).requires_grad_()
    context = map_context(lambda t: t.repeat_interleave(d, 0), make_context(entry, sample, 0))
    outputs, logabsdet = run_compiled(bijector, copies, context)
    (jacobian,) = torch.autograd.grad(outputs.reshape(d, d).diagonal().sum(), copies)
    actual = torch.linalg.slogdet(jacobian.reshape(d, d)).logabsdet
    torch.testing.assert_close(logabsdet.detach(), actual.expand(d), rtol=0, atol=1e-8)
    restored, opposite = run_compiled(bijector.inverse, outputs.detach(), context)
    torch.testing.assert_close(restored.detach(), copies.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(opposite, -logabsdet, rtol=0, atol=1e-8)
    torch._dynamo.reset()
