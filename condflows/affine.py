"""From a net's raw outputs to the log-scale and shift of an affine map: the choices, as functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AffineMap", "sigmoid_affine", "soft_affine"]

AffineMap = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(raw_scale, raw_shift) -> (log_scale, shift)``, all of one shape."""


def soft_bound(x: Tensor, bound: float) -> Tensor:
    r""":math:`x / \sqrt{1 + (x / b)^2}`: the identity to second order at 0, and always within :math:`\pm b`."""
    return x * torch.rsqrt(1 + (x / bound).square())


def soft_affine(raw_scale: Tensor, raw_shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""The default: :math:`\log s = o_1 / \sqrt{1 + (o_1/2)^2}` and :math:`t = o_2 / \sqrt{1 + (o_2/100)^2}`.

    Zero outputs are the identity map. The scale stays in :math:`[e^{-2}, e^2] = [0.135, 7.39]`, so inverting
    multiplies an error by at most 7.4; the shift stays within :math:`\pm 100`, so that subtracting it keeps the
    digits of the data however extreme the context is.
    """
    return soft_bound(raw_scale, 2), soft_bound(raw_shift, 100)


def sigmoid_affine(raw_scale: Tensor, raw_shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""The paper's equations (9) and (10): :math:`s = \mathrm{sigmoid}(o_1 + 2)` and :math:`t = o_2`.

    The scale is kept above :math:`e^{-10} = 4.5\cdot10^{-5}`, so that inverting multiplies an error by at most
    22,026 and cannot overflow; above that bound it is the paper's. Zero outputs scale by 0.881.
    """
    return F.logsigmoid(raw_scale + 2).clamp(min=-10), raw_shift
