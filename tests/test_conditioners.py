import pytest
import torch

from condflows import AffineCoupling
from condflows.conditioners import (
    ConvConditioner,
    CouplingConditioner,
    GlobalConditioner,
    MapConditioner,
    MLPConditioner,
)
from condflows.testing import check_bijector, perturb

NETS = {
    "global": (lambda d: GlobalConditioner(3, 7, d), False),
    "global with stride": (lambda d: GlobalConditioner(3, 7, d, stride=2), False),
    "map": (lambda d: MapConditioner(3, 4, 8, d), True),
    "coupling": (lambda d: CouplingConditioner(5, 8, spatial_dims=d), True),
    "coupling with context": (lambda d: CouplingConditioner(5, 8, 2, spatial_dims=d), True),
    "conv": (lambda d: ConvConditioner(5, d), True),
}


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_shapes_at_any_resolution(name, d, side):
    build, keeps_size = NETS[name]
    net = perturb(build(d))
    inputs = torch.randn(2, 3, *(side,) * d)
    if keeps_size:
        outputs = net(inputs) if name == "map" else net(inputs, torch.randn(2, 2, *(3,) * d))
        assert outputs.shape == (2, 4, *(side,) * d)
    else:
        outputs = net(inputs)
        assert outputs.shape == (2, 7)
    assert outputs.abs().min() > 0


@pytest.mark.parametrize("name", NETS)
def test_they_start_at_zero_but_can_learn(name):
    build, _ = NETS[name]
    net = build(2)
    takes_two = name.startswith("co")
    outputs = net(torch.randn(2, 3, 4, 4), *[torch.randn(2, 2, 4, 4)] * takes_two)
    assert not outputs.any()
    outputs.sum().backward()
    assert all(p.grad.any() for p in list(net.net[-1].parameters()))


def test_mlp_with_and_without_context():
    net = perturb(MLPConditioner(3, 5, 2, hidden=(4, 4)))
    assert net(torch.randn(6, 3), torch.randn(6, 2)).shape == (6, 5)
    assert not MLPConditioner(3, 5)(torch.randn(6, 3), torch.randn(6, 9)).any()
    assert MLPConditioner(3, 5, hidden=())(torch.randn(6, 3)).shape == (6, 5)
    with pytest.raises(ValueError, match="expects a context tensor with 2 channels"):
        net(torch.randn(6, 3))


TENSORS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "int64": torch.int64}


@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("which", [0, 1])
def test_tensors_of_another_dtype_are_refused_by_name(own, dtype, which):
    vector, image = torch.ones(4, 2), torch.ones(4, 2, 5, 5)
    nets = {MLPConditioner(2, 3, 2): vector, MLPConditioner(2, 3): vector, CouplingConditioner(4, 8, 2): image,
            GlobalConditioner(2, 3): image, MapConditioner(2, 3, 8): image, ConvConditioner(4): image}
    for net, tensor in nets.items():
        takes_two = getattr(net, "context_features", 0) or isinstance(net, CouplingConditioner)
        tensors = [tensor.to(own)] * (2 if takes_two else 1)
        tensors[min(which, len(tensors) - 1)] = tensor.to(dtype)
        net.to(own)
        reads_part = isinstance(net, ConvConditioner) or (isinstance(net, CouplingConditioner) and which == 0)
        if reads_part and dtype == torch.int64:  # a coupling's first part, which the coupling has checked
            continue
        if dtype == own:
            net(*tensors)
            continue
        message = f"{type(net).__name__} expects .*{own}.* got {dtype}|{type(net).__name__} expects a floating-point"
        with pytest.raises(TypeError, match=message):
            net(*tensors)


def test_names_of_arguments_may_be_given():
    net = perturb(MLPConditioner(3, 5, 2))
    inputs, context = torch.randn(6, 3), torch.randn(6, 2)
    assert torch.equal(net(inputs, context=context), net(inputs, context))
    assert torch.equal(net(inputs=inputs, context=context), net(inputs, context))


def test_the_global_net_sees_where_things_are():
    """Check that pooling to a grid keeps the layout that pooling to one value would lose."""
    net = perturb(GlobalConditioner(1, 2), 0.5)
    top, bottom = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    top[:, :, :4], bottom[:, :, 4:] = 1, 1
    assert not torch.allclose(net(top), net(bottom), rtol=1e-2)


def test_far_contexts_saturate():
    net = perturb(GlobalConditioner(1, 2), 0.5)
    far, farther = net(torch.full((1, 1, 4, 4), 1e4)), net(torch.full((1, 1, 4, 4), 1e6))
    torch.testing.assert_close(far, farther, rtol=1e-3, atol=1e-3)
    near = torch.full((1, 1, 4, 4), 0.1)
    assert not torch.allclose(net(near), net(2 * near), rtol=1e-3)


def test_a_vector_reaches_every_position():
    net = perturb(CouplingConditioner(4, 8, 3))
    x = torch.randn(1, 2, 5, 5)
    change = net(x, torch.ones(1, 3)) - net(x, torch.zeros(1, 3))
    assert change.abs().amin((0, 1)).min() > 0


def test_large_images_are_convolved_channels_last_with_the_same_result():
    net = perturb(CouplingConditioner(6, 16, context_channels=2))
    formats = []
    for convolution in (net.net[0], net.encoder[0]):
        convolution.register_forward_pre_hook(
            lambda _, args: formats.append(args[0].is_contiguous(memory_format=torch.channels_last)))
    inputs, context = torch.randn(4, 3, 16, 16, requires_grad=True), torch.randn(4, 2, 16, 16, requires_grad=True)
    together = net(inputs, context)  # 1,024 positions
    apart = torch.cat([net(x, c) for x, c in zip(inputs.split(1), context.split(1), strict=True)])
    assert formats == [True] * 2 + [False] * 8
    torch.testing.assert_close(together, apart)
    weights = torch.randn_like(together)
    for got, want in zip(*(torch.autograd.grad(outputs, [inputs, context, *net.parameters()], weights)
                           for outputs in (together, apart)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), ()])
def test_an_encoded_context_is_appended_itself(size):
    """Compare with the layers called by hand."""
    net = perturb(CouplingConditioner(4, 8, 3, context_width=0)).double()
    inputs, context = torch.randn(2, 2, 8, 8).double(), torch.randn(2, 3, *size).double()
    seen = net.bound(context) if size else net.bound(context)[:, :, None, None].expand(2, 3, 8, 8)
    seen = torch.nn.functional.avg_pool2d(seen, 2) if size == (16, 16) else seen
    torch.testing.assert_close(net(inputs, context), net.net(torch.cat([net.bound(inputs), seen], 1)))
    check_bijector(AffineCoupling(4, net), torch.randn(2, 4, 3, 3).double(), context)


def test_a_map_conditioner_of_single_positions():
    net = perturb(MapConditioner(3, 4, 8, kernel=1)).double()
    context = torch.randn(1, 3, 4, 4, requires_grad=True, dtype=torch.float64)
    gradient, = torch.autograd.grad(net(context)[0, :, 1, 2].sum(), context)
    assert gradient[0, :, 1, 2].abs().sum() > 0
    assert (gradient.abs().sum((0, 1)) > 0).sum() == 1
