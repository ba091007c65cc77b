"""The affine coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condflows.affine import AffineMap, soft_affine
from condflows.bijector import Bijector, check_count, check_inputs, predict, sum_log_scale
from condflows.trace import Context

__all__ = ["AffineCoupling"]


class AffineCoupling(Bijector):
    r"""Affine coupling :math:`y_1 = x_1,\; y_2 = s(x_1, c)\, x_2 + t(x_1, c)`.

    The first ``C - C // 2`` channels pass; the other ``C // 2`` are scaled and shifted by what
    ``conditioner(first_part, context)`` says: ``(batch, 2 * (C // 2), *spatial)``, raw scales first, then raw
    shifts, turned into :math:`\log s` and :math:`t` by ``affine``. As the learned prior of a split it predicts scale
    and mean of the second half from the first.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant: the sum of :math:`\log s`; the default
    keeps :math:`s` in :math:`[e^{-2}, e^2]`, so inverting multiplies an error by at most 7.4.
    Paper: RealNVP (arXiv 1605.08803); Full-Glow (arXiv 2012.05846) equations (7) to (10).

    Args:
        num_channels: C, at least 2; odd is fine.
        conditioner: a module called as ``conditioner(first_part, context)``.
        affine: maps raw outputs to log-scale and shift: :func:`condflows.affine.soft_affine`, the paper's
            :func:`condflows.affine.sigmoid_affine`, or your own.

    Raises:
        ValueError: fewer than two channels, inputs with another number of channels, a context of another batch size,
            or a conditioner that returns another shape.

    >>> from condflows.conditioners import CouplingConditioner
    >>> coupling = AffineCoupling(4, CouplingConditioner(4, width=8))
    >>> outputs, logabsdet = coupling(torch.randn(2, 4, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2]))
    """

    def __init__(self, num_channels: int, conditioner: nn.Module, affine: AffineMap = soft_affine):
        super().__init__()
        check_count(num_channels, 2, "AffineCoupling expects at least 2 channels", "put a Squeeze before it")
        self.num_channels = num_channels
        self.conditioner = conditioner
        self.affine = affine

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, log_scale, shift = self._split(inputs, context)
        return torch.cat([first, second * log_scale.exp() + shift], dim=1), sum_log_scale(log_scale, log_scale)

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, log_scale, shift = self._split(inputs, context)
        return torch.cat([first, (second - shift) * (-log_scale).exp()], dim=1), -sum_log_scale(log_scale, log_scale)

    def _split(self, inputs: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        check_inputs(inputs, "AffineCoupling", self.num_channels)
        moved = self.num_channels // 2
        first, second = inputs.split([self.num_channels - moved, moved], dim=1)
        raw = predict(self.conditioner, "AffineCoupling", inputs, context, first).to(inputs.dtype)
        expected = (len(inputs), 2 * moved, *inputs.shape[2:])
        if raw.shape != expected:
            raise ValueError(f"AffineCoupling expects its conditioner to return {expected}, got {tuple(raw.shape)}; "
                             f"let it end in {2 * moved} channels and keep the spatial size")
        return first, second, *self.affine(*raw.chunk(2, dim=1))
