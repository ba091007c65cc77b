"""The coupling by monotone splines."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor, nn

from condflows.bijector import at_least_float32, precise, sum_log_scale
from condflows.checks import check_count
from condflows.couplings.coupling import Coupling
from condflows.couplings.rational_quadratic import spline, unspline
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["SplineCoupling"]


class SplineCoupling(Coupling):
    r"""Coupling by monotone rational-quadratic splines, :math:`y_1 = x_1,\; y_2 = g(x_2; x_1, c)`.

    The first ``C - C // 2`` channels pass; every value of the others goes through a spline of its own on
    :math:`[-b, b]`, and stays as it is outside. ``conditioner(first_part, context)`` returns
    ``(batch, (3*K - 1) * (C // 2), *spatial)`` for K bins: raw widths :math:`o_w`, raw heights :math:`o_h` and raw
    slopes :math:`o_d` at the knots between the bins, of each for all channels the first one, then the second and so on.

    .. math:: w = 2 b \left(\tfrac{0.2}{K} + 0.8\, \mathrm{softmax}(o_w)\right), \qquad d = e^{\beta(o_d)}

    and heights h as widths, with :math:`\beta` the soft bound to :math:`\pm 2`; both ends have slope 1. Zero outputs
    are the identity map. In the bin at :math:`(x_k, y_k)`, with :math:`s = h / w` and :math:`\theta = (x - x_k) / w`,

    .. math:: g(x) = y_k + h\, \frac{s \theta^2 + d_k \theta (1 - \theta)}
                                    {s + (d_k + d_{k+1} - 2 s)\, \theta (1 - \theta)}

    Inverse: the root of a quadratic equation in :math:`\theta`, in the form that does not cancel. With 8 bins the slope
    stays between 1e-4 and 100 whatever the net returns, so inverting multiplies an error by at most 10,000.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant, in nats: the sum of :math:`\log g'(x_2)`.
    Computed in at least float32, also under autocast. Paper: Neural Spline Flows (arXiv 1906.04032).

    Args:
        num_channels: C, at least 2; odd is fine.
        conditioner: a module called as ``conditioner(first_part, context)``.
        bins: K, at least 1.
        bound: b, positive.

    Raises:
        ValueError: fewer than two channels, no bin, a bound that is not positive and finite, inputs with another number
            of channels, a context of another batch size, or a conditioner that returns another shape.

    >>> net = conditioners.MLPConditioner(2, (3 * 8 - 1) * 2, context_features=5)
    >>> coupling = SplineCoupling(4, net)
    >>> x = torch.randn(3, 4)
    >>> outputs, logabsdet = coupling(x, context=torch.randn(3, 5))
    >>> torch.allclose(outputs, x, atol=1e-5), logabsdet.shape  # the identity until it is trained
    (True, torch.Size([3]))
    """

    def __init__(self, num_channels: int, conditioner: nn.Module, bins: int = 8, bound: float = 4.0):
        check_count(bins, 1, "SplineCoupling expects at least 1 bin")
        if not (isinstance(bound, Real) and 0 < bound < math.inf):
            raise ValueError(f"SplineCoupling expects a positive, finite bound, got {bound!r}; pass one such as 4.0")
        super().__init__(num_channels, conditioner, 3 * bins - 1)
        self.bins = bins
        self.bound = float(bound)

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw = self.split(inputs, context)
        with precise(inputs):
            moved, log_slope = spline(second.to(at_least_float32(second.dtype)), raw, self.bins, self.bound)
        return torch.cat([first, moved.to(first.dtype)], dim=1), sum_log_scale(log_slope, second)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw = self.split(inputs, context)
        with precise(inputs):
            moved, log_slope = unspline(second.to(at_least_float32(second.dtype)), raw, self.bins, self.bound)
        return torch.cat([first, moved.to(first.dtype)], dim=1), -sum_log_scale(log_slope, second)
