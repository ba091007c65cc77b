"""The paths that exist for speed or memory alone: the laws hold on them, and results do not change.

Checkpointed steps are entries of the registry; bfloat16 is in test_laws.py and test_precision.py; that the paths call
every module, whatever it is, is in test_one_function.py.
"""

from functools import partial

import pytest
import torch
from helpers import make_context
from registry import ENTRIES
from torch import nn

from condflows import AffineCoupling, glow_step
from condflows.conditioners import CouplingConditioner, MapConditioner, convnet
from condflows.conditioners.strips import halo, run_in_pieces
from condflows.testing import check_bijector, perturb
from condflows.trace import map_context


def gradients(call, inputs, net):
    inputs = inputs.clone().requires_grad_()
    outputs = call(inputs)
    return outputs, torch.autograd.grad(outputs.sin().sum(), [inputs, *net.parameters()])


# --- images in pieces -----------------------------------------------------------------------------------------------

@pytest.fixture
def small_pieces(monkeypatch):
    """Treat every image as large, so that it goes through the nets in strips of the least height."""
    monkeypatch.setattr(convnet, "LARGE", 1)


@pytest.fixture
def convolved(monkeypatch):
    """Record the shapes of the inputs of convolutions."""
    shapes, convolve = [], nn.Conv2d.forward

    def forward(layer, images):
        shapes.append(tuple(images.shape))
        return convolve(layer, images)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    return shapes


@pytest.mark.parametrize("height", [1, 2, 3, 15, 16, 17, 33, 70])
@pytest.mark.parametrize("kernels", [(3, 1, 3), (1,), (5, 3), (7, 1, 1, 5), (3, 3, 3, 3)], ids=str)
def test_pieces_give_what_the_whole_gives(height, kernels):
    torch.manual_seed(0)
    layers = []
    for inputs, kernel in zip((4, *[6] * len(kernels)), kernels, strict=False):
        layers += [nn.Conv2d(inputs, 6, kernel, padding=kernel // 2), nn.SiLU()]
    net = nn.Sequential(*layers).double()
    rows = sum(kernel // 2 for kernel in kernels)
    assert halo(net) == rows
    images = torch.randn(2, 4, height, 3, dtype=torch.float64)
    whole = gradients(net, images, net)
    for positions in (1, 7 * 3, 3 * height, 100_000):
        pieces = gradients(lambda x, n=positions: run_in_pieces(net, x, rows, n), images, net)
        torch.testing.assert_close(pieces[0], whole[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(pieces[1], whole[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("shape", "positions", "heights"), [
    ((3, 4, 8, 4), 96, [8]),  # all of them together
    ((3, 4, 8, 4), 64, [8, 8]),  # two, and one
    ((3, 4, 8, 4), 31, [8] * 3),  # lower than a strip may be
    ((1, 4, 64, 4), 128, [34, 34]),  # with two rows from the other half
    ((1, 4, 64, 4), 1, [18, 20, 20, 18]),  # 8 times the halo at least
    ((1, 4, 50, 4), 68, [19, 21, 18]),  # strips of about one height
], ids=str)
def test_pieces_have_about_the_size_that_is_wanted(shape, positions, heights):
    read = []
    run_in_pieces(lambda images: read.append(images.shape[2]) or images, torch.zeros(shape), 2, positions)
    assert read == heights


@pytest.mark.parametrize(("layer", "rows"), [
    (nn.Conv2d(4, 4, 3, padding=1), 1),
    (nn.Conv2d(4, 4, (7, 1), padding=(3, 0)), 3),
    (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False), 2),
    (nn.Conv2d(4, 4, 5, padding="same"), 2),
    (nn.GELU(), 0),
    (nn.Conv2d(4, 4, 3), None),  # rows are lost
    (nn.Conv2d(4, 4, 3, padding="valid"), None),
    (nn.Conv2d(4, 4, 4, padding="same"), None),  # more rows from one side
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), None),
    (nn.Conv2d(4, 4, 3, padding=1, stride=2), None),
    (nn.GroupNorm(2, 4), None),  # reads all positions
    (nn.Dropout(0.5), None),
    (nn.Sequential(nn.ReLU()), None),
    (nn.utils.weight_norm(nn.Conv2d(4, 4, 3, padding=1)), None),  # a hook
    (nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1)), None),  # other weights at every call
], ids=lambda value: str(value).replace("\n", ""))
def test_the_halo_of_a_layer(layer, rows):
    assert halo([layer]) == rows
    assert halo([nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), layer]) == (None if rows is None else rows + 1)


def test_a_layer_that_was_changed_has_no_known_halo():
    class Other(nn.Conv2d):
        def forward(self, images):
            return super().forward(images) - images.mean()

    assert halo([Other(4, 4, 3, padding=1)]) is None
    patched = nn.Conv2d(4, 4, 3, padding=1)
    patched.forward = lambda images: images.flip(2)
    assert halo([patched]) is None


@pytest.mark.parametrize(("checkpoint", "with_gradients", "in_pieces"), [
    (False, True, False), (True, True, True), (False, False, True), (True, False, True)])
def test_images_go_in_pieces_where_hidden_layers_need_not_be_kept(
        checkpoint, with_gradients, in_pieces, small_pieces, convolved):
    net = perturb(CouplingConditioner(4, 8, checkpoint=checkpoint))
    with torch.set_grad_enabled(with_gradients):
        net(torch.randn(1, 2, 32, 2))
    assert convolved == ([(1, c, 18, 2) for c in (2, 8, 8)] * 2 if in_pieces else [(1, c, 32, 2) for c in (2, 8, 8)])


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("size", [(40,), (20, 1), (33, 1), (17, 1, 1)], ids=str)
def test_laws_of_couplings_of_large_images(size, checkpoint, small_pieces):
    torch.manual_seed(0)
    net = CouplingConditioner(2, 6, 2, spatial_dims=len(size), context_width=4, checkpoint=checkpoint)
    check_bijector(AffineCoupling(2, net), torch.randn(2, 2, *size), torch.randn(2, 2, *size))


@pytest.mark.parametrize("in_a_step", [False, True])
def test_hidden_layers_of_pieces_are_recomputed(in_a_step, small_pieces, convolved):
    step = perturb(glow_step(4, CouplingConditioner(4, 8, checkpoint=True), checkpoint=in_a_step))
    step(torch.randn(1, 4, 32, 2))[0].sum().backward()
    forward = [(1, c, 18, 2) for c in (2, 8, 8)] * 2
    # In a checkpointed step the backward pass begins with the step's own recomputation.
    assert convolved == forward * (3 if in_a_step else 2)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_hidden_layers_are_recomputed_whole_where_the_halo_is_not_known(spatial_dims, small_pieces):
    net = perturb(CouplingConditioner(4, 8, spatial_dims=spatial_dims, checkpoint=True))
    calls = []
    net.net[0].register_forward_hook(lambda *call: calls.append(call))
    net(torch.randn(1, 2, 20, *(2,) * (spatial_dims - 1))).sum().backward()
    assert len(calls) == 2


def test_function_transforms_of_pieces(small_pieces):
    torch.manual_seed(0)
    net = perturb(CouplingConditioner(2, 4)).double()
    inputs, direction = torch.randn(2, 1, 1, 20, 1, dtype=torch.float64).unbind(0)
    with torch.no_grad():
        jacobian = torch.func.jacrev(net)(inputs)
        _, forward_mode = torch.func.jvp(net, (inputs,), (direction,))
    torch.testing.assert_close(forward_mode.flatten(), jacobian.flatten(4).flatten(0, 3) @ direction.flatten())
    checkpointed = perturb(CouplingConditioner(2, 4, checkpoint=True)).double()
    assert torch.autograd.gradcheck(lambda x: checkpointed(x).sin(), inputs.requires_grad_())


def test_pieces_under_autocast(small_pieces, monkeypatch):
    torch.manual_seed(0)
    net = perturb(CouplingConditioner(4, 8))
    inputs = torch.randn(2, 2, 40, 3)
    with torch.no_grad():
        exact = net(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            pieces = net(inputs)
            monkeypatch.setattr(convnet, "LARGE", 10**6)
            whole = net(inputs)
    assert pieces.dtype == torch.bfloat16
    assert (pieces - exact).abs().max() < 2 * (whole - exact).abs().max() < 0.05


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


@pytest.mark.parametrize("build", [partial(MapConditioner, 4, 6), partial(CouplingConditioner, 8)])
def test_wide_nets_of_many_positions_give_what_their_layers_give(build):
    torch.manual_seed(0)
    net = perturb(build(width=256), 0.02)
    inputs = torch.randn(1, 4, 32, 32)
    want = net.net[4](net.net[2](net.net[0](inputs * (1 + (inputs / 3).square()).rsqrt()).relu()).relu())
    torch.testing.assert_close(net(inputs), want, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(net(inputs), want, rtol=1e-5, atol=1e-5)


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
