"""The coupling by mixtures of logistic distributions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condflows.affine import soft_affine
from condflows.bijector import at_least_float32, precise, sum_log_scale
from condflows.checks import check_count
from condflows.couplings.coupling import Coupling
from condflows.couplings.logistic_mixture import Mixture
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["MixtureCoupling"]


class MixtureCoupling(Coupling):
    r"""Coupling by distribution functions of logistic mixtures, :math:`y_1 = x_1,\; y_2 = s\, g(x_2) + t`.

    The first ``C - C // 2`` channels pass. For every value of the others, with :math:`\sigma` the logistic function,

    .. math:: g(x) = \mathrm{logit}\left(0.1\, \sigma(x)
              + 0.9 \sum_{k=1}^K \pi_k\, \sigma\left((x - \mu_k)\, e^{-\lambda_k}\right)\right)

    ``conditioner(first_part, context)`` returns ``(batch, (3*K + 2) * (C // 2), *spatial)``: raw weights, whose softmax
    is :math:`\pi`, raw means, raw :math:`\lambda`, of each for all channels the first component, then the second and so
    on; then raw :math:`\log s` and t as of :func:`condflows.affine.soft_affine`. Means are bounded softly to
    :math:`\pm 5` and :math:`\lambda` to :math:`\pm 3`. Zero outputs are the identity map.

    The slope of g stays between 4e-3 and 20, whatever the net returns. Inverse: Newton's method between bounds that
    hold the root, to the precision of the dtype, with the gradients of the implicit function. It evaluates g about ten
    times; compiled or exported, where no value may be looked at, 30 times in float32 and 50 in float64.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant, in nats: the sum of
    :math:`\log s + \log g'(x_2)`. Computed in at least float32, also under autocast.
    Paper: Flow++ (arXiv 1902.00275) section 3.2.

    Args:
        num_channels: C, at least 2; odd is fine.
        conditioner: a module called as ``conditioner(first_part, context)``.
        components: K, at least 1.

    Raises:
        ValueError: fewer than two channels, no component, inputs with another number of channels, a context of another
            batch size, or a conditioner that returns another shape.

    >>> net = conditioners.MLPConditioner(2, (3 * 8 + 2) * 2, context_features=5)
    >>> coupling = MixtureCoupling(4, net)
    >>> x = torch.randn(3, 4)
    >>> outputs, logabsdet = coupling(x, context=torch.randn(3, 5))
    >>> torch.allclose(outputs, x, atol=1e-5), logabsdet.shape  # the identity until it is trained
    (True, torch.Size([3]))
    """

    def __init__(self, num_channels: int, conditioner: nn.Module, components: int = 8):
        check_count(components, 1, "MixtureCoupling expects at least 1 component")
        super().__init__(num_channels, conditioner, 3 * components + 2)
        self.components = components

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw = self.split(inputs, context)
        with precise(inputs):
            mixture, log_scale, shift = self._mixture(raw.to(at_least_float32(inputs.dtype)))
            moved, log_slope = mixture.logit(second.to(log_scale.dtype))
            moved = torch.addcmul(shift, moved, log_scale.exp())
        return torch.cat([first, moved.to(first.dtype)], dim=1), sum_log_scale(log_slope + log_scale, second)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        first, second, raw = self.split(inputs, context)
        with precise(inputs):
            mixture, log_scale, shift = self._mixture(raw.to(at_least_float32(inputs.dtype)))
            moved = (second.to(log_scale.dtype) - shift) * (-log_scale).exp()
            moved, log_slope = mixture.unlogit(moved)
        return torch.cat([first, moved.to(first.dtype)], dim=1), -sum_log_scale(log_slope + log_scale, second)

    def _mixture(self, raw: Tensor) -> tuple[Mixture, Tensor, Tensor]:
        """Return the mixtures, and log-scale and shift of what follows them."""
        raw = raw.unflatten(1, (self.outputs, -1))
        of_mixture, of_affine = raw.split([3 * self.components, 2], 1)
        return Mixture.of(of_mixture.unflatten(1, (3, self.components))), *soft_affine(*of_affine.unbind(1))
