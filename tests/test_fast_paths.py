"""The laws hold, and results do not change, on the paths that exist for speed or memory alone.

Checkpointed steps are entries of the registry; bfloat16 is in test_laws.py and test_precision.py.
"""

import pytest
import torch
import torch.nn.functional as F
from registry import ENTRIES
from test_laws import make_context

from condflows import AffineCoupling, conditioners, glow_step
from condflows.conditioners import CouplingConditioner, MapConditioner
from condflows.testing import check_bijector, perturb
from condflows.trace import map_context


def gradients(call, inputs, net):
    inputs = inputs.clone().requires_grad_()
    outputs = call(inputs)
    return outputs, torch.autograd.grad(outputs.sin().sum(), [inputs, *net.parameters()])


# --- convolutions as products of matrices ---------------------------------------------------------------------------

@pytest.fixture
def rows_of_products(monkeypatch):
    """How many rows each product of a block with the weights has, as they are made."""
    rows, linear = [], F.linear

    def count(block, *rest):
        rows.append(len(block))
        return linear(block, *rest)

    monkeypatch.setattr(F, "linear", count)
    return rows


@pytest.fixture
def small_blocks(monkeypatch):
    """Every image is large, and goes through the nets row by row."""
    monkeypatch.setattr(conditioners, "LARGE", 1)


@pytest.mark.parametrize(
    ("shape", "large", "rows"),
    [((3, 4, 5, 3), 1, 1), ((1, 4, 1, 1), 1, 1), ((2, 4, 1, 7), 1, 1), ((1, 4, 12, 2), 160, 2), ((2, 4, 9, 2), 240, 1),
     ((1, 4, 10, 3), 239, 2), ((1, 4, 11, 2), 160, 1), ((0, 4, 4, 2), 1, 0)], ids=str)
def test_blocks_give_what_convolutions_give(shape, large, rows, rows_of_products, monkeypatch):
    monkeypatch.setattr(conditioners, "LARGE", large)
    torch.manual_seed(0)
    net = perturb(MapConditioner(4, 6, width=8)).double()
    inputs = torch.randn(shape, dtype=torch.float64)
    blocks, blocks_gradients = gradients(net, inputs, net)
    batch, _, height, across = shape
    calls = 3 * height // rows if rows else 0
    assert rows_of_products == [batch * rows * across] * calls
    monkeypatch.setattr(conditioners, "LARGE", 10**6)
    whole, whole_gradients = gradients(net, inputs, net)
    assert len(rows_of_products) == calls
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(blocks_gradients, whole_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("width", "side", "in_blocks"), [(256, 32, True), (255, 32, False), (256, 31, False)])
def test_wide_nets_take_blocks_on_a_cpu(width, side, in_blocks, rows_of_products):
    torch.manual_seed(0)
    net = perturb(CouplingConditioner(4, width), 0.02)
    inputs = torch.randn(1, 2, side, side)
    whole = torch.nn.Sequential.forward(net.net, inputs * (1 + (inputs / 3).square()).rsqrt())
    torch.testing.assert_close(net(inputs), whole, rtol=1e-5, atol=1e-5)
    assert bool(rows_of_products) == in_blocks
    rows_of_products.clear()
    with torch.autocast("cpu", torch.bfloat16):  # whose convolutions are faster than its products
        torch.testing.assert_close(net(inputs).float(), whole, rtol=0.03, atol=0.03)
    assert not rows_of_products


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("size", [(5,), (4, 1), (3, 2), (3, 1, 1)], ids=str)
def test_laws_of_couplings_of_large_images(size, checkpoint, small_blocks):
    torch.manual_seed(0)
    net = CouplingConditioner(2, 6, 2, spatial_dims=len(size), context_width=4, checkpoint=checkpoint)
    check_bijector(AffineCoupling(2, net), torch.randn(2, 2, *size), torch.randn(2, 2, *size))


@pytest.mark.parametrize("in_a_step", [False, True])
def test_hidden_layers_of_blocks_are_recomputed(in_a_step, small_blocks, rows_of_products):
    step = perturb(glow_step(4, CouplingConditioner(4, 8, checkpoint=True), checkpoint=in_a_step))
    step(torch.randn(1, 4, 6, 2))[0].sum().backward()
    forward = [2] * 18
    # In a checkpointed step the backward pass begins with the step's own recomputation.
    assert rows_of_products == forward * (2 if in_a_step else 1) + forward[::-1]
    rows_of_products.clear()
    with torch.no_grad():
        step(torch.randn(1, 4, 6, 2))
    assert rows_of_products == forward


def test_hidden_layers_of_large_volumes_are_recomputed(small_blocks):
    net = perturb(CouplingConditioner(4, 8, spatial_dims=3, checkpoint=True))
    calls = []
    net.net[0].register_forward_hook(lambda *call: calls.append(call))
    net(torch.randn(1, 2, 2, 2, 2)).sum().backward()
    assert len(calls) == 2


def test_function_transforms_of_blocks(small_blocks):
    torch.manual_seed(0)
    net = perturb(CouplingConditioner(2, 8)).double()
    inputs, direction = torch.randn(2, 1, 1, 2, 3, dtype=torch.float64).unbind(0)
    jacobian = torch.func.jacrev(net)(inputs)
    _, forward_mode = torch.func.jvp(net, (inputs,), (direction,))
    torch.testing.assert_close(forward_mode.flatten(), jacobian.flatten(4).flatten(0, 3) @ direction.flatten())
    assert torch.autograd.gradgradcheck(lambda x: net(x).sin(), inputs.requires_grad_())


def test_blocks_under_autocast(small_blocks, monkeypatch):
    torch.manual_seed(0)
    net = perturb(CouplingConditioner(4, 8))
    inputs = torch.randn(2, 2, 4, 3)
    exact = net(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        blocks = net(inputs)
        monkeypatch.setattr(conditioners, "LARGE", 10**6)
        whole = net(inputs)
    assert (blocks - exact).abs().max() < 2 * (whole - exact).abs().max() < 0.05


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
