"""Operations beyond the laws: the maps themselves, agreement with nflows, and clear errors."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import Constant
from hypothesis import given, settings
from hypothesis import strategies as st
from nflows.transforms.conv import OneByOneConvolution
from nflows.transforms.coupling import AffineCouplingTransform
from nflows.transforms.lu import LULinear
from nflows.transforms.normalization import ActNorm as NFlowsActNorm
from torch import nn

from condflows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Flow,
    Inverse,
    LUConv1x1,
    Split,
    Squeeze,
    Trace,
    glow_step,
    multiscale,
    sigmoid_affine,
    soft_affine,
)
from condflows.bounds import soft_bound
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner, MLPConditioner
from condflows.testing import check_bijector, perturb

# --- the maps -------------------------------------------------------------------------------------------------------


def test_actnorm_is_the_documented_map():
    actnorm = ActNorm(2, Constant(torch.tensor([[0.1, -0.2, 0.3, 0.4], [0.0, 0.5, -0.6, 0.7]])))
    with torch.no_grad():
        actnorm.log_scale.copy_(torch.tensor([0.2, 0.3]))
        actnorm.shift.copy_(torch.tensor([1.0, -1.0]))
        actnorm.unit.copy_(torch.tensor([2.0, 3.0]))
    x = torch.randn(2, 2, 3)
    outputs, logabsdet = actnorm(x, torch.zeros(2, 1))
    alpha, beta = soft_affine(*actnorm.conditioner.value.chunk(2, 1))
    a, b, unit = actnorm.log_scale, actnorm.shift, actnorm.unit
    want = a.exp()[:, None] * (alpha.exp()[..., None] * x + unit[:, None] * beta[..., None]) + b[:, None]
    torch.testing.assert_close(outputs, want)
    torch.testing.assert_close(logabsdet, 3 * (a + alpha).sum(1))


def test_luconv_is_one_matrix_for_every_sample():
    convolution = perturb(LUConv1x1(4, GlobalConditioner(2, 36, conv_channels=(3,), hidden=())), 0.5)
    x, context = torch.randn(3, 4, 2, 5), torch.randn(3, 2, 4, 4)
    outputs, logabsdet = convolution(x, context)
    basis = torch.eye(4).reshape(4, 4, 1, 1)
    matrices = []
    for i in range(3):
        matrix = convolution(basis, context[i : i + 1].expand(4, -1, -1, -1))[0][:, :, 0, 0].T
        torch.testing.assert_close(outputs[i], torch.einsum("ij,jhw->ihw", matrix, x[i]))
        torch.testing.assert_close(logabsdet[i], 10 * torch.linalg.slogdet(matrix).logabsdet)
        assert not any(torch.allclose(matrix, other) for other in matrices)
        matrices.append(matrix)


@pytest.mark.parametrize("c", [1, 2, 3, 12, 48])
def test_luconv_starts_as_a_rotation(c):
    def matrix(seed, conditioner=None):
        torch.manual_seed(seed)
        return LUConv1x1(c, conditioner)(torch.eye(c), torch.randn(c, 3))[0].T

    q = matrix(1)
    torch.testing.assert_close(q @ q.T, torch.eye(c), rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix(1, MLPConditioner(3, 2 * c * c + c)), q, rtol=0, atol=1e-5)
    if c > 2:
        assert not torch.allclose(matrix(2), q)


def test_luconv_is_the_documented_map():
    """Compare with P L_0 (I + N) e^delta (I + M) (U_0 + diag(s_0)); delta and the norms of N and M are below 1/2."""
    c = 3
    raw = torch.randn(2, 2 * c * c + c, dtype=torch.float64)
    convolution = perturb(LUConv1x1(c, Constant(raw))).double()
    lower, upper = convolution.lower.tril(-1) + torch.eye(c), convolution.upper.triu(1)
    upper = upper + torch.diag(convolution.sign * convolution.log_s.exp())
    for i, (n, m, delta) in enumerate(zip(*raw.split([c * c, c * c, c], 1), strict=True)):
        n, m = n.view(c, c).tril(-1) / c, m.view(c, c).triu(1) / c
        n, m = (matrix / (1 + 4 * matrix.square().sum()).sqrt() for matrix in (n, m))
        delta = delta / (1 + 4 * delta.square()).sqrt()
        matrix = (convolution.permutation @ lower @ (torch.eye(c) + n) @ torch.diag(delta.exp())
                  @ (torch.eye(c) + m) @ upper)
        x = torch.randn(2, c, dtype=torch.float64)
        outputs, logabsdet = convolution(x, torch.zeros(2, 1))
        torch.testing.assert_close(outputs[i], matrix @ x[i])
        torch.testing.assert_close(logabsdet[i], (convolution.log_s + delta).sum())


def test_luconv_stores_nothing_that_it_does_not_use():
    convolution = LUConv1x1(5)
    assert torch.equal(convolution.lower, convolution.lower.tril(-1))
    assert torch.equal(convolution.upper, convolution.upper.triu(1))
    assert {value.dtype for value in convolution.state_dict().values()} == {torch.get_default_dtype()}


def test_luconv_in_bfloat16_is_computed_in_float32():
    for conditioner in (None, MLPConditioner(3, 36)):
        half = perturb(LUConv1x1(4, conditioner)).to(torch.bfloat16)
        x, context = torch.randn(2, 3, 4).transpose(1, 2).bfloat16(), torch.randn(2, 3).bfloat16()
        full = copy.deepcopy(half).float()
        full.conditioner = None if conditioner is None else Constant(half.conditioner(context))
        for got, want in zip((half(x, context), half.inverse(x, context)),
                             (full(x.float(), context), full.inverse(x.float(), context)), strict=True):
            assert torch.equal(got[0], want[0].bfloat16())
            assert torch.equal(got[1], want[1])


def test_rotations_are_drawn_uniformly():
    """Check that the mean is 0, as of uniform (Haar) rotations; that of a QR without sign correction is not."""
    mean = torch.stack([LUConv1x1(3)(torch.eye(3))[0] for _ in range(2000)]).mean(0)
    assert mean.abs().max() < 0.06


def test_coupling_is_the_documented_map():
    raw = torch.randn(2, 4, 3)
    x = torch.randn(2, 5, 3)
    outputs, logabsdet = AffineCoupling(5, Constant(raw), sigmoid_affine)(x)
    assert torch.equal(outputs[:, :3], x[:, :3])
    scale = torch.sigmoid(raw[:, :2] + 2)
    torch.testing.assert_close(outputs[:, 3:], x[:, 3:] * scale + raw[:, 2:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logabsdet, scale.log().sum((1, 2)))


@pytest.mark.parametrize("build", [
    lambda net: ActNorm(2, net), lambda net: LUConv1x1(2, net), lambda net: AffineCoupling(2, net)])
def test_offsets_of_lower_precision_are_bounded_in_that_of_the_inputs(build):
    """Bound bfloat16 offsets, as a net under autocast returns, in the precision of the inputs."""
    torch.manual_seed(0)
    x, raw = torch.randn(3, 2), torch.randn(3, {ActNorm: 4, LUConv1x1: 10, AffineCoupling: 2}[type(build(None))])
    results = []
    for value in (raw.bfloat16(), raw.bfloat16().float()):
        torch.manual_seed(0)
        bijector = build(Constant(value))
        results.append([*bijector(x, torch.zeros(3, 1)), *bijector.inverse(x, torch.zeros(3, 1))])
    for got, want in zip(*results, strict=True):
        assert got.dtype == torch.float32
        assert torch.equal(got, want)


def test_hooks_of_every_module_run():
    flow = Flow(Chain([Chain([ActNorm(4)]), Split(Chain([ActNorm(2)]), Chain([ActNorm(4)])), Inverse(Chain([]))]))
    called = []
    for module in flow.modules():
        module.register_forward_hook(lambda module, args, result: called.append(module))
    flow.log_prob(torch.randn(3, 4))
    inverted = flow.transform.bijectors[2].bijector  # whose inverse runs, not its forward
    assert set(called) == {module for module in flow.modules() if isinstance(module, Bijector)} - {inverted}


def test_squeeze_has_the_channel_order_of_pixel_unshuffle():
    x = torch.randn(2, 3, 6, 12)
    for factor in (1, 2, 3):
        assert torch.equal(Squeeze(factor)(x)[0], F.pixel_unshuffle(x, factor))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_squeeze_keeps_blocks_together(d):
    x = torch.arange(4**d, dtype=torch.float32).reshape(1, 1, *(4,) * d)
    outputs = Squeeze()(x)[0]
    assert outputs.shape == (1, 2**d, *(2,) * d)
    corner = x[(0, 0, *(slice(0, 2),) * d)].flatten()
    assert torch.equal(outputs[(0, slice(None), *(0,) * d)], corner)


def test_split_sends_the_first_half_on():
    class Plus(Bijector):
        def forward(self, inputs, context=None):
            return inputs + 1, inputs.new_zeros(len(inputs))

    x = torch.zeros(2, 5)
    assert torch.equal(Split(Plus())(x)[0], torch.tensor([1.0, 1, 1, 0, 0]).expand(2, 5))


def test_a_split_may_use_one_bijector_as_prior_and_inside():
    class Double(Bijector):
        def forward(self, inputs, context=None):
            return 2 * inputs, inputs.new_full((len(inputs),), inputs[0].numel() * math.log(2))

        def inverse(self, inputs, context=None):
            return inputs / 2, inputs.new_full((len(inputs),), -inputs[0].numel() * math.log(2))

    double, x = Double(), torch.randn(3, 5, 2)
    split = Split(double, double)
    outputs, logabsdet, trace = split.forward_with_trace(x)
    torch.testing.assert_close(outputs, torch.cat([4 * x[:, :3], 2 * x[:, 3:]], dim=1))
    torch.testing.assert_close(logabsdet, torch.full((3,), 16 * math.log(2)))
    torch.testing.assert_close(list(trace), [2 * x, 4 * x[:, :3]])
    check_bijector(split, x)


def test_checkpointing_changes_memory_not_results():
    def run(**options):
        torch.manual_seed(0)
        step = perturb(glow_step(4, CouplingConditioner(4, 8), **options))
        x = torch.randn(2, 4, 6, 6, requires_grad=True)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            outputs, logabsdet = step(x)
        gradients = torch.autograd.grad(outputs.square().sum() + logabsdet.sum(), [x, *step.parameters()])
        trace = step.forward_with_trace(x)[2]
        assert len(trace) == 3
        return [outputs, step.inverse(outputs.detach())[0], *gradients, *trace], len(saved)

    plain, saving = run(), run(checkpoint=True)
    assert all(torch.equal(a, b) for a, b in zip(plain[0], saving[0], strict=True))
    assert saving[1] < plain[1] / 4
    assert not Chain([]).checkpoint


def test_glow_step_hands_on_what_it_is_given():
    actnorm, conv, coupling = MLPConditioner(3, 8), MLPConditioner(3, 36), MLPConditioner(2, 4)
    parts = glow_step(4, coupling, actnorm, conv, sigmoid_affine).parts
    assert [type(part) for part in parts] == [ActNorm, LUConv1x1, AffineCoupling]
    assert [part.conditioner for part in parts] == [actnorm, conv, coupling]
    assert parts[2].affine is sigmoid_affine


def test_multiscale_nests_as_documented():
    flow = multiscale(3, (1, 2), lambda c: ActNorm(c), lambda c: AffineCoupling(c, ConvConditioner(c)), ActNorm)
    trace = flow.forward_with_trace(torch.randn(1, 3, 8, 8))[2]
    shapes = [tuple(leaf.shape[1:]) for leaf in trace.leaves()]
    assert shapes == [(12, 4, 4), (12, 4, 4), (12, 4, 4), (24, 2, 2), (24, 2, 2), (24, 2, 2), (24, 2, 2), (6, 4, 4),
                      (3, 8, 8)]
    flow = multiscale(1, (1, 1, 1), ActNorm, lambda c: AffineCoupling(c, ConvConditioner(c)))
    assert [m.num_channels for m in flow.modules() if isinstance(m, AffineCoupling)] == [4, 8]
    flow = multiscale(2, (1, 1), ActNorm, factor=3, spatial_dims=1)
    shapes = [tuple(leaf.shape[1:]) for leaf in flow.forward_with_trace(torch.randn(1, 2, 18))[2].leaves()]
    assert shapes == [(6, 6), (6, 6), (6, 6), (9, 2), (9, 2), (3, 6), (2, 18)]
    with pytest.raises(ValueError, match="at least one level"):
        multiscale(3, (), ActNorm)


# --- agreement with nflows on equal parameters ----------------------------------------------------------------------


def test_agrees_with_nflows_actnorm():
    theirs = NFlowsActNorm(3)
    x = 2 * torch.randn(4, 3, 5, 5) + 1
    theirs(x)  # initializes itself
    theirs.eval()
    ours = ActNorm(3)
    with torch.no_grad():
        ours.log_scale.copy_(theirs.log_scale)
        ours.shift.copy_(theirs.shift)
    for a, b in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(ours.inverse(x), theirs.inverse(x), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def copy_factors(theirs, ours):
    """Copy L and U of an nflows LU layer, which has no permutation, to ours, and set its bias to 0."""
    ours.permutation.copy_(torch.eye(len(theirs.upper_diag)))
    ours.sign.fill_(1)
    ours.lower.zero_()[tuple(theirs.lower_indices)] = theirs.lower_entries
    ours.upper.zero_()[tuple(theirs.upper_indices)] = theirs.upper_entries
    ours.log_s.copy_(theirs.upper_diag.log())
    theirs.bias.zero_()


def test_agrees_with_nflows_one_by_one_convolution():
    theirs = OneByOneConvolution(4, identity_init=False)
    ours = LUConv1x1(4)
    copy_factors(theirs, ours)
    x = torch.randn(3, 4, 5, 6)
    permuted = theirs.permutation(x)[0]
    for a, b in zip(ours(permuted), theirs(x), strict=True):
        torch.testing.assert_close(a, b)


def test_agrees_with_nflows_linear_layer_on_vectors():
    theirs = LULinear(5, identity_init=False)
    ours = LUConv1x1(5)
    copy_factors(theirs, ours)
    x = torch.randn(3, 5)
    for a, b in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(a, b)


def test_agrees_with_nflows_affine_coupling():
    net = nn.Conv2d(2, 4, 3, padding=1)

    class Theirs(nn.Module):
        def forward(self, inputs, context=None):
            return net(inputs)

    theirs = AffineCouplingTransform(torch.tensor([-1.0, -1.0, 1.0, 1.0]), lambda i, o: Theirs())

    def nflows_affine(raw_shift, raw_scale):  # in their order, the shifts come first
        return (torch.sigmoid(raw_scale + 2) + 1e-3).log(), raw_shift

    ours = AffineCoupling(4, Theirs(), nflows_affine)
    x = torch.randn(3, 4, 5, 6)
    want_outputs, want_logabsdet = theirs(x)
    outputs, logabsdet = ours(x)
    torch.testing.assert_close(outputs, want_outputs)
    torch.testing.assert_close(logabsdet, want_logabsdet)
    torch.testing.assert_close(ours.inverse(x)[0], theirs.inverse(x)[0])


# --- bounds ---------------------------------------------------------------------------------------------------------


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(-(2.0**100), 2.0**100, width=32))
def test_affine_bounds(raw_scale, raw_shift):
    raw = torch.tensor([raw_scale]), torch.tensor([raw_shift])
    log_scale, shift = soft_affine(*raw)
    assert abs(float(log_scale)) <= 2.00001
    assert abs(float(shift)) <= 10.0001
    log_scale, shift = sigmoid_affine(*raw)
    assert -5 <= float(log_scale) <= 0
    assert abs(float(shift)) <= 100.001
    if raw_scale >= -7:
        assert float(log_scale.exp()) == pytest.approx(float(torch.sigmoid(raw[0] + 2)), rel=1e-5)
    if abs(raw_shift) <= 1:
        assert float(shift) == pytest.approx(raw_shift, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_soft_bound_is_monotone_up_to_infinity(dtype):
    x = torch.tensor([0.0, 1e-3, 1, 10, 600, 6e4, torch.inf], dtype=dtype, requires_grad=True)
    y = soft_bound(x, 2)
    torch.testing.assert_close(y[:4].double(), (x * torch.rsqrt(1 + (x / 2) ** 2))[:4].double(), rtol=2e-3, atol=0)
    assert (y.diff() >= 0).all()
    assert y[-1] == 2
    assert torch.isfinite(torch.autograd.grad(y[:-1].sum(), x)[0]).all()


def test_affine_at_zero():
    zero = torch.zeros(1, requires_grad=True)
    log_scale, shift = soft_affine(zero, zero)
    assert (log_scale, shift) == (0, 0)
    assert torch.autograd.grad(log_scale + 2 * shift, zero) == (3,)
    assert sigmoid_affine(zero, zero)[0].exp().item() == pytest.approx(0.880797, abs=1e-6)


@settings(max_examples=30)
@given(c=st.sampled_from([2, 3, 12, 48]), seed=st.integers(0, 2**16), size=st.sampled_from([1.0, 1e2, 1e4, 1e8]))
def test_contexts_change_the_condition_number_by_a_bounded_factor(c, seed, size):
    torch.manual_seed(seed)
    convolution = LUConv1x1(c, Constant(size * torch.randn(3, 2 * c * c + c, dtype=torch.float64))).double()

    def largest():  # of the matrices, each of which is its map of the unit vectors
        units = torch.eye(c, dtype=torch.float64).expand(3, c, c)
        return torch.linalg.cond(convolution(units, torch.zeros(3, 1))[0]).max()

    lower = torch.eye(c) + convolution.lower
    upper = convolution.upper + torch.diag(convolution.sign * convolution.log_s.exp())
    assert largest() < 19 * torch.linalg.cond(lower) * torch.linalg.cond(upper)
    if c > 12:
        return  # the products below are the bound itself, without what a random rotation adds
    with torch.no_grad():  # an identity W_0 leaves the context's own factor
        convolution.sign.fill_(1)
        for parameter in (convolution.lower, convolution.upper, convolution.log_s):
            parameter.zero_()
    assert largest() < 19


@settings(max_examples=40)
@given(seed=st.integers(0, 2**16), size=st.sampled_from([1e2, 1e4, 1e6, 1e12]), d=st.sampled_from([0, 2]))
def test_extreme_contexts_stay_finite_and_invertible(seed, size, d):
    """Run random nets, ours and a user's own, on contexts far larger than usual."""
    torch.manual_seed(seed)
    c, shape = 6, (4, 4)[:d]
    context = size * torch.randn(2, 3, *shape)
    nets = [
        MLPConditioner(3, 2 * c) if d == 0 else GlobalConditioner(3, 2 * c),
        MLPConditioner(3, 2 * c * c + c) if d == 0 else GlobalConditioner(3, 2 * c * c + c),
        MLPConditioner(3, 6, 3) if d == 0 else CouplingConditioner(c, 16, 3),
    ]
    own = [nn.Sequential(nn.Flatten(), nn.Linear(3 * 4**d, n)) for n in (2 * c, 2 * c * c + c)]
    step = [*(perturb(net, 1.0, seed) for net in nets), *own]
    x = torch.randn(2, c, *shape)
    for bijector in (
        ActNorm(c, step[0]), LUConv1x1(c, step[1]), AffineCoupling(c, step[2]), ActNorm(c, step[3]),
        LUConv1x1(c, step[4]), AffineCoupling(c, step[2], sigmoid_affine),
    ):
        outputs, logabsdet = bijector(x, context)
        assert torch.isfinite(outputs).all()
        assert torch.isfinite(logabsdet).all()
        restored = bijector.inverse(outputs, context)[0]
        torch.testing.assert_close(restored, x, rtol=1e-3, atol=2e-3)


# --- errors ---------------------------------------------------------------------------------------------------------

X = torch.randn(2, 4, 4, 4)
ERRORS = {
    "channels of actnorm": (lambda: ActNorm(3)(X), ValueError, r"ActNorm expects 3 channels.*\(2, 4, 4, 4\)"),
    "channels of luconv": (lambda: LUConv1x1(3).inverse(X), ValueError, "LUConv1x1 expects 3 channels"),
    "channels of coupling": (
        lambda: AffineCoupling(6, ConvConditioner(6))(X), ValueError, "AffineCoupling expects 6 channels"),
    "rank too low": (lambda: ActNorm(4)(torch.randn(4)), ValueError, r"0 to 3 spatial dimensions, got shape \(4,\)"),
    "rank too high": (lambda: LUConv1x1(1)(torch.randn(1, 1, 1, 1, 1, 1)), ValueError, "0 to 3 spatial dimensions"),
    "empty channels": (lambda: Squeeze()(X[:, :0]), ValueError, r"no size 0.*got shape \(2, 0, 4, 4\)"),
    "empty positions": (lambda: Squeeze().inverse(X[..., :0]), ValueError, r"no size 0.*got shape \(2, 4, 4, 0\)"),
    "not a tensor": (lambda: ActNorm(4)([1.0]), TypeError, "expects a tensor, got list"),
    "integer images": (
        lambda: ActNorm(4)(X.to(torch.uint8)), TypeError, "floating-point inputs, got torch.uint8.*dequantize"),
    "squeeze of odd sizes": (lambda: Squeeze()(X[..., :3]), ValueError, r"that 2 divides, got shape \(2, 4, 4, 3\)"),
    "inverse squeeze": (lambda: Squeeze().inverse(X[:, :3]), ValueError, r"2\*\*2 divides"),
    "inverse squeeze of half the channels": (lambda: Squeeze().inverse(X[:, :2]), ValueError, r"2\*\*2 divides"),
    "squeeze factor": (lambda: Squeeze(0), ValueError, "at least 1, got 0"),
    "batch of actnorm's context": (
        lambda: ActNorm(4, MLPConditioner(3, 8))(X, torch.randn(3, 3)), ValueError,
        r"ActNorm expects a context of batch size 2.*\(3, 3\)"),
    "batch of luconv's context": (
        lambda: LUConv1x1(4, MLPConditioner(3, 36))(X, torch.randn(4, 3)), ValueError,
        r"LUConv1x1 expects a context of batch size 2.*\(4, 3\)"),
    "batch of coupling's context": (
        lambda: AffineCoupling(4, CouplingConditioner(4, 8, 3))(X, torch.randn(3, 3)), ValueError,
        "AffineCoupling expects a context of batch size 2"),
    "no context at all": (
        lambda: LUConv1x1(4, MLPConditioner(3, 36))(X, torch.randn(0, 3)), ValueError, r"batch size 2.*\(0, 3\)"),
    "contexts of two batch sizes": (
        lambda: AffineCoupling(4, ConvConditioner(4))(X, (torch.randn(1, 3), torch.randn(2, 3))), ValueError,
        r"batch size 2 like its inputs, got shape \(1, 3\)"),
    "scalar context": (lambda: ActNorm(4, MLPConditioner(3, 8))(X, torch.tensor(1.0)), ValueError, "batch size 2"),
    "actnorm without context": (
        lambda: ActNorm(4, MLPConditioner(3, 8))(X), ValueError, "^ActNorm.* expects a context, got None"),
    "luconv without context": (
        lambda: LUConv1x1(4, MLPConditioner(3, 36))(X), ValueError, "^LUConv1x1.* expects a context, got None"),
    "coupling without context": (
        lambda: AffineCoupling(4, CouplingConditioner(4, 8, 3))(X), ValueError, "context tensor with 3.*NoneType"),
    "context of another type": (
        lambda: ActNorm(4, MLPConditioner(3, 8))(X, "sunny"), TypeError, "context of tensors.*str"),
    "channels of the context": (
        lambda: AffineCoupling(4, CouplingConditioner(4, 8, 3))(X, torch.randn(2, 2, 4, 4)), ValueError,
        r"3 channels in dimension 1, got shape \(2, 2, 4, 4\)"),
    "channels of a global context": (
        lambda: ActNorm(4, GlobalConditioner(3, 8))(X, torch.randn(2, 2, 4, 4)), ValueError, "with 3 channels"),
    "rank of the context": (
        lambda: AffineCoupling(4, CouplingConditioner(4, 8, 3))(X, torch.randn(2, 3, 4)), ValueError,
        "2 spatial dimensions or none"),
    "a trace for one operation": (
        lambda: ActNorm(4, MLPConditioner(3, 8))(X, Trace([X, X])), ValueError,
        "^ActNorm is a single operation.*Trace"),
    "a trace for a coupling": (
        lambda: AffineCoupling(4, ConvConditioner(4))(X, Trace([X])), ValueError,
        "^AffineCoupling is a single operation"),
    "a trace of another length": (
        lambda: Chain([ActNorm(4), ActNorm(4)])(X, Trace([X])), ValueError,
        r"structure \[ActNorm x2\], got \[\*\]"),
    "a trace of another nesting": (
        lambda: Chain([ActNorm(4), Chain([ActNorm(4)])])(X, Trace([X, X])), ValueError,
        r"structure \[ActNorm, \[ActNorm\]\], got \[\* x2\]"),
    "a deeper trace": (
        lambda: Chain([Inverse(ActNorm(4))])(X, Trace([Trace([X])])), ValueError, r"\[Inverse\], got \[\[\*\]\]"),
    "a trace for a split": (
        lambda: Split(ActNorm(2))(X, Trace([X])), ValueError, r"structure \[IdentityTransform, ActNorm\]"),
    "coupling of one channel": (lambda: AffineCoupling(1, ConvConditioner(2)), ValueError, "2 channels, got 1"),
    "split of one channel": (lambda: Split(ActNorm(1))(X[:, :1]), ValueError, r"at least 2 channels.*\(2, 1, 4, 4\)"),
    "inner changes the shape": (lambda: Split(Squeeze())(X), ValueError, "keep the shape.*Inverse of its Squeeze"),
    "actnorm's net": (
        lambda: ActNorm(4, MLPConditioner(3, 7))(X, torch.randn(2, 3)), ValueError, r"return \(2, 8\).*got \(2, 7\)"),
    "luconv's net": (
        lambda: LUConv1x1(4, MLPConditioner(3, 35))(X, torch.randn(2, 3)), ValueError, r"return \(2, 36\)"),
    "coupling's net": (lambda: AffineCoupling(4, nn.Identity())(X), TypeError, "forward"),
    "coupling's net of too few channels": (
        lambda: AffineCoupling(4, Constant(torch.zeros(2, 2, 4)))(torch.randn(2, 4, 4)), ValueError,
        r"to return \(2, 4, 4\), got \(2, 2, 4\); let it end in 4 channels"),
    "a vector for a net of images": (
        lambda: ActNorm(4, GlobalConditioner(3, 8))(X, torch.randn(2, 3)), ValueError, "with 2 spatial dimensions"),
    "spatial dimensions of a net": (lambda: GlobalConditioner(3, 8, spatial_dims=0), ValueError, "use MLPConditioner"),
    "spatial dimensions of a coupling's net": (
        lambda: CouplingConditioner(4, spatial_dims=4), ValueError, "1 to 3 spatial dimensions, got 4"),
}


@pytest.mark.parametrize("mistake", ERRORS)
def test_mistakes_are_named(mistake):
    call, error, message = ERRORS[mistake]
    with pytest.raises(error, match=message):
        call()


OPERATIONS = {
    "ActNorm": partial(ActNorm, 2),
    "LUConv1x1": partial(LUConv1x1, 2),
    "AffineCoupling": lambda: AffineCoupling(2, ConvConditioner(2)),
    "Squeeze": partial(Squeeze, 1),
    "Split": lambda: Split(ActNorm(1)),
    "Chain": lambda: Chain([ActNorm(2)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_name_themselves_in_both_directions(name):
    bijector = OPERATIONS[name]()
    for direction in (bijector, bijector.inverse):
        with pytest.raises(TypeError, match=f"^{name} expects floating-point inputs"):
            direction(torch.ones(1, 2, 2, 2, dtype=torch.uint8))


def test_a_bijector_without_methods_says_so():
    with pytest.raises(NotImplementedError, match="Bijector does not define forward"):
        Bijector()(X)
    with pytest.raises(NotImplementedError, match="Bijector does not define inverse"):
        Bijector().inverse(X)
