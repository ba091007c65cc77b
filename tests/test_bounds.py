"""Soft bounds: their values, and derivatives that are written out."""

import pytest
import torch
from torch.autograd import forward_ad

from condflows.bounds import soft_bound, soft_bound_of_asinh
from condflows.conditioners import MLPConditioner

FUNCTIONS = {
    soft_bound: lambda x, b: b * torch.sin(torch.atan(x / b)),
    soft_bound_of_asinh: lambda x, b: b * torch.sin(torch.atan(torch.asinh(x) / b)),
}
BOUNDS = [0.5, 2, 3, 10, 100]
SIZES = [7, 2000]  # of few and many values


def values(size, dtype=torch.float64):
    x = torch.cat([torch.zeros(2), torch.randn(size), torch.logspace(-6, 17, size), -torch.logspace(-6, 17, size)])
    return x.to(dtype)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_derivatives(function, bound, size):
    x = values(size).requires_grad_()
    y = x.detach().clone().requires_grad_()
    got, want = function(x, bound), FUNCTIONS[function](y, bound)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(function(x, bound), want.detach(), rtol=1e-12, atol=1e-12)
    (slope,), (expected,) = torch.autograd.grad(got.sum(), x), torch.autograd.grad(want.sum(), y)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-12)
    assert slope[0] == pytest.approx(1)  # at 0, where the sign changes


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("size", [5, 600])
def test_derivatives_of_derivatives(function, size):
    x = torch.randn(size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: function(x, 2), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: function(x, 2), x)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_forward_derivatives_of_gradients(function, size):
    """Differentiate a gradient in forward mode, with and without a graph of it."""
    x, tangent = torch.randn(size, dtype=torch.float64), torch.randn(size, dtype=torch.float64)
    want = torch.autograd.functional.hvp(lambda x: FUNCTIONS[function](x, 2).sum(), x, tangent)[1]
    for create_graph in (False, True):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.clone().requires_grad_(), tangent)
            (gradient,) = torch.autograd.grad(function(dual, 2).sum(), dual, create_graph=create_graph)
            torch.testing.assert_close(forward_ad.unpack_dual(gradient).tangent, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_transforms_of_torch(function, size):
    x = values(size)
    slope = torch.autograd.functional.jvp(lambda x: FUNCTIONS[function](x, 3), x, torch.ones_like(x))[1]
    total = torch.func.grad(lambda x: function(x, 3).sum())
    torch.testing.assert_close(total(x), slope, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(torch.func.jvp(lambda x: function(x, 3), (x,), (torch.ones_like(x),))[1], slope,
                               rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(torch.vmap(total)(x[:, None])[:, 0], slope, rtol=1e-6, atol=1e-12)
    for leaf in (x, x.clone().requires_grad_()):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(leaf, torch.ones_like(x))
            torch.testing.assert_close(forward_ad.unpack_dual(function(dual, 3)).tangent, slope, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("size", SIZES)
def test_every_precision_up_to_infinity(function, dtype, bound, size):
    """Check the range of the dtype, infinite values among them, with and without gradients."""
    x = torch.cat([values(size), torch.tensor([torch.inf, -torch.inf])]).to(dtype).requires_grad_()
    y = function(x, bound)
    with torch.no_grad():
        assert torch.equal(function(x, bound), y)
    eps = torch.finfo(dtype).eps
    assert y.dtype == dtype
    assert (y.abs() <= bound * (1 + eps)).all()
    assert (y[-2:].abs() >= bound * (1 - 4 * eps)).all()
    want = FUNCTIONS[function](x.detach().double(), bound)
    torch.testing.assert_close(y.double(), want, rtol=4 * eps, atol=4 * eps)
    assert torch.isfinite(torch.autograd.grad(y.sum(), x)[0][:-2]).all()
    assert torch.isnan(function(torch.full((size,), torch.nan, dtype=dtype), bound)).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_programs_hold_no_python():
    net, x = MLPConditioner(3, 4), torch.randn(5, 3)
    traced = torch.jit.trace(net, x)
    assert "PythonOp" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), net(x))
