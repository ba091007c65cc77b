"""The row rule: a context of B rows serves B * n inputs, each row n consecutive ones.

What depends on the context alone is computed on its B rows and broadcast to the inputs. A method that follows the rule
is marked with :func:`shares_context`; all others, for example a user's own, receive one row of context for each input.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from condflows.checks import check_rows
from condflows.hooks import Method, is_marked, mark
from condflows.trace import Context, context_tensors, map_context

__all__ = ["align_rows", "concat_rows", "context_for", "repeat_rows", "shares_context"]


def shares_context(method: Method) -> Method:
    """Mark a method that follows the row rule; a method that overrides or wraps it is not marked."""
    return mark(method, "shares_context")


def context_for(method: Any, context: Context, count: int) -> Context:
    """Return the context as a method reads it: unchanged if the method is marked, else with one row for each input.

    Args:
        method: the method that will be called with the context.
        context: a context of B rows; one that is not made of tensors is returned unchanged.
        count: the number of inputs, B * n.
    """
    if context is None or is_marked(method, "shares_context"):
        return context
    try:
        tensors = context_tensors(context)
    except TypeError:
        return context
    if all(tensor.shape[:1] == (count,) for tensor in tensors):
        return context
    return map_context(partial(repeat_rows, count=count), context)


def repeat_rows(values: Tensor, count: int) -> Tensor:
    """Repeat each of B rows n times in a row, to ``count = B * n`` rows; a single row gives a view."""
    rows = values.shape[0] if values.ndim else 0
    if rows == count or rows == 0 or count % rows:
        return values
    if rows == 1:
        return values.expand(count, *values.shape[1:])
    return values.unsqueeze(1).expand(rows, count // rows, *values.shape[1:]).flatten(0, 1)


def align_rows(inputs: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Return inputs and parameters in shapes that broadcast: unchanged, or ``(B, n, ...)`` and ``(B, 1, ...)``.

    Args:
        inputs: a tensor of B * n rows.
        parameters: tensors of 1, B or B * n rows, all with the same number of rows.
    """
    rows, count = parameters[0].shape[0], inputs.shape[0]
    if rows == 1 or rows == count:
        return inputs, *parameters
    return inputs.unflatten(0, (rows, count // rows)), *(values.unsqueeze(1) for values in parameters)


def concat_rows(inputs: Tensor, values: Tensor, name: str) -> Tensor:
    """Append values of B rows to the channels of inputs of B * n rows; errors name ``name``."""
    count = inputs.shape[0]
    rows = check_rows(values, count, name)
    if rows == count:
        return torch.cat([inputs, values], dim=1)
    grouped = inputs.unflatten(0, (rows, count // rows))
    values = values.unsqueeze(1).expand(*grouped.shape[:2], *values.shape[1:])
    return torch.cat([grouped, values], dim=2).flatten(0, 1)
