"""The logit: data between two bounds to the real line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from condflows.bijector import Bijector, at_least_float32
from condflows.checks import check_inputs
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["Logit"]


class Logit(Bijector):
    r"""Map data in the open interval :math:`(l, h)` to the real line, channel by channel.

    .. math:: z = \log \frac{x - l}{h - x}, \qquad x = l + (h - l) \, \mathrm{sigmoid}(z)

    A sample of which any value lies outside of the interval, or on its ends, has the log-determinant
    :math:`-\infty`, and so the log-density of a flow that begins with a ``Logit``; other samples of the batch are
    untouched, and it receives no gradient. ``inverse`` stays inside, however large the noise is.

    Shapes: ``(batch, channels, *spatial)`` to the same. Log-determinant, in nats: the sum of
    :math:`\log (h - l) - \log (x - l) - \log (h - x)`. Paper: RealNVP (arXiv 1605.08803) section 4.1.

    Args:
        low: l, the lower end: a number, or one for each channel.
        high: h, the upper end, likewise.

    Raises:
        ValueError: ends that are not finite or not in order, or the inputs have another number of channels than there
            are ends.

    >>> logit = Logit(0, 100)  # a percentage
    >>> outputs, logabsdet = logit(torch.tensor([[50.0], [101.0]]))
    >>> outputs[0], logabsdet
    (tensor([0.]), tensor([-3.2189,    -inf]))
    >>> flow = Flow(Chain([Logit(torch.tensor([0.0, -1.0]), 1), LUConv1x1(2)]), shape=(2,))
    >>> samples = flow.sample(1000)
    >>> bool((samples < 1).all() and (samples[:, 0] > 0).all() and (samples[:, 1] > -1).all())
    True
    """

    reads_context = False

    low: Tensor
    high: Tensor

    def __init__(self, low: float | Sequence[float] | Tensor = 0.0, high: float | Sequence[float] | Tensor = 1.0):
        super().__init__()
        ends = [np.asarray(end.tolist() if isinstance(end, Tensor) else end, "float64") for end in (low, high)]
        if any(end.ndim > 1 for end in ends) or len({end.shape for end in ends if end.ndim}) > 1:
            raise ValueError(f"Logit expects as low and high a number or one for each channel, got the shapes "
                             f"{tuple(ends[0].shape)} and {tuple(ends[1].shape)}; pass numbers, or as many of both")
        if not all(np.isfinite(end).all() for end in ends) or not (ends[0] < ends[1]).all():
            raise ValueError(f"Logit expects finite ends with low < high, got {ends[0].tolist()} and "
                             f"{ends[1].tolist()}; pass the ends of the data")
        for name, end in zip(("low", "high"), np.broadcast_arrays(*ends), strict=True):
            self.register_buffer(name, torch.tensor(end.tolist(), dtype=torch.get_default_dtype()))

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        low, high = self._ends(inputs)
        outside = ((inputs <= low) | (inputs >= high)).flatten(1).any(1)
        rows = outside.view(-1, *(1 for _ in inputs.shape[1:]))
        values = torch.where(rows, (low + high) / 2, inputs)  # of which no logarithm is infinite
        above, below = (values - low).log(), (high - values).log()
        logabsdet = ((high - low).log() - above - below).flatten(1).sum(1, dtype=at_least_float32(inputs.dtype))
        return above - below, logabsdet.masked_fill(outside, -torch.inf)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        low, high = self._ends(inputs)
        outputs = low + (high - low) * torch.sigmoid(inputs)
        inside = low + _rounding(low), high - _rounding(high)  # a sigmoid rounds to 0 and 1
        slope = torch.nn.functional.logsigmoid(inputs) + torch.nn.functional.logsigmoid(-inputs) + (high - low).log()
        return outputs.clamp(*inside), slope.flatten(1).sum(1, dtype=at_least_float32(inputs.dtype))

    def _ends(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high so that they broadcast to the inputs."""
        check_inputs(inputs, "Logit")
        if self.low.ndim and self.low.shape[0] != inputs.shape[1]:
            raise ValueError(f"Logit has the ends of {self.low.shape[0]} channels and got shape {tuple(inputs.shape)}; "
                             "give it one end for each channel, or a number for all")
        shape = (1, -1, *(1 for _ in inputs.shape[2:]))
        return self.low.to(inputs.dtype).view(shape), self.high.to(inputs.dtype).view(shape)


def _rounding(end: Tensor) -> Tensor:
    """Return one or two times the distance from a number to the next one of its dtype."""
    limits = torch.finfo(end.dtype)
    return (end.abs() * limits.eps).clamp(min=limits.tiny)
