"""Pyramids: contexts of maps of several sizes, of which each net reads the one of its inputs' size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from condflows.hooks import Method, is_marked, mark

__all__ = ["by_size", "call_conditioner", "is_pyramid", "level_of", "takes_size"]


def by_size(method: Method) -> Method:
    """Mark a method that takes the spatial size of an operation's inputs as ``size``, to choose a map by."""
    return mark(method, "by_size")


def call_conditioner(conditioner: Any, first: Sequence[Tensor], context: Any, size: Sequence[int] | None) -> Any:
    """Call ``conditioner(*first, context)``; without a first part, also with the size of the inputs if it takes it.

    A single tensor needs no size to choose a map by.
    """
    if len(first) == 0 and not isinstance(context, Tensor) and takes_size(conditioner):
        return conditioner(context, size=size)
    return conditioner(*first, context)


def takes_size(conditioner: Any) -> bool:
    """Tell whether the forward of a conditioner is marked so: not one that overrides or wraps it."""
    return is_marked(getattr(conditioner, "forward", None), "by_size")


def is_pyramid(context: Any) -> bool:
    """Tell whether a context is a tuple or list of maps, each of another spatial size."""
    return (isinstance(context, (tuple, list)) and len(context) > 0
            and all(isinstance(level, Tensor) and level.ndim > 2 for level in context)
            and all(a.ndim == b.ndim and a.shape[2:] != b.shape[2:] for a, b in combinations(context, 2)))


def level_of(context: Any, size: Sequence[int] | None) -> Any:
    """Return the map of a pyramid that has this spatial size, else the nearest, averaged down or repeated up to it.

    What is no pyramid stays as it is, and so does all where no size is given, or that of a vector.
    """
    if isinstance(context, Tensor) or not size or not is_pyramid(context) or context[0].ndim != 2 + len(size):
        return context
    for level in context:
        if tuple(level.shape[2:]) == tuple(size):
            return level
    # A loop, as torch.compile knows no min with a key. Of two that are as near, the larger: it holds more.
    wanted, nearest = math.prod(size), context[0]
    for level in context[1:]:
        (low, high), (least, most) = (sorted((each.shape[2:].numel(), wanted)) for each in (level, nearest))
        ratio, best = high * least, most * low
        if ratio < best or (ratio == best and level.shape[2:].numel() > nearest.shape[2:].numel()):
            nearest = level
    return F.interpolate(nearest, size=tuple(size), mode="area")
