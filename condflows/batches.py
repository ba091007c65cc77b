"""Batches for training: rows of tensors in a new order every epoch, or what a loader yields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condflows.checks import check_batch, check_count
from condflows.trace import Context, context_rows, context_tensors, map_context

__all__ = ["Batch", "Epochs", "Rows", "as_batch", "as_source", "first_rows", "is_array"]

ROWS, VALUES = 4096, 2**18
"""Enough rows, and enough values in them, for the mean and deviation of each channel."""
Batch = tuple[Any, Context]
"""Inputs and their context; either may be None."""


class Rows:
    """Hold inputs and their contexts, row by row, and iterate over batches of them in a random order.

    An incomplete batch is left out where there are complete ones: the rows in it are others in every epoch.
    """

    def __init__(self, inputs: Any, context: Context, batch_size: int, shuffle: bool = True):
        self.inputs, self.context = _tensors(inputs), _tensors(context)
        self.batch_size, self.shuffle = batch_size, shuffle
        self.count = context_rows(self.context if self.inputs is None else self.inputs)
        check_batch(self.context, self.count, "fit")
        if not self.count:
            raise ValueError("fit expects at least one row, got inputs of no rows; pass data")

    def __len__(self) -> int:
        return max(1, self.count // self.batch_size) if self.shuffle else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(self.count) if self.shuffle else torch.arange(self.count)
        return (self.take(index) for index in islice(order.split(self.batch_size), len(self)))

    def take(self, index: Tensor) -> Batch:
        """Return the inputs and contexts of some rows."""
        return map_context(lambda rows: rows[index.to(rows.device)], (self.inputs, self.context))

    def hold_out(self, share: float) -> tuple[Rows, Rows | None]:
        """Return the rows for training and a random share of them, at least one, that is kept apart."""
        if not 0 <= share < 1:
            raise ValueError(f"fit expects held_out to be a share of the rows below 1, or data, got {share}")
        if not share:
            return self, None
        kept = max(1, round(share * self.count))
        if kept == self.count:
            raise ValueError("fit expects two rows or more to hold one out, got 1; pass more, or held_out=0")
        apart, rest = torch.randperm(self.count).split([kept, self.count - kept])
        return Rows(*self.take(rest), self.batch_size), Rows(*self.take(apart), self.batch_size, shuffle=False)


class Epochs:
    """Iterate over a fixed number of batches of a source, again and again.

    A source that ends starts anew; an iterator, which cannot, goes on from one epoch to the next.
    """

    def __init__(self, source: Iterable[Any], steps: int | None):
        if steps is not None:
            check_count(steps, 1, "fit expects at least one step as steps_per_epoch")
        self.source = source
        self.steps = _length(source) if steps is None else int(steps)
        if not self.steps:
            raise ValueError(f"fit expects at least one batch, got none from {type(source).__name__}; check its "
                             "batch size and its data")

    def __iter__(self) -> Iterator[Batch]:
        left = self.steps
        while left:
            before = left
            for batch in islice(self.source, left):
                left -= 1
                yield as_batch(batch)
            if left and (left == before or isinstance(self.source, Iterator)):
                raise ValueError(f"fit expects {self.steps} batches an epoch, got {self.steps - left} before the end "
                                 f"of {type(self.source).__name__}; pass fewer steps_per_epoch and epochs, or a loader "
                                 "that can be read again")


def as_source(inputs: Any, context: Context, batch_size: int, shuffle: bool = True) -> Iterable[Any]:
    """Return rows of tensors and arrays, and loaders of batches as they are."""
    if inputs is None or is_array(inputs):
        return Rows(inputs, context, batch_size, shuffle)
    if context is not None or not isinstance(inputs, Iterable) or isinstance(inputs, (list, tuple, dict, str)):
        raise TypeError(f"fit expects a tensor or array, or a loader of batches without a context of its own, got "
                        f"{type(inputs).__name__}{'' if context is None else ' and a context'}; convert data with "
                        "torch.as_tensor, or let the loader yield (inputs, context)")
    return inputs


def as_batch(item: Any) -> Batch:
    """Return a batch of a loader as inputs and context."""
    if isinstance(item, (tuple, list)) and 1 <= len(item) <= 2:
        inputs, context = item if len(item) == 2 else (item[0], None)
        return _tensors(inputs), _tensors(context)
    if is_array(item):
        return _tensors(item), None
    raise TypeError("fit expects batches that are a tensor or (inputs, context), got "
                    f"{type(item).__name__}{f' of {len(item)}' if hasattr(item, '__len__') else ''}; arrange them in "
                    "the loader, for example in its collate_fn")


def first_rows(source: Iterable[Any]) -> Batch:
    """Return the rows of some batches, as many as actnorms need to be initialized."""
    found: list[Batch] = []
    for item in source:
        found.append(as_batch(item))
        if sum(len(inputs) for inputs, _ in found) >= ROWS or sum(inputs.numel() for inputs, _ in found) >= VALUES:
            break
    columns = iter([torch.cat(column) for column in zip(*map(context_tensors, found), strict=True)])
    return map_context(lambda _: next(columns), found[0])


def is_array(data: Any) -> bool:
    """Tell whether data is a tensor, or an array or table that numpy can read."""
    return isinstance(data, Tensor) or hasattr(data, "__array__")


def _length(source: Any) -> int:
    """Return the number of batches in an epoch of a loader."""
    try:
        return len(source)
    except TypeError:  # also of a loader whose data has none
        raise ValueError(f"fit cannot tell how many batches {type(source).__name__} has in an epoch; pass "
                         "steps_per_epoch") from None


def _tensors(data: Any) -> Any:
    """Return data with every array in it as a tensor."""
    if isinstance(data, Tensor) or data is None:
        return data
    if is_array(data):
        return torch.from_numpy(np.require(data, requirements=["C", "W"]))  # the arrays that torch takes
    if isinstance(data, (tuple, list)) and not hasattr(data, "_fields"):
        return type(data)(_tensors(each) for each in data)
    if type(data) is dict:
        return {key: _tensors(each) for key, each in data.items()}
    return data
