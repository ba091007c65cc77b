"""The gated net of couplings, beside the laws of test_laws.py, which hold for couplings with it."""

import copy

import pytest
import torch
from torch import nn

from condflows import AffineCoupling, Flow, MixtureCoupling, SplineCoupling, glow_step, initialize, multiscale
from condflows.conditioners import ConvConditioner, GatedConditioner
from condflows.rows import repeat_rows
from condflows.testing import perturb

SIZES = {1: (6,), 2: (5, 4), 3: (3, 2, 4)}
CONTEXTS = {"an image": (9, 3, 5), "an image of its size": None, "a vector": ()}


def gated(context=2, heads=2, d=2, **options):
    torch.manual_seed(0)
    return perturb(GatedConditioner(5, 8, context, heads=heads, spatial_dims=d, **options), 0.1).double()


def double(*shape):
    return torch.randn(shape, dtype=torch.float64)


# --- what it returns ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("side", [1, 2, 5])
def test_shapes_at_any_resolution(d, side, heads):
    net = gated(heads=heads, d=d)
    inputs = double(2, 3, *(side,) * d)
    for context in (double(2, 2), double(2, 2, *(3,) * d), double(2, 2, *(side,) * d)):
        outputs = net(inputs, context)
        assert outputs.shape == (2, 4, *(side,) * d)
        assert outputs.abs().min() > 0


@pytest.mark.parametrize("heads", [0, 4])
def test_it_starts_at_zero_but_can_learn(heads):
    net = GatedConditioner(5, 8, 2, heads=heads)
    inputs, context = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 4, 4)
    outputs = net(inputs, context)
    assert not outputs.any()
    outputs.sum().backward()
    assert all(p.grad.any() for p in net.last[-1].parameters())


def test_the_context_is_read_once_the_output_layer_has_learned():
    net = GatedConditioner(5, 8, 2)
    inputs, (one, other) = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 2, 4, 4)
    target = torch.randn(2, 4, 4, 4)
    optimizer = torch.optim.SGD(net.last.parameters(), lr=0.1)
    (net(inputs, one) - target).square().mean().backward()
    optimizer.step()
    assert (net(inputs, one) - net(inputs, other)).abs().max() > 1e-3
    (net(inputs, one) - target).square().mean().backward()
    assert all(p.grad.any() for block in net.blocks for p in block.context.parameters())


@pytest.mark.parametrize("heads", [0, 2])
def test_each_block_reads_the_context(heads):
    net = gated(heads=heads)
    inputs, context = double(2, 3, 5, 4), double(2, 2)
    want = net(inputs, context)
    for block in range(2):
        changed = copy.deepcopy(net)
        nn.init.zeros_(changed.blocks[block].context.weight)
        assert (changed(inputs, context) - want).abs().max() > 1e-3


def test_the_formula_of_its_documentation():
    net = gated(heads=0)
    inputs, context = double(2, 3, 5, 4), double(2, 2, 5, 4)

    def bound(x):
        return x / (1 + (x / 3) ** 2).sqrt()

    elu = nn.functional.elu
    hidden = net.first(bound(inputs))
    for block in net.blocks:
        inner = block.first[1](elu(hidden)) + block.context(bound(context))
        value, gate = block.gate[1](elu(inner)).chunk(2, dim=1)
        hidden = hidden + value * gate.sigmoid()
    torch.testing.assert_close(net(inputs, context), net.last[1](elu(hidden)), rtol=1e-12, atol=1e-12)


def test_the_attention_is_that_of_torch():
    attention = gated(d=3).blocks[0].attention
    images = double(2, 8, 3, 2, 4)
    positions = attention.norm(images.movedim(1, -1).reshape(2, 24, 8))
    queries, keys, values = attention.project(positions).chunk(3, dim=-1)
    heads = [nn.functional.scaled_dot_product_attention(*(x[..., part] for x in (queries, keys, values)))
             for part in (slice(0, 4), slice(4, 8))]
    read = attention.gate(torch.cat(heads, dim=-1)).reshape(2, 3, 2, 4, 8).movedim(-1, 1)
    torch.testing.assert_close(attention(images), images + read, rtol=1e-12, atol=1e-12)


def test_scales_stay_with_depth():
    torch.manual_seed(0)
    net, deviations = GatedConditioner(12, 64, blocks=16, heads=4), []
    for block in net.blocks:
        block.register_forward_hook(lambda module, args, outputs: deviations.append(float(outputs.detach().std())))
    net(torch.randn(2, 6, 8, 8))
    assert 0.2 < min(deviations) <= max(deviations) < 2


@pytest.mark.parametrize("kind", [lambda c, outputs: SplineCoupling(c, outputs(3 * 8 - 1)),
                                  lambda c, outputs: MixtureCoupling(c, outputs(3 * 4 + 2), 4)])
def test_the_outputs_of_other_couplings(kind):
    coupling = perturb(kind(4, lambda each: GatedConditioner(4, 8, num_outputs=2 * each)))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(coupling.inverse(coupling(x)[0])[0], x, rtol=1e-3, atol=1e-4)


# --- what it reads --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("heads", [0, 2])
def test_attention_alone_sees_far_positions(heads):
    """Change one corner: a receptive field of two blocks ends four positions away."""
    net = gated(context=0, heads=heads)
    inputs = double(1, 3, 12, 12)
    changed = inputs.clone()
    changed[..., 0, 0] += 1
    change = (net(changed) - net(inputs)).abs().amax((0, 1))
    assert change[4, 4] > 0
    assert (change[5:, 5:] > 0).all() if heads else not change[5:].any() and not change[:, 5:].any()


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_context_of_fewer_rows_serves_consecutive_inputs(rows, d, context, heads):
    net = gated(heads=heads, d=d)
    inputs = double(6, 3, *SIZES[d])
    size = SIZES[d] if CONTEXTS[context] is None else CONTEXTS[context][:d]
    context, read = double(rows, 2, *size), []
    for block in net.blocks:
        block.context.register_forward_hook(lambda module, args, outputs: read.append(len(args[0])))
    got = net(inputs, context)
    assert read == [rows, rows]
    torch.testing.assert_close(got, net(inputs, repeat_rows(context, 6)), rtol=0, atol=1e-9)
    each = [net(x[None], context[i * rows // 6, None]) for i, x in enumerate(inputs)]
    torch.testing.assert_close(got, torch.cat(each), rtol=0, atol=1e-9)


def test_samples_of_a_flow_given_a_condition():
    def step(c):
        return glow_step(c, GatedConditioner(c, 8, 2, heads=2))

    flow = perturb(Flow(multiscale(2, (1, 1), step, lambda c: AffineCoupling(c, ConvConditioner(c))), (2, 8, 8)), 0.05)
    images, condition = torch.randn(8, 2, 8, 8), torch.randn(8, 2, 3, 3)
    initialize(flow, images, condition)
    samples = flow.sample(3, condition[:2])
    assert samples.shape == (2, 3, 2, 8, 8)
    assert samples.isfinite().all()


def test_far_inputs_and_contexts_saturate():
    net = gated()
    inputs, context = double(1, 3, 4, 4).sign(), double(1, 2, 4, 4).sign()
    torch.testing.assert_close(net(1e4 * inputs, 1e4 * context), net(1e6 * inputs, 1e6 * context), rtol=0, atol=1e-6)
    assert (net(inputs, context) - net(2 * inputs, 2 * context)).abs().max() > 1e-3


def test_it_tells_whether_it_reads_a_context():
    assert GatedConditioner(4, 8, 2).reads_context
    net = gated(context=0)
    assert not net.reads_context
    assert torch.equal(net(inputs := double(2, 3, 4, 4), double(2, 7)), net(inputs))


# --- what it refuses ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("build", "message"), [
    (lambda: GatedConditioner(4, 10, heads=4), "heads that divide width=10, got 4; pass width=12, or other heads"),
    (lambda: GatedConditioner(4, 8, heads=-1), "at least 0 heads, got -1; pass heads=0"),
    (lambda: GatedConditioner(4, 8, blocks=0), "at least 1 block, got 0; pass a whole number"),
    (lambda: GatedConditioner(4, 8, spatial_dims=4), "1 to 3 spatial dimensions, got 4; use MLPConditioner"),
])
def test_sizes_that_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("context", "error", "message"), [
    (None, ValueError, "GatedConditioner expects a context tensor with 2 channels in dimension 1, got NoneType"),
    (torch.ones(4, 3, 5, 5), ValueError, r"with 2 channels in dimension 1, got shape \(4, 3, 5, 5\)"),
    (torch.ones(4, 2, 5), ValueError, "expected a context with 2 spatial dimensions or none"),
    (torch.ones(3, 2, 5, 5), ValueError, r"GatedConditioner expects a context of batch size 4 .*\(3, 2, 5, 5\)"),
    (torch.ones(4, 2, 5, 5).double(), TypeError, "GatedConditioner expects torch.float32 .*got torch.float64"),
    (torch.ones(4, 2).long(), TypeError, "GatedConditioner expects torch.float32 .*got torch.int64"),
    ({"map": torch.ones(4, 2, 5, 5)}, TypeError, "expects one tensor as context, got a dict"),
])
def test_contexts_that_are_refused(context, error, message):
    with pytest.raises(error, match=message):
        GatedConditioner(4, 8, 2)(torch.randn(4, 2, 4, 4), context)


# --- one function on every path -------------------------------------------------------------------------------------

class Low(nn.Module):
    """A layer and a correction of it, which is called in its place."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.scale = layer, nn.Parameter(torch.tensor(0.5))

    def forward(self, inputs):
        return self.layer(inputs) + self.scale * self.layer(inputs).tanh()


def replace(module, kinds, make):
    for name, child in module.named_children():
        if isinstance(child, kinds):
            setattr(module, name, make(child))
        else:
            replace(child, kinds, make)
    return module


@pytest.mark.parametrize("gradients", [False, True])
def test_every_module_is_called_once(gradients):
    net, called = GatedConditioner(5, 8, 2, heads=2).eval(), []
    modules = [module for module in net.modules() if not isinstance(module, nn.ModuleList)]
    for module in modules:
        module.register_forward_hook(lambda module, args, outputs: called.append(module))
    with torch.set_grad_enabled(gradients):
        net(torch.randn(4, 3, 6, 6), torch.randn(2, 2, 6, 6))
    assert sorted(map(id, called)) == sorted(map(id, modules))


def test_layers_that_are_replaced_are_used():
    net, inputs, context = gated(), double(2, 3, 6, 6).requires_grad_(), double(2, 2, 3, 3)
    before = net(inputs, context)
    replace(net, (nn.Conv2d, nn.Linear, nn.LayerNorm), Low)
    replace(net, nn.ELU, lambda _: nn.SiLU())
    net.double()
    outputs = net(inputs, context)
    assert (outputs - before).abs().max() > 1e-3
    scales = [module.scale for module in net.modules() if isinstance(module, Low)]
    assert len(scales) == 1 + 2 * (3 + 3) + 1
    assert all(torch.autograd.grad(outputs.square().sum(), scales))
    with torch.no_grad():
        torch.testing.assert_close(net(inputs, context), outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("heads", [0, 2])
def test_transforms_of_functions_and_second_derivatives(heads):
    net = gated(heads=heads)
    inputs, directions, context = double(2, 3, 4, 3), double(2, 3, 4, 3), double(2, 2, 2, 2)
    each = torch.func.vmap(lambda x, c: net(x[None], c[None])[0])(inputs, context)
    torch.testing.assert_close(each, net(inputs, context), rtol=1e-10, atol=1e-10)
    _, forward_mode = torch.func.jvp(lambda x: net(x, context), (inputs,), (directions,))
    jacobian = torch.func.jacrev(lambda x: net(x, context))(inputs)
    torch.testing.assert_close(forward_mode, torch.tensordot(jacobian, directions, 4), rtol=1e-9, atol=1e-9)
    small = inputs[:1, :, :2, :2].requires_grad_(), context[:1].requires_grad_()
    assert torch.autograd.gradcheck(net, small)
    assert torch.autograd.gradgradcheck(lambda *args: net(*args).sin().sum(), small)


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("rows", ["each its own", "one for all"])
def test_exported_for_any_batch_and_size(heads, rows):
    net, count = gated(heads=heads), {"each its own": 3, "one for all": 1}[rows]
    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    shapes = {0: batch, 2: height, 3: width}, {0: batch} if count == 3 else {}
    program = torch.export.export(net, (double(3, 3, 6, 4), double(count, 2)), dynamic_shapes=shapes).module()
    for size in ((3, 3, 6, 4), (5, 3, 4, 7)):
        args = double(*size), double(size[0] if count == 3 else 1, 2)
        torch.testing.assert_close(program(*args), net(*args), rtol=1e-10, atol=1e-10)


def test_compiled_whole():
    torch._dynamo.reset()
    net = gated(blocks=1)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for rows in (4, 2, 1):
        args = double(4, 3, 4, 4), double(rows, 2, 4, 4)
        torch.testing.assert_close(compiled(*args), net(*args), rtol=1e-10, atol=1e-10)
    torch._dynamo.reset()


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_under_autocast(rows):
    net = gated().float()
    args = torch.randn(4, 3, 6, 6), torch.randn(rows, 2, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(*args)
        with torch.no_grad():
            assert torch.equal(net(*args), low)
    assert low.dtype == torch.bfloat16
    assert (low - net(*args)).abs().max() < 0.1


def test_a_step_with_it_is_inverted_in_float32():
    torch.manual_seed(0)
    flow = Flow(multiscale(3, (2, 2), lambda c: glow_step(c, GatedConditioner(c, 16, heads=2))), (3, 8, 8))
    perturb(flow, 0.05)
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(flow.transform_from_noise(flow.transform_to_noise(x)), x, rtol=0, atol=1e-4)
