"""Functions that turn a net's raw outputs into the log-scale and shift of an affine map."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from condflows.bounds import soft_bound

__all__ = ["AffineMap", "sigmoid_affine", "soft_affine"]

AffineMap = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(raw_scale, raw_shift) -> (log_scale, shift)``, all of one shape."""


def soft_affine(raw_scale: Tensor, raw_shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""Bound raw outputs softly, the default.

    :math:`\log s = o_1 / \sqrt{1 + (o_1/2)^2}` and :math:`t = o_2 / \sqrt{1 + (o_2/10)^2}`. Zero outputs are the
    identity map. The scale stays in :math:`[e^{-2}, e^2] = [0.135, 7.39]`, so inverting
    multiplies an error by at most 7.4; the shift stays within :math:`\pm 10`, so that subtracting it keeps the digits
    of data of order 1 however extreme the context is.

    Shapes: any, to the same. It raises nothing. Paper: none; the bound is that of condflows.

    >>> soft_affine(torch.tensor([0.0, 1.0, 1e9]), torch.tensor([0.0, 1.0, 1e9]))
    (tensor([0.0000, 0.8944, 2.0000]), tensor([ 0.0000,  0.9950, 10.0000]))
    """
    return soft_bound(raw_scale, 2), soft_bound(raw_shift, 10)


def sigmoid_affine(raw_scale: Tensor, raw_shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""Bound raw outputs as the paper's equations (9) and (10) do.

    :math:`s = \mathrm{sigmoid}(o_1 + 2)` and :math:`t = o_2`. The scale is kept above :math:`e^{-5} = 0.0067`, the
    sigmoid of -5, so that inverting multiplies an error by at most 148; where it is kept, its gradient is 0. The shift
    is bounded softly to :math:`\pm 100`. Zero outputs scale by 0.881.

    Shapes: any, to the same. It raises nothing. Paper: Full-Glow (arXiv 2012.05846).

    >>> log_scale, shift = sigmoid_affine(torch.tensor([0.0, -1e9]), torch.zeros(2))
    >>> log_scale.exp(), shift
    (tensor([0.8808, 0.0067]), tensor([0., 0.]))
    """
    return F.logsigmoid(raw_scale + 2).clamp(min=-5), soft_bound(raw_shift, 100)
