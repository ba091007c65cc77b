"""The contract of every operation, and the checks and sums that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from numbers import Integral
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.trace import Condition, Context, Trace, context_tensors, once, readable, route

__all__ = ["Bijector", "sum_log_scale"]

Recorded = tuple[Tensor, Tensor, Tensor | Trace]


class Bijector(Transform):
    """An invertible map with a tractable Jacobian determinant; an nflows ``Transform`` that may read a context.

    ``forward(inputs, context=None) -> (outputs, logabsdet)`` maps data to noise, ``inverse`` noise to data.
    Tensors are ``(batch, channels, *spatial)`` with 0 to 3 spatial dimensions. ``logabsdet``, of shape
    ``(batch,)`` and in nats, is that of the direction that was called, per sample and in at least float32.
    Every bijector takes a context, if only to ignore it. ``forward`` has no side effects.

    Write your own by overriding both methods, then prove it with :func:`condflows.testing.check_bijector`.
    """

    parts: Sequence[Transform] | None = None
    """The bijectors a composition routes its context to; None for a single operation."""

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """Map data to noise: ``(outputs, logabsdet)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """Map noise to data: ``(outputs, logabsdet)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define inverse")

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """``forward`` and the record of its outputs: ``(outputs, logabsdet, trace)``."""
        outputs, logabsdet = self(inputs, context)
        return outputs, logabsdet, outputs

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """``inverse`` and the record of its outputs: ``(outputs, logabsdet, trace)``."""
        outputs, logabsdet = self.inverse(inputs, context)
        return outputs, logabsdet, outputs


class Composition(Bijector):
    """A bijector made of others, which follow each other; it routes its context to them."""

    checkpoint = False
    _compiled: Callable[..., Recorded] | None = None

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._run(inputs, context, inverse=False, record=False)[:2]

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._run(inputs, context, inverse=True, record=False)[:2]

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        return self._run(inputs, context, inverse=False, record=True)

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        return self._run(inputs, context, inverse=True, record=True)

    def _run(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> Recorded:
        """Either direction: outputs, log-determinant, and the trace if it is recorded."""
        check_inputs(inputs, type(self).__name__)
        steps = list(enumerate(zip(self.parts or (), route(context, self), strict=True)))
        outputs, entries = inputs, []
        total = inputs.new_zeros(len(inputs), dtype=at_least_float32(inputs.dtype))
        for i, (part, part_context) in reversed(steps) if inverse else steps:
            given, leave = self._enter(i, outputs)
            outputs, logabsdet, entry = apply(part, given, part_context, inverse, record)
            outputs, total = leave(outputs), total + logabsdet
            if record:
                entries.append(entry)
        return outputs, total, Trace(entries[::-1] if inverse else entries)

    def _enter(self, i: int, values: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What the i-th part is given of the values, and how what it made goes back among them."""
        return values, lambda outputs: outputs


def apply(transform: Transform, inputs: Tensor, context: Context, inverse: bool, record: bool) -> Recorded:
    """Call one part of a composition, in either direction, ours or from nflows."""
    if not hasattr(transform, "inverse"):
        raise TypeError(f"expected a bijector or an nflows transform, got {type(transform).__name__}, which has no "
                        "inverse; derive yours from condflows.Bijector")
    context = readable(context, transform)
    if record and isinstance(transform, Bijector):
        return (transform.inverse_with_trace if inverse else transform.forward_with_trace)(inputs, context)
    outputs, logabsdet = transform.inverse(inputs, context) if inverse else transform(inputs, context)
    return outputs, logabsdet, outputs


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which log-determinants, matrices and densities are computed."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def precise(inputs: Tensor) -> Any:
    """A context manager that leaves autocast, if it is on."""
    device = inputs.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def sum_log_scale(log_scale: Tensor, inputs: Tensor) -> Tensor:
    """The log-determinant ``(batch,)`` of scaling ``inputs`` by ``exp(log_scale)``, which broadcasts to them."""
    repeats = inputs.shape[1:].numel() // max(1, log_scale.shape[1:].numel())
    total = log_scale.sum(list(range(1, log_scale.ndim)), dtype=at_least_float32(log_scale.dtype))
    total = total * repeats if repeats > 1 else total
    return total if total.shape == inputs.shape[:1] else total.expand(inputs.shape[:1]).contiguous()


def check_inputs(inputs: Tensor, name: str, num_channels: int | None = None) -> None:
    """Refuse what is not a floating-point ``(batch, num_channels, *spatial)`` tensor."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"{name} expects a tensor, got {type(inputs).__name__}; convert it with torch.as_tensor")
    if not inputs.is_floating_point():
        raise TypeError(f"{name} expects floating-point inputs, got {inputs.dtype}; "
                        "turn integer images into densities with condflows.dequantize first")
    if not 2 <= inputs.ndim <= 5 or 0 in inputs.shape[1:]:
        raise ValueError(f"{name} expects (batch, channels, *spatial), no size 0, with 0 to 3 spatial dimensions, "
                         f"got shape {tuple(inputs.shape)}; add or merge dimensions")
    if num_channels is not None and inputs.shape[1] != num_channels:
        raise ValueError(f"{name} expects {num_channels} channels in dimension 1, got shape {tuple(inputs.shape)}; "
                         f"build it with num_channels={inputs.shape[1]} or pass other inputs")


def check_count(count: int, least: int, expected: str, advice: str = "pass a whole number") -> None:
    """Refuse what is not a whole number of at least so many."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < least:
        raise ValueError(f"{expected}, got {count!r}; {advice}")


def check_like(tensor: Tensor, module: nn.Module, name: str) -> None:
    """Refuse a device or dtype other than that of the parameters; under autocast any floating-point dtype will do."""
    own = next(module.parameters(), tensor)
    autocast = tensor.is_floating_point() and torch.is_autocast_enabled(own.device.type)
    if tensor.device != own.device or not (autocast or tensor.dtype == own.dtype):
        raise TypeError(f"{name} expects {own.dtype} on {own.device} like its parameters, got {tensor.dtype} on "
                        f"{tensor.device}; convert it with .to(...), integer images with condflows.dequantize")


def check_batch(context: Context, inputs: Tensor, name: str) -> None:
    """Refuse a context, traces included, that has not one row for each input."""
    for tensor in context_tensors(context):
        if tensor.ndim == 0 or len(tensor) != len(inputs):
            raise ValueError(f"{name} expects a context of batch size {len(inputs)} like its inputs, "
                             f"got shape {tuple(tensor.shape)}; pass one context for each input")


def predict(conditioner: nn.Module, name: str, inputs: Tensor, context: Context, *first: Tensor) -> Tensor:
    """What a conditioner says of a context, which must be there, or of a first part and a context, which need not."""
    rows, given = (context.context, inputs[::context.repeats]) if isinstance(context, Condition) else (context, inputs)
    if rows is None and not first:
        raise ValueError(f"{name} has a conditioner and expects a context, got None; pass context=...")
    if isinstance(rows, Trace):
        raise ValueError(f"{name} is a single operation and expects one tensor as context, got {rows!r}; "
                         "pass a trace to the composition that it was recorded for")
    check_batch(rows, given, name)
    raw = (conditioner(*first, readable(context, conditioner)) if first
           else once(conditioner, lambda _, rows: conditioner(rows), inputs, context))
    if not isinstance(raw, Tensor):
        raise TypeError(f"{name} expects its conditioner to return a tensor, got {type(raw).__name__}; return one")
    return raw
