"""Activation normalization, plain or predicted from a context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condflows.affine import AffineMap, soft_affine
from condflows.bijector import Bijector, at_least_float32, parameters_from, refuse_labels, sum_log_scale
from condflows.checks import check_count, check_inputs
from condflows.rows import align_rows, repeat_rows, shares_context
from condflows.trace import Context

__all__ = ["ActNorm"]


class ActNorm(Bijector):
    r"""Per-channel affine map :math:`y = e^a (e^\alpha x + u \beta) + b`.

    :math:`a` (``log_scale``), :math:`b` (``shift``) and the constant :math:`u` (``unit``) are set by
    :func:`condflows.initialize`: every channel of the output has mean 0 and standard deviation 1, and :math:`u` is the
    standard deviation of the input (1 before that). Without a conditioner :math:`\alpha = \beta = 0`. With one, it
    predicts them as offsets: ``conditioner(context)`` is ``(batch, 2*C)``, or ``(batch, 2*C, *spatial)`` for separate
    offsets at every position; the raw :math:`\alpha` come first, then the raw :math:`\beta`, and ``affine`` bounds
    both.
    Inverse: :math:`x = e^{-a - \alpha} (y - b - e^a u \beta)`.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant, in nats: the sum of :math:`a + \alpha`
    over channels and positions. Paper: Glow (arXiv 1807.03039) section 3.1; Full-Glow (arXiv 2012.05846) equation (5).

    Args:
        num_channels: C, the number of channels.
        conditioner: a module that maps the context to the offsets, or None.
        affine: maps raw offsets to bounded ones; see :func:`condflows.affine.soft_affine`.

    Raises:
        ValueError: the inputs have another number of channels, the context is missing or of another batch size, or
            the conditioner returns another shape.

    >>> outputs, logabsdet = ActNorm(3)(torch.randn(2, 3, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2]))

    With a conditioner, here of an image with one channel:

    >>> actnorm = ActNorm(3, conditioners.GlobalConditioner(1, 2 * 3))
    >>> actnorm(torch.randn(2, 3, 8, 8), context=torch.rand(2, 1, 16, 16))[0].shape
    torch.Size([2, 3, 8, 8])
    """

    unit: Tensor

    def __init__(self, num_channels: int, conditioner: nn.Module | None = None, affine: AffineMap = soft_affine):
        super().__init__()
        check_count(num_channels, 1, "ActNorm expects at least 1 channel")
        self.num_channels = num_channels
        self.conditioner = conditioner
        self.affine = affine
        self.log_scale = nn.Parameter(torch.zeros(num_channels))
        self.shift = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("unit", torch.ones(num_channels))

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True with a conditioner."""
        return self.conditioner is not None

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale_and_shift(inputs, context)
        values, scale, offset = align_rows(inputs, log_scale.exp(), shift)
        return torch.addcmul(offset, values, scale).reshape(inputs.shape), sum_log_scale(log_scale, inputs)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale_and_shift(inputs, context)
        values, scale, offset = align_rows(inputs, (-log_scale).exp(), shift)
        return ((values - offset) * scale).reshape(inputs.shape), -sum_log_scale(log_scale, inputs)

    def _log_scale_and_shift(self, inputs: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Return log-scale and shift: one row for all inputs, or one for each row of the context."""
        check_inputs(inputs, "ActNorm", self.num_channels)
        log_scale, shift = _per_channel(self.log_scale, inputs), _per_channel(self.shift, inputs)
        if self.conditioner is None:
            return log_scale, shift
        alpha, beta = self._offsets(self.conditioner, inputs, context)
        return log_scale + alpha, shift + log_scale.exp() * _per_channel(self.unit, inputs) * beta

    def _offsets(self, conditioner: nn.Module, inputs: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        raw, rows = parameters_from(conditioner, "ActNorm", inputs, context)
        vector = (rows, 2 * self.num_channels)
        if raw.shape != vector and raw.shape != vector + inputs.shape[2:]:
            if raw.shape[:2] == vector and raw.ndim == inputs.ndim:
                raise ValueError(f"ActNorm expects its conditioner to return maps of the size of the inputs, "
                                 f"{tuple(inputs.shape[2:])}, got {tuple(raw.shape[2:])}; resize the context to it")
            refuse_labels(raw, vector, "ActNorm")
            raise ValueError(f"ActNorm expects its conditioner to return {vector} or {vector + tuple(inputs.shape[2:])}"
                             f", got {tuple(raw.shape)}; give it num_outputs={vector[1]}")
        raw = raw.to(inputs.dtype).view(*raw.shape, *(1,) * (inputs.ndim - raw.ndim))
        return self.affine(*raw.chunk(2, dim=1))

    @torch.no_grad()
    def initialize_from(self, inputs: Tensor, context: Context = None) -> None:
        """Set scale and shift so that ``forward`` of this batch has mean 0 and standard deviation 1 per channel.

        A channel that is constant in the batch has no scale to learn from: it is centred and keeps scale 1.
        """
        check_inputs(inputs, "ActNorm", self.num_channels)
        values = inputs.to(at_least_float32(inputs.dtype))
        self.unit.copy_(mean_and_deviation(values, inputs.dtype)[1])
        if self.conditioner is not None:
            alpha, beta = self._offsets(self.conditioner, inputs, context)
            alpha, beta = (repeat_rows(offsets, values.shape[0]) for offsets in (alpha, beta))
            values = values * alpha.to(values.dtype).exp() + _per_channel(self.unit, inputs) * beta
        mean, deviation = mean_and_deviation(values, inputs.dtype)
        self.log_scale.copy_(-deviation.log())
        # With the rounded scale, so that the mean is cancelled in the parameter's own precision.
        self.shift.copy_(-self.log_scale.to(values.dtype).exp() * mean)


def _per_channel(values: Tensor, inputs: Tensor) -> Tensor:
    """Reshape one value for each channel so that it broadcasts to the inputs."""
    return values.view(1, -1, *(1 for _ in inputs.shape[2:]))


def mean_and_deviation(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel; the latter 1 where it is but rounding of ``dtype``."""
    values = values.transpose(0, 1).flatten(1)
    mean = values.mean(1)
    mean = mean + (values - mean[:, None]).mean(1)  # what the first sum has rounded away
    deviation = (values - mean[:, None]).square().sum(1).div(max(1, values.shape[1] - 1)).sqrt()
    rounding = 16 * torch.finfo(dtype).eps * values.abs().amax(1) + torch.finfo(dtype).tiny
    return mean, torch.where(deviation > rounding, deviation, 1)
