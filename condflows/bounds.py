"""Soft bounds of what nets read and predict, with their derivatives written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from condflows.hooks import is_transformed

__all__ = ["soft_bound", "soft_bound_of_asinh"]

Function = Callable[[Tensor, float], tuple[Tensor, Callable[[], Tensor]]]
"""``(x, bound) -> (value, derivative)``, the derivative as a function that computes it."""

LARGEST = 1e18  # whose square is finite
MANY = 512  # values
HALF = torch.float16, torch.bfloat16


def soft_bound(x: Tensor, bound: float) -> Tensor:
    r"""Return :math:`x / \sqrt{1 + (x / b)^2}`: the identity to second order at 0, always within :math:`\pm b`."""
    return _run(_soft_bound, x, bound)


def soft_bound_of_asinh(x: Tensor, bound: float) -> Tensor:
    r"""Return ``soft_bound(asinh(x), bound)``, which grows like a logarithm before it is bounded."""
    return _run(_soft_bound_of_asinh, x, bound)


def _soft_bound(x: Tensor, bound: float) -> tuple[Tensor, Callable[[], Tensor]]:
    x = x.clamp(-LARGEST, LARGEST)
    square = torch.addcmul(x.new_ones(()), x, x, value=bound**-2)
    root = square.sqrt()
    return x / root, lambda: (square * root).reciprocal()


def _soft_bound_of_asinh(x: Tensor, bound: float) -> tuple[Tensor, Callable[[], Tensor]]:
    value, slope = _soft_bound(_asinh(x), bound)
    return value, lambda: slope() * torch.addcmul(x.new_ones(()), x, x).rsqrt()


def _asinh(x: Tensor) -> Tensor:
    r"""Return ``torch.asinh(x)``; for many values as :math:`\pm \log (|x| + \sqrt{1 + x^2})`, much faster on a CPU."""
    if is_transformed() or x.numel() < MANY:
        return torch.asinh(x)
    one = x.new_ones(())
    sign = torch.copysign(one, x)
    return sign * torch.addcmul(torch.addcmul(one, x, x).sqrt(), sign, x).log()


def _run(function: Function, x: Tensor, bound: float) -> Tensor:
    """Apply a function to each value, in at least float32."""
    if x.dtype in HALF:
        return _run(function, x.float(), bound).to(x.dtype)
    if x.requires_grad and torch.is_grad_enabled() and not is_transformed():
        return _Elementwise.apply(x, function, bound)
    return function(x, bound)[0]


class _Elementwise(torch.autograd.Function):
    """A function of each value whose backward pass is one product with its derivative, not one for each operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Function, bound: float) -> Tensor:  # type: ignore[override]
        value, slope = function(x, bound)
        derivative = slope()
        ctx.save_for_backward(x, derivative)
        ctx.function, ctx.bound = function, bound
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        x, derivative = ctx.saved_tensors
        if torch.is_grad_enabled():  # the derivative will be differentiated itself
            derivative = ctx.function(x, ctx.bound)[1]()
        return gradient * derivative, None, None
