"""What compositions share: their trace, and how their parts are called while it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nflows.transforms.base import Transform
from torch import Tensor

from condflows.bijector import Bijector, Recorded
from condflows.checks import check_invertible
from condflows.trace import Context, Trace

__all__ = ["Composition", "recording", "recording_inverse"]


class Composition(Bijector):
    """A bijector made of others, to which it routes its context.

    ``forward`` and ``inverse`` take a list as ``record`` too, and append to it the trace of the call. So a recorded
    pass is a call like any other. A subclass that overrides them does the same.
    """

    checkpoint = False

    def forward(self, inputs: Tensor, context: Context = None,
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def inverse(self, inputs: Tensor, context: Context = None,
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define inverse")

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """Map data to noise and record the operations' outputs: ``(outputs, logabsdet, trace)``."""
        record: list[Tensor | Trace] = []
        outputs, logabsdet = self(inputs, context, record=record)
        return outputs, logabsdet, record[0]

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """Map noise to data and record the operations' outputs: ``(outputs, logabsdet, trace)``."""
        record: list[Tensor | Trace] = []
        outputs, logabsdet = self.inverse(inputs, context, record=record)
        return outputs, logabsdet, record[0]


def recording(part: Transform, record: list[Any] | None) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the part itself, to be called; with a list as ``record``, so that the call appends its trace to it."""
    check_invertible(part)
    if record is None:
        return part
    if isinstance(part, Composition):
        return partial(part, record=record)
    return partial(_recorded, getattr(part, "forward_with_trace", part), record)


def recording_inverse(part: Transform, record: list[Any] | None) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the inverse of the part, to be called; with a list as ``record``, it appends the call's trace to it."""
    check_invertible(part)
    if record is None:
        return part.inverse
    if isinstance(part, Composition):
        return partial(part.inverse, record=record)
    return partial(_recorded, getattr(part, "inverse_with_trace", part.inverse), record)


def _recorded(call: Callable[..., tuple], record: list[Any], inputs: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Record the trace that the call returns, or the outputs of a transform that returns none."""
    outputs, logabsdet, *trace = call(inputs, context)
    record.append(trace[0] if trace else outputs)
    return outputs, logabsdet
