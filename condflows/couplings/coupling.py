"""The base class of couplings: two parts of the channels, and a net that reads the first."""

from __future__ import annotations

from torch import Tensor, nn

from condflows.bijector import Bijector, parameters_from
from condflows.checks import check_count, check_inputs
from condflows.trace import Context

__all__ = ["Coupling"]


class Coupling(Bijector):
    """A bijector that passes the first ``C - C // 2`` channels and moves the others, by values that a net predicts.

    Args:
        num_channels: C, at least 2; odd is fine.
        conditioner: a module called as ``conditioner(first_part, context)``.
        outputs: the number of values that it returns for each channel that is moved.
    """

    def __init__(self, num_channels: int, conditioner: nn.Module, outputs: int):
        super().__init__()
        check_count(num_channels, 2, f"{type(self).__name__} expects at least 2 channels",
                    "for one number use an ActNorm with a conditioner or a spline (One number, in "
                    "docs/distributions.md), for images of one channel put a Squeeze before it")
        self.num_channels = num_channels
        self.conditioner = conditioner
        self.outputs = outputs

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True unless the conditioner says that it ignores its context."""
        return getattr(self.conditioner, "reads_context", True)

    def split(self, inputs: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Return the part that passes, the part that is moved, and the conditioner's values for it."""
        name = type(self).__name__
        check_inputs(inputs, name, self.num_channels)
        moved = self.num_channels // 2
        first, second = inputs.split_with_sizes([self.num_channels - moved, moved], dim=1)
        raw, rows = parameters_from(self.conditioner, name, inputs, context, first)
        expected = (rows, self.outputs * moved, *inputs.shape[2:])
        if raw.shape != expected:
            raise ValueError(f"{name} expects its conditioner to return {expected}, got {tuple(raw.shape)}; let it end "
                             f"in {self.outputs * moved} channels and keep the spatial size")
        return first, second, raw
