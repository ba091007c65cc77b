"""The contract of every operation, and what operations share: calls of conditioners, sums of log-determinants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.checks import autocasts, check_rows
from condflows.pyramid import call_conditioner
from condflows.rows import context_for, repeat_rows
from condflows.trace import Context, Trace

__all__ = ["Bijector", "Recorded", "at_least_float32", "parameters_from", "precise", "refuse_labels",
           "sum_log_scale", "zero_logabsdet"]

Recorded = tuple[Tensor, Tensor, Tensor | Trace]
"""``(outputs, logabsdet, trace)``; the trace of a single operation is its output."""


class Bijector(Transform):
    r"""An invertible map with a tractable Jacobian determinant; an nflows ``Transform`` that may read a context.

    :math:`z = f(x, c)` by ``forward(inputs, context=None)``, data to noise, and :math:`x = f^{-1}(z, c)` by
    ``inverse``. Both return ``(outputs, logabsdet)``, with

    .. math:: \mathrm{logabsdet}(x, c) = \log \left| \det \partial z / \partial x \right|

    for ``forward``, and for ``inverse`` the negative at the same point. Every bijector takes a context, if only to
    ignore it. ``forward`` has no side effects. Write your own by overriding both methods, then prove it with
    :func:`condflows.testing.check_bijector`.

    Shapes: tensors are ``(batch, channels, *spatial)`` with 0 to 3 spatial dimensions. ``logabsdet``, of shape
    ``(batch,)`` and in nats, is per sample and in at least float32. Paper: RealNVP (arXiv 1605.08803) section 3.1.

    Raises:
        NotImplementedError: a direction that a subclass leaves out.

    >>> class Shift(Bijector):
    ...     def forward(self, inputs, context=None):
    ...         return inputs + context, inputs.new_zeros(len(inputs))
    ...
    ...     def inverse(self, inputs, context=None):
    ...         return inputs - context, inputs.new_zeros(len(inputs))
    >>> testing.check_bijector(Shift(), torch.randn(2, 3), context=torch.randn(2, 3))
    """

    parts: Sequence[Transform] | None = None
    """The bijectors to which a composition routes its context; None for a single operation."""

    reads_context: bool = True
    """True if a context can change what the bijector computes, as is supposed of bijectors of your own."""

    data_shape: tuple[int | None, ...] | None = None
    """The shape of one input without the batch, with None for an open size; None alone if the shape is not known."""

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """Map data to noise: ``(outputs, logabsdet)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """Map noise to data: ``(outputs, logabsdet)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define inverse")

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """Map data to noise and record the operations' outputs: ``(outputs, logabsdet, trace)``."""
        outputs, logabsdet = self(inputs, context)
        return outputs, logabsdet, outputs

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> Recorded:
        """Map noise to data and record the operations' outputs: ``(outputs, logabsdet, trace)``."""
        outputs, logabsdet = self.inverse(inputs, context)
        return outputs, logabsdet, outputs


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which log-determinants, matrices and densities are computed."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def precise(inputs: Tensor) -> Any:
    """Return a context manager that turns autocast off."""
    return torch.autocast(inputs.device.type, enabled=False) if autocasts(inputs.device) else nullcontext()


def zero_logabsdet(inputs: Tensor) -> Tensor:
    """Return the log-determinant ``(batch,)`` of a map that preserves volume: zeros."""
    return inputs.new_zeros(inputs.shape[0], dtype=at_least_float32(inputs.dtype))


def sum_log_scale(log_scale: Tensor, inputs: Tensor) -> Tensor:
    """Return the log-determinant ``(batch,)`` of scaling ``inputs`` by ``exp(log_scale)``.

    ``log_scale`` has one row for all inputs, one for each, or one for every n consecutive ones, and broadcasts to them.
    """
    total = log_scale.flatten(1).sum(1, dtype=at_least_float32(log_scale.dtype))
    if log_scale.shape[1:] != inputs.shape[1:]:
        total = total * (math.prod(inputs.shape[1:]) // max(1, math.prod(log_scale.shape[1:])))
    return total if total.shape == inputs.shape[:1] else repeat_rows(total, inputs.shape[0]).contiguous()


def parameters_from(conditioner: nn.Module, name: str, inputs: Tensor, context: Context,
                    *first: Tensor) -> tuple[Tensor, int]:
    """Call a conditioner with a required context, or with a first part of the inputs and an optional context.

    Returns its tensor, and the number of rows that it should have: that of the first part if given, or of the context.
    """
    if context is None and not first:
        raise ValueError(f"{name} has a conditioner and expects a context, got None; pass context=...")
    if not isinstance(context, Tensor) and isinstance(context, Trace):
        raise ValueError(f"{name} is a single operation and expects one tensor as context, got {context!r}; "
                         "pass a trace to the composition that it was recorded for")
    rows = check_rows(context, inputs.shape[0], name)
    if first:
        rows = inputs.shape[0]
        context = context_for(getattr(conditioner, "forward", None), context, rows)
    raw = call_conditioner(conditioner, first, context, inputs.shape[2:])
    if not isinstance(raw, Tensor):
        raise TypeError(f"{name} expects its conditioner to return a tensor, got {type(raw).__name__}; return one")
    return raw, rows


def refuse_labels(raw: Tensor, expected: tuple[int, ...], name: str) -> None:
    """Refuse a conditioner's output with a dimension too many, as embeddings return for labels ``(batch, 1)``."""
    if raw.shape == (expected[0], 1, expected[1]):
        raise ValueError(f"{name} expects its conditioner to return {expected}, got {tuple(raw.shape)}; pass an "
                         "embedding labels of shape (batch,), without the dimension of size 1: context.squeeze(1)")
