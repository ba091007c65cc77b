"""Nets in bfloat16: what is rounded, how exact densities and round trips stay, and that it is one function."""

import copy
import pickle

import pytest
import torch
from helpers import make_context
from registry import ENTRIES
from torch import nn

from condflows import (
    ActNorm,
    AffineCoupling,
    Chain,
    Flow,
    VariationalDequantization,
    bfloat16_nets,
    bits_per_dim,
    compile_steps,
    dequantize,
    freeze,
    glow_step,
    initialize,
    multiscale,
)
from condflows.conditioners import (
    ConvConditioner,
    CouplingConditioner,
    Embed,
    GatedConditioner,
    GlobalConditioner,
    MapConditioner,
    MLPConditioner,
    PyramidEncoder,
    Select,
)
from condflows.conditioners.layers import BoundedNet
from condflows.testing import check_bijector, invertibility_report, perturb

BF16 = torch.bfloat16
NETS = {
    "coupling": (lambda: CouplingConditioner(4, 8, 3), ((2, 2, 8, 8), (2, 3, 16, 16))),
    "large images": (lambda: CouplingConditioner(4, 8, 3), ((2, 2, 32, 32), (2, 3, 32, 32))),
    "conv": (lambda: ConvConditioner(4), ((2, 2, 8, 8),)),
    "map": (lambda: MapConditioner(3, 8, 8), ((2, 3, 8, 8),)),
    "global": (lambda: GlobalConditioner(3, 8), ((2, 3, 8, 8),)),
    "mlp": (lambda: MLPConditioner(2, 4, 3), ((5, 2), (5, 3))),
    "gated": (lambda: GatedConditioner(4, 8, 3, heads=2), ((2, 2, 8, 8), (2, 3, 8, 8))),
    "pyramid": (lambda: PyramidEncoder(3, (4, 8)), ((2, 3, 8, 8),)),
    "three dimensions": (lambda: CouplingConditioner(4, 8, spatial_dims=3), ((2, 2, 4, 4, 4),)),
}


def outputs(net, inputs):
    made = net(*inputs)
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.parametrize("name", NETS)
def test_layers_run_in_bfloat16_and_all_else_in_float32(name):
    build, shapes = NETS[name]
    plain = perturb(build(), 0.3)
    low, seen = bfloat16_nets(copy.deepcopy(plain)), set()
    for layer in low.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            layer.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    inputs = [torch.randn(shape) for shape in shapes]
    pairs = list(zip(outputs(low, inputs), outputs(plain, inputs), strict=True))
    assert seen == {BF16}
    for got, want in pairs:
        assert got.dtype == torch.float32
        assert not torch.equal(got, want)
        assert (got - want).abs().max() < 0.03 * (1 + want.abs().max())
    assert {parameter.dtype for parameter in low.parameters()} == {torch.float32}
    # Also inside of autocast to another end, without gradients, and undone.
    with torch.autocast("cpu", BF16):
        assert all(torch.equal(a, b) for a, (b, _) in zip(outputs(low, inputs), pairs, strict=True))
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, (b, _) in zip(outputs(low, inputs), pairs, strict=True))
    bfloat16_nets(low, False)
    assert all(torch.equal(a, b) for a, (_, b) in zip(outputs(low, inputs), pairs, strict=True))


def test_models_in_float64_stay_exact():
    net, inputs = perturb(CouplingConditioner(4, 8)).double(), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    want = net(inputs)
    assert torch.equal(bfloat16_nets(net)(inputs), want)
    check_bijector(AffineCoupling(4, net), torch.randn(2, 4, 3, 3, dtype=torch.float64))


def test_gradients_are_float32_and_near():
    flow = perturb(multiscale(3, (1, 1), step), 0.02)
    inputs, context, gradients = torch.rand(4, 3, 16, 16), torch.rand(4, 2, 16, 16), []
    for low in (False, True):
        bfloat16_nets(flow, low)
        outputs, logabsdet = flow(inputs, context)
        gradients.append(torch.autograd.grad((outputs.square().sum() - logabsdet.sum()), list(flow.parameters())))
    assert all(gradient.dtype == torch.float32 for gradient in gradients[1])
    flat = [torch.cat([gradient.flatten() for gradient in all]) for all in gradients]
    assert torch.cosine_similarity(*flat, dim=0) > 0.999


def step(c):
    return glow_step(c, CouplingConditioner(c, 16, 2, context_width=8), GlobalConditioner(2, 2 * c),
                     GlobalConditioner(2, 2 * c * c + c))


def trained(steps=(4, 4)):
    """Train a Glow on photos that are smooth and noisy, and return it with a batch."""
    torch.manual_seed(0)

    def batch(size):
        context = torch.rand(size, 2, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        photos = context[:, [0, 1, 1]] * torch.tensor([0.9, 0.5, 0.2])[:, None, None]
        return dequantize((200 * photos + 30 * torch.rand(photos.shape)).to(torch.uint8)), context

    flow = Flow(multiscale(3, steps, step, lambda c: AffineCoupling(c, ConvConditioner(c))))
    initialize(flow, *batch(64))
    optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
    for _ in range(100):
        loss = -flow.log_prob(*batch(8)).mean() / 768
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow, *batch(8)


def test_bits_and_round_trips_of_a_trained_flow():
    """Hold what docs/numerical_safety.md states: 0.002 bits per dimension, and two levels of 8-bit images."""
    flow, x, context = trained()
    with torch.no_grad():
        plain = bits_per_dim(flow.log_prob(x, context), (3, 16, 16))
        low = bfloat16_nets(copy.deepcopy(flow))
        bits = bits_per_dim(low.log_prob(x, context), (3, 16, 16))
        assert 0 < (bits - plain).abs().max() < 0.002
        restored = low.transform_from_noise(low.transform_to_noise(x, context), context)
        assert (restored - x).abs().max() < 2 / 256
        assert (flow.transform_from_noise(flow.transform_to_noise(x, context), context) - x).abs().max() < 1e-4
        # Densities of samples are those of log_prob, to the same bound.
        samples, log_prob = low.sample_and_log_prob(2, context)
        again = low.log_prob(samples.flatten(0, 1), context.repeat_interleave(2, 0)).view(8, 2)
        assert ((again - log_prob) / 768).abs().max() < 0.01
    report, before = invertibility_report(low, x, context), invertibility_report(flow, x, context)
    assert report[0].nets == "bfloat16"
    assert {place.nets for place in before} == {None}
    kinds = {place.kind for place in report if place.nets is None}
    assert kinds <= {"Squeeze", "Inverse"}
    assert report[0].error > 10 * before[0].error
    assert "bfloat16" in str(report)
    assert "bfloat16" not in str(before)
    # Each operation alone inverts as before: its net reads the same values in both directions.
    assert all(place.error < 1e-4 for place in report if place.kind in ("ActNorm", "LUConv1x1", "AffineCoupling"))


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if not entry.heavy and any(
    part in name for part in ("coupling", "glow step", "actnorm", "luconv", "gated"))])
def test_every_operation_with_rounded_nets(name):
    """Check in float32 that each operation is its own inverse, with the log-determinant of its inverse."""
    entry = ENTRIES[name]
    torch.manual_seed(0)
    bijector = perturb(entry.build())
    if not any(isinstance(module, BoundedNet) for module in bijector.modules()):
        with pytest.raises(ValueError, match=r"expects a module with nets of condflows.conditioners"):
            bfloat16_nets(bijector)
        return
    bfloat16_nets(bijector)
    inputs = torch.randn(2, entry.channels, *entry.sizes)
    context = make_context(entry, inputs, 1, torch.float32)
    with torch.no_grad():
        outputs, logabsdet = bijector(inputs, context)
        restored, opposite = bijector.inverse(outputs, context)
    assert outputs.dtype == logabsdet.dtype == torch.float32
    torch.testing.assert_close(restored, inputs, rtol=0, atol=0.02)
    torch.testing.assert_close(opposite, -logabsdet, rtol=0, atol=0.02 * inputs[0].numel())


def test_copies_keep_it_and_state_dicts_do_not():
    flow = bfloat16_nets(perturb(Flow(multiscale(3, (1, 1), step))))
    x, context = torch.rand(2, 3, 8, 8), torch.rand(2, 2, 8, 8)
    want = flow.log_prob(x, context)
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert torch.equal(other.log_prob(x, context), want)
    torch.testing.assert_close(freeze(flow).log_prob(x, context), want, rtol=1e-3, atol=1)
    plain = Flow(multiscale(3, (1, 1), step))
    plain.load_state_dict(flow.state_dict())
    assert not torch.equal(plain.log_prob(x, context), want)
    assert torch.equal(bfloat16_nets(plain).log_prob(x, context), want)
    assert "in_bfloat16=True" in repr(plain)
    assert "in_bfloat16" not in repr(bfloat16_nets(plain, False))


def test_wrapped_nets_are_reached():
    embed = Embed(3, 4)
    for net in (Select("x", MLPConditioner(3, 8)), embed.before(MLPConditioner(4, 8))):
        bfloat16_nets(ActNorm(4, net))
        assert net.conditioner.in_bfloat16
    dequantization = bfloat16_nets(perturb(VariationalDequantization(3)))
    images = torch.randint(256, (2, 3, 8, 8))
    values, log_q = dequantization(images)
    assert torch.equal((256 * values).floor().long(), images)
    assert log_q.dtype == torch.float32
    flow = Flow(ActNorm(12, MapConditioner(4, 24)), embedding_net=PyramidEncoder(1, (4,), classes=3))
    assert bfloat16_nets(flow)._embedding_net.in_bfloat16


def test_checkpoints_recompute_the_same():
    def build(checkpoint):
        torch.manual_seed(0)
        return bfloat16_nets(perturb(glow_step(4, CouplingConditioner(4, 8, checkpoint=checkpoint),
                                               checkpoint=checkpoint)))

    gradients = []
    for checkpoint in (False, True):
        chain, x = build(checkpoint), torch.linspace(-1, 1, 2 * 4 * 32 * 32).view(2, 4, 32, 32)
        outputs, logabsdet = chain(x)
        gradients.append(torch.autograd.grad(outputs.square().sum() - logabsdet.sum(), list(chain.parameters())))
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


def test_compiled_steps_of_both_precisions():
    torch.manual_seed(0)
    plain = perturb(Chain([glow_step(4, CouplingConditioner(4, 8)) for _ in range(2)]))
    bfloat16_nets(plain.bijectors[1])
    compiled, x = compile_steps(copy.deepcopy(plain), backend="aot_eager"), torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(compiled(x)[0], plain(x)[0], rtol=1e-5, atol=1e-5)


def test_vmap_and_forward_mode():
    net = bfloat16_nets(perturb(CouplingConditioner(4, 8, 3)))
    inputs, context = torch.randn(3, 2, 8, 8), torch.randn(3, 3, 8, 8)
    each = torch.func.vmap(lambda x, c: net(x[None], c[None])[0])(inputs, context)
    plain = bfloat16_nets(copy.deepcopy(net), False)(inputs, context)
    torch.testing.assert_close(each, plain, rtol=0, atol=1e-5)  # where torch rounds nothing
    _, tangent = torch.func.jvp(net, (inputs, context), (torch.ones_like(inputs), torch.zeros_like(context)))
    assert torch.isfinite(tangent).all()


def test_a_module_without_nets_is_refused():
    with pytest.raises(ValueError, match=r"got ActNorm without any; run nets of your own under torch.autocast"):
        bfloat16_nets(ActNorm(3))
    with pytest.raises(TypeError, match=r"a flow, a bijector or a conditioner, got int"):
        bfloat16_nets(3)


def test_nets_in_bfloat16_on_the_meta_device():
    net = bfloat16_nets(MLPConditioner(2, 4).to("meta"))
    assert net(torch.empty(3, 2, device="meta")).dtype == torch.float32
