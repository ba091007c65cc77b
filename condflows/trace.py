"""How one flow conditions another: a record of every operation's output, dealt out position by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Context", "Trace", "map_context", "resize", "route", "structure"]

Context = Any
"""A tensor, a :class:`Trace` or None; or any nest of tensors that the user's own conditioners read."""


class Trace(Sequence[Any]):
    """The outputs of a composition's operations, nested as the composition is.

    An entry is the output ``(batch, channels, *spatial)`` of one operation, or the ``Trace`` of one inner
    composition. A trace comes from ``forward_with_trace`` and is passed as the context of a composition of
    the same structure, whose n-th part receives the n-th entry.

    >>> trace = Trace([torch.zeros(1, 3), Trace([torch.ones(1, 2)])])
    >>> trace[1][0].shape, len(trace)
    (torch.Size([1, 2]), 2)
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
        """The tensors of the trace, in the order in which they were recorded."""
        return iter(context_tensors(self))

    def map(self, function: Callable[[Tensor], Tensor]) -> Trace:
        """A trace of the same structure with ``function`` applied to every tensor."""
        return Trace([e.map(function) if isinstance(e, Trace) else function(e) for e in self.entries])

    def concat(self, extra: Tensor) -> Trace:
        """Append side information, for example a boundary map, to the channels of every entry.

        ``extra`` is ``(batch, channels, *spatial)`` and is resized to each entry (averaged down, repeated up),
        or ``(batch, channels)`` and is repeated at every position.
        """
        if not isinstance(extra, Tensor) or extra.ndim < 2:
            raise ValueError("expected side information as a tensor (batch, channels, *spatial), got "
                             f"{getattr(extra, 'shape', extra)}; convert it, or add the missing dimensions")
        sizes = {len(leaf) for leaf in self.leaves()} - {len(extra)}
        if sizes:
            raise ValueError(f"expected side information of batch size {sizes.pop()}, got {len(extra)}; "
                             "pass one row for each input of the trace")
        return self.map(lambda entry: torch.cat([entry, resize(extra.to(entry.dtype), entry)], dim=1))


class Condition:
    """A context each of whose rows is for several inputs, and what was made of it; modules of users get it expanded."""

    def __init__(self, context: Context, repeats: int, made: dict[Any, Any]):
        self.context, self.repeats, self.made = context, repeats, made

    def repeat(self, value: Any) -> Any:
        """What has a row for each row of the context, with one for each input."""
        rows = len((context_tensors(self.context) or [()])[0])
        return map_context(lambda t: t.repeat_interleave(self.repeats, 0) if len(t) == rows else t, value)

    def expand(self) -> Context:
        return self.repeat(self.context)


def readable(context: Context, module: nn.Module) -> Context:
    """The context as the module can read it: a Condition only where the code that reads it is the library's own."""
    own = type(module).__module__.startswith("condflows.")
    return context.expand() if isinstance(context, Condition) and not own else context


def once(module: nn.Module, make: Callable[[Tensor, Context], Any], inputs: Tensor, context: Context) -> Any:
    """What ``make`` makes of a context for these inputs, made once for a ``Condition``."""
    if not isinstance(context, Condition):
        return make(inputs, context)
    key = module, id(context.context), inputs.shape[2:]
    if key not in context.made:
        context.made[key] = make(inputs[::context.repeats], context.context)
    return context.repeat(context.made[key])


def resize(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` at the spatial size of ``like``: averaged down, repeated up; vectors are repeated."""
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
    """Apply ``function`` to every tensor of a context."""
    if context is None:
        return None
    if isinstance(context, Tensor):
        return function(context)
    if isinstance(context, Trace):
        return context.map(function)
    if isinstance(context, Mapping):
        return {key: map_context(function, value) for key, value in context.items()}
    if isinstance(context, (tuple, list)):
        values = [map_context(function, value) for value in context]
        return type(context)(*values) if hasattr(context, "_fields") else type(context)(values)
    raise TypeError(f"expected a context of tensors (a tensor, a Trace, a tuple, list or dict), got {type(context)}; "
                    "convert arrays with torch.as_tensor")


def context_tensors(context: Context) -> list[Tensor]:
    """Every tensor of a context, in order."""
    tensors: list[Tensor] = []
    map_context(lambda tensor: tensors.append(tensor) or tensor, context)
    return tensors


def _parts(transform: nn.Module | Trace | Tensor) -> Sequence[Any] | None:
    """What a composition or a trace consists of; None for a single operation."""
    if isinstance(transform, Trace):
        return transform.entries
    return getattr(transform, "parts", None)


def kinds(composition: nn.Module | Trace) -> list[bool]:
    """Which of its parts have parts themselves."""
    return [_parts(part) is not None for part in _parts(composition) or ()]


def structure(composition: nn.Module | Trace | Tensor) -> str:
    """The nesting of a composition or of a trace, with repeats counted."""
    parts = _parts(composition)
    if parts is None:
        return "*" if isinstance(composition, Tensor) else type(composition).__name__
    runs = [(name, sum(1 for _ in run)) for name, run in groupby(map(structure, parts))]
    return "[" + ", ".join(name if count == 1 else f"{name} x{count}" for name, count in runs) + "]"


def route(context: Context, composition: nn.Module) -> Sequence[Context]:
    """One context for each part of the composition: a trace is dealt out, anything else goes to all."""
    parts = _parts(composition) or ()
    if isinstance(context, Condition):
        return [Condition(entry, context.repeats, context.made) for entry in route(context.context, composition)]
    if not isinstance(context, Trace):
        return (context,) * len(parts)
    if kinds(context) != kinds(composition):
        raise ValueError(f"expected a trace of structure {structure(composition)}, got {structure(context)}; "
                         "record it with forward_with_trace of a composition of the same structure")
    return context.entries
