"""The trace by which one flow conditions another: every operation's output, dealt out position by position."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condflows.pyramid import is_pyramid, level_of

__all__ = ["Context", "Trace", "context_rows", "map_context", "resize", "route", "structure"]

Context = Any
"""A tensor, a :class:`Trace` or None; or nested tuples, lists and dicts of tensors, for a user's own conditioners."""


class Trace(Sequence[Any]):
    """The outputs of a composition's operations, nested as the composition is.

    A trace comes from ``forward_with_trace`` and is passed as the context of a composition of the same structure, whose
    n-th part receives the n-th entry, in either direction.

    Shapes: an entry is the output ``(batch, channels, *spatial)`` of one operation, or the ``Trace`` of one inner
    composition.

    Paper: C-Flow (arXiv 1912.07009) and Full-Glow (arXiv 2012.05846) section 4, where every operation of one flow reads
    its counterpart in the other.

    Raises:
        ValueError: side information that is no tensor with a batch and channels, that has another batch size, or whose
            spatial dimensions are not those of the entries; and, in a composition, a trace of another structure.

    >>> chain = Chain([ActNorm(2), LUConv1x1(2)])
    >>> outputs, logabsdet, trace = chain.forward_with_trace(torch.randn(5, 2, 8, 8))
    >>> trace
    Trace([* x2])
    >>> boundaries = torch.rand(5, 1, 32, 32)
    >>> [entry.shape for entry in trace.concat(boundaries)]
    [torch.Size([5, 3, 8, 8]), torch.Size([5, 3, 8, 8])]
    """

    def __init__(self, entries: Sequence[Tensor | Trace]):
        self.entries = tuple(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def __repr__(self) -> str:
        return f"Trace({structure(self)})"

    def leaves(self) -> Iterator[Tensor]:
        """Iterate over the tensors of the trace, in the order of the operations."""
        return iter(context_tensors(self))

    def map(self, function: Callable[[Tensor], Tensor]) -> Trace:
        """Return a trace of the same structure with ``function`` applied to every tensor."""
        return Trace([e.map(function) if isinstance(e, Trace) else function(e) for e in self.entries])

    def concat(self, extra: Tensor | Sequence[Tensor]) -> Trace:
        """Append side information, for example a boundary map, to the channels of every entry.

        ``extra`` is ``(batch, channels, *spatial)`` and is resized to each entry (averaged down, repeated up),
        or ``(batch, channels)`` and is repeated at every position. Of a pyramid, a tuple of maps of several sizes, each
        entry gets the map of its own size.
        """
        maps = list(extra) if is_pyramid(extra) else [extra]
        for each in maps:
            if not isinstance(each, Tensor) or each.ndim < 2:
                raise ValueError("expected side information as a tensor (batch, channels, *spatial), got "
                                 f"{_described(each)}; convert it, or add the missing dimensions")
            for leaf in self.leaves():
                if leaf.shape[0] != each.shape[0]:
                    raise ValueError(f"expected side information of batch size {leaf.shape[0]}, got {each.shape[0]}; "
                                     "pass one row for each input of the trace")

        def beside(entry: Tensor) -> Tensor:
            own = level_of(extra, entry.shape[2:])
            return torch.cat([entry, resize(own.to(entry.dtype), entry)], dim=1)

        return self.map(beside)


def _described(value: Any) -> str:
    """Describe what was given as side information by its shapes, without the values."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(map(_described, value)) or 'nothing'}, which is no pyramid"
    return str(getattr(value, "shape", f"a {type(value).__name__}"))


def resize(tensor: Tensor, like: Tensor) -> Tensor:
    """Resize ``tensor`` to the spatial size of ``like``: averaged down, repeated up; vectors are repeated."""
    size = like.shape[2:]
    if tensor.shape[2:] == size:
        return tensor
    if tensor.ndim == 2 and size:
        return tensor.reshape(*tensor.shape, *(1 for _ in size)).expand(*tensor.shape, *size)
    if tensor.ndim != like.ndim:
        raise ValueError(f"expected a context with {len(size)} spatial dimensions or none, to go with inputs of shape "
                         f"{tuple(like.shape)}; got {tuple(tensor.shape)}; pool or reshape it first")
    return F.interpolate(tensor, size=size, mode="area")


def map_context(function: Callable[[Tensor], Tensor], context: Context) -> Context:
    """Apply ``function`` to every tensor of a context, whose tuples, lists and mappings keep their types."""
    if context is None:
        return None
    if isinstance(context, Tensor):
        return function(context)
    if isinstance(context, Trace):
        return context.map(function)
    if isinstance(context, Mapping):
        return _mapping_like(context, {key: map_context(function, value) for key, value in context.items()})
    if isinstance(context, (tuple, list)):
        values = [map_context(function, value) for value in context]
        return type(context)(*values) if hasattr(context, "_fields") else type(context)(values)
    raise _not_of_tensors(context)


def _mapping_like(mapping: Mapping, values: dict) -> Mapping:
    """Put values into a mapping of the same type, by its constructor, or else into a copy of the mapping."""
    if type(mapping) is dict:
        return values
    try:
        made = type(mapping)(values)  # type: ignore[call-arg]
        if made.keys() == values.keys() and all(made[key] is value for key, value in values.items()):
            return made
    except Exception:  # whatever a constructor of other arguments makes of these
        pass
    made: Any = copy.copy(mapping)
    for key, value in values.items():
        made[key] = value
    return made


def context_tensors(context: Context) -> list[Tensor]:
    """Return every tensor of a context, in order; refuse anything else in it with a ``TypeError``."""
    if context is None:
        return []
    if isinstance(context, Tensor):
        return [context]
    if not isinstance(context, (Trace, Mapping, tuple, list)):
        raise _not_of_tensors(context)
    return [tensor for value in (context.values() if isinstance(context, Mapping) else context)
            for tensor in context_tensors(value)]


def context_rows(context: Context) -> int:
    """Return the number of rows of a context, one a condition; 1 without a context, and for a single number."""
    tensors = context_tensors(context)
    return tensors[0].shape[0] if tensors and tensors[0].ndim else 1


def _not_of_tensors(context: Any) -> TypeError:
    return TypeError("expected a context of tensors (a tensor, a Trace, a tuple, list or dict), got "
                     f"{type(context)}; convert arrays with torch.as_tensor")


def _parts(transform: nn.Module | Trace | Tensor) -> Sequence[Any] | None:
    """Return the parts of a composition or the entries of a trace; None for a single operation."""
    if isinstance(transform, Trace):
        return transform.entries
    return getattr(transform, "parts", None)


def kinds(composition: nn.Module | Trace) -> list[bool]:
    """Tell of each part of a composition, or entry of a trace, whether it has parts itself."""
    return [_parts(part) is not None for part in _parts(composition) or ()]


def structure(composition: nn.Module | Trace | Tensor) -> str:
    """Describe the nesting of a composition or of a trace, with repeats counted."""
    parts = _parts(composition)
    if parts is None:
        return "*" if isinstance(composition, Tensor) else type(composition).__name__
    runs = [(name, sum(1 for _ in run)) for name, run in groupby(map(structure, parts))]
    return "[" + ", ".join(name if count == 1 else f"{name} x{count}" for name, count in runs) + "]"


def route(context: Context, composition: nn.Module) -> Sequence[Context]:
    """Return one context for each part of the composition: a trace is dealt out, anything else goes to all."""
    parts = _parts(composition) or ()
    if not isinstance(context, Trace):
        return (context,) * len(parts)
    if kinds(context) != kinds(composition):
        raise ValueError(f"expected a trace of structure {structure(composition)}, got {structure(context)}; "
                         "record it with forward_with_trace of a composition of the same structure")
    return context.entries
