"""The affine coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condflows.affine import AffineMap, soft_affine
from condflows.bijector import Bijector, parameters_from, sum_log_scale
from condflows.checks import check_count, check_inputs
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["AffineCoupling"]


class AffineCoupling(Bijector):
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

    def __init__(self, num_channels: int, conditioner: nn.Module, affine: AffineMap = soft_affine):
        super().__init__()
        check_count(num_channels, 2, "AffineCoupling expects at least 2 channels",
                    "for one number use an ActNorm with a conditioner or a spline (One number, in "
                    "docs/distributions.md), for images of one channel put a Squeeze before it")
        self.num_channels = num_channels
        self.conditioner = conditioner
        self.affine = affine

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True unless the conditioner says that it ignores its context."""
        return getattr(self.conditioner, "reads_context", True)

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw_scale, raw_shift = self._split(inputs, context)
        log_scale, shift = self.affine(raw_scale, raw_shift)
        moved = torch.addcmul(shift, second, log_scale.exp())
        return torch.cat([first, moved], dim=1), sum_log_scale(log_scale, second)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw_scale, raw_shift = self._split(inputs, context)
        log_scale, shift = self.affine(raw_scale, raw_shift)
        moved = (second - shift) * (-log_scale).exp()
        return torch.cat([first, moved], dim=1), -sum_log_scale(log_scale, second)

    def _split(self, inputs: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the part that passes, the part that is moved, and the conditioner's raw scales and shifts for it."""
        check_inputs(inputs, "AffineCoupling", self.num_channels)
        moved = self.num_channels // 2
        first, second = inputs.split_with_sizes([self.num_channels - moved, moved], dim=1)
        raw, rows = parameters_from(self.conditioner, "AffineCoupling", inputs, context, first)
        expected = (rows, 2 * moved, *inputs.shape[2:])
        if raw.shape != expected:
            raise ValueError(f"AffineCoupling expects its conditioner to return {expected}, got "
                             f"{tuple(raw.shape)}; let it end in {2 * moved} channels and keep the spatial size")
        raw_scale, raw_shift = raw.to(inputs.dtype).chunk(2, dim=1)
        return first, second, raw_scale, raw_shift
