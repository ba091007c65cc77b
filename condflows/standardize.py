"""Standardization of data and of contexts, fitted once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from condflows.actnorm import mean_and_deviation
from condflows.bijector import Bijector, at_least_float32
from condflows.checks import check_count, check_inputs
from condflows.conditioners.contexts import ChangedContext
from condflows.pyramid import level_of
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["Standardize"]


class Standardize(Bijector):
    r"""Subtract a mean and divide by a deviation, channel by channel; both are fitted by :func:`condflows.initialize`.

    .. math:: y = (x - m) / \sigma

    :math:`m` (``mean``) and :math:`\sigma` (``deviation``) are buffers: part of the state dict, and not trained. Until
    they are fitted they are 0 and 1. As the first bijector of a flow it standardizes data. In front of a conditioner,
    ``Standardize(F).before(net)``, it standardizes the context that the net reads. The nets of
    :mod:`condflows.conditioners` bound what they read, so values far from order 1, such as a pressure of 101325 +- 500,
    look all the same to them without it. A channel that is constant in the batch keeps deviation 1.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant, in nats: :math:`- \sum \log \sigma` over
    channels and positions. Paper: none.

    Args:
        num_channels: the number of channels of the data, or of the context.

    Raises:
        ValueError: the inputs have another number of channels.
        TypeError: inputs that are no floating-point tensor.

    >>> x, context = 300 + 20 * torch.randn(1000, 2), 101325 + 500 * torch.randn(1000, 1)
    >>> net = Standardize(1).before(conditioners.MLPConditioner(1, 2, context_features=1))
    >>> flow = Flow(Chain([Standardize(2), AffineCoupling(2, net)]), shape=(2,))
    >>> initialize(flow, x, context).transform.bijectors[0].mean.round(decimals=-1)
    tensor([300., 300.])
    """

    reads_context = False

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_channels: int):
        super().__init__()
        check_count(num_channels, 1, "Standardize expects at least 1 channel")
        self.num_channels = num_channels
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("deviation", torch.ones(num_channels))

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        mean, deviation, logabsdet = self._shaped(inputs)
        return (inputs - mean) / deviation, -logabsdet

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        mean, deviation, logabsdet = self._shaped(inputs)
        return inputs * deviation + mean, logabsdet

    def _shaped(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and deviation so that they broadcast to the inputs, and the log-determinant of ``inverse``."""
        check_inputs(inputs, "Standardize", self.num_channels)
        shape = (1, -1, *(1 for _ in inputs.shape[2:]))
        each = self.deviation.to(at_least_float32(inputs.dtype)).log().sum() * math.prod(inputs.shape[2:])
        mean, deviation = (values.to(inputs.dtype).view(shape) for values in (self.mean, self.deviation))
        return mean, deviation, each.expand(inputs.shape[0]).contiguous()

    @torch.no_grad()
    def initialize_from(self, inputs: Tensor, context: Context = None) -> None:
        """Set mean and deviation to those of each channel of a batch."""
        check_inputs(inputs, "Standardize", self.num_channels)
        mean, deviation = mean_and_deviation(inputs.to(at_least_float32(inputs.dtype)), inputs.dtype)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def before(self, conditioner: nn.Module) -> nn.Module:
        """Return the conditioner behind this standardization of its context; several may share one."""
        return StandardizedContext(self, conditioner)


class StandardizedContext(ChangedContext):
    """A conditioner, or a coupling's net, whose context is standardized first."""

    def __init__(self, standardize: Standardize, conditioner: nn.Module):
        super().__init__(conditioner)
        self.standardize = standardize

    def change(self, context: Context, size: Sequence[int] | None = None) -> Tensor:
        """Return the context standardized."""
        return self.standardize(level_of(context, size))[0]
