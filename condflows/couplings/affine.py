"""The affine coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condflows.affine import AffineMap, soft_affine
from condflows.bijector import sum_log_scale
from condflows.couplings.coupling import Coupling
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["AffineCoupling"]


class AffineCoupling(Coupling):
    r"""Affine coupling :math:`y_1 = x_1,\; y_2 = s(x_1, c)\, x_2 + t(x_1, c)`.

    The first ``C - C // 2`` channels pass; the other ``C // 2`` are scaled and shifted.
    ``conditioner(first_part, context)`` returns ``(batch, 2 * (C // 2), *spatial)``, raw scales first, then raw shifts,
    which ``affine`` turns into :math:`\log s` and :math:`t`. As the learned prior of a split it predicts scale
    and mean of the second half from the first. Inverse: :math:`x_1 = y_1,\; x_2 = (y_2 - t(y_1, c)) / s(y_1, c)`.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant, in nats: the sum of :math:`\log s`; the
    default keeps :math:`s` in :math:`[e^{-2}, e^2]`, so inverting multiplies an error by at most 7.4.
    Paper: RealNVP (arXiv 1605.08803); C-Flow (arXiv 1912.07009) and Full-Glow (arXiv 2012.05846) equations (7) to (10).

    Args:
        num_channels: C, at least 2; odd is fine.
        conditioner: a module called as ``conditioner(first_part, context)``.
        affine: maps raw outputs to log-scale and shift: :func:`condflows.affine.soft_affine`, the paper's
            :func:`condflows.affine.sigmoid_affine`, or your own.

    Raises:
        ValueError: fewer than two channels, inputs with another number of channels, a context of another batch size,
            or a conditioner that returns another shape.

    Without a context, and with one of another size than the inputs:

    >>> coupling = AffineCoupling(4, conditioners.CouplingConditioner(4, width=8))
    >>> outputs, logabsdet = coupling(torch.randn(2, 4, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2]))
    >>> coupling = AffineCoupling(4, conditioners.CouplingConditioner(4, width=8, context_channels=3))
    >>> coupling(torch.randn(2, 4, 8, 8), context=torch.rand(2, 3, 20, 20))[0].shape
    torch.Size([2, 4, 8, 8])
    """

    outputs = 2  # of the class too, for modules that were pickled whole before couplings had this attribute

    def __init__(self, num_channels: int, conditioner: nn.Module, affine: AffineMap = soft_affine):
        super().__init__(num_channels, conditioner, outputs=2)
        self.affine = affine

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw = self.split(inputs, context)
        log_scale, shift = self.affine(*raw.to(inputs.dtype).chunk(2, dim=1))
        moved = torch.addcmul(shift, second, log_scale.exp())
        return torch.cat([first, moved], dim=1), sum_log_scale(log_scale, second)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw = self.split(inputs, context)
        log_scale, shift = self.affine(*raw.to(inputs.dtype).chunk(2, dim=1))
        moved = (second - shift) * (-log_scale).exp()
        return torch.cat([first, moved], dim=1), -sum_log_scale(log_scale, second)
