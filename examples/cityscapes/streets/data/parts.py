"""Parts of a data set: some of its pairs, which are read as those of the whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from streets.data.crops import Window
from streets.data.items import Item

HELD_OUT = 10
"""Number of training pairs for each one that is held out, where there is no split for validation."""


class Part(Dataset[Item]):
    """Some pairs of a data set, by their indices; ``notes`` are lines on what was left out."""

    def __init__(self, dataset: Any, indices: Sequence[int], notes: Sequence[str] = ()):
        self.dataset, self.indices = dataset, list(indices)
        self.names = [dataset.names[index] for index in indices]
        self.notes = (*dataset.notes, *notes)
        self.pixels, self.has_label_maps, self.one_size = dataset.pixels, dataset.has_label_maps, dataset.one_size
        self.image_size = dataset.image_size

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        return self.dataset[self.indices[index]]

    def read(self, index: int, window: Window | None = None) -> Item:
        """Read an item, or a window of it that is resized to the image size, of data that are not drawn."""
        return self.dataset.read(self.indices[index], window)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an item's files."""
        return self.dataset.size(self.indices[index])

    def sides(self, index: int) -> dict[str, Path]:
        """Return the files of an item, by what they are."""
        return self.dataset.sides(self.indices[index])

    def label_map(self, index: int) -> np.ndarray:
        """Read the label map of an item at its own size."""
        return self.dataset.label_map(self.indices[index])


def spread(length: int, count: int) -> list[int]:
    """Choose `count` indices of a data set, evenly spread from the first to the last; all if it has fewer."""
    count = min(count, length)
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]


def split_off(dataset: Any, split: str, names: Sequence[str] | None = None) -> Part:
    """Return train or val of a data set that has no val: every tenth pair, at least one, is held out as val.

    Of train only pairs of these ``names`` are taken, all if None.
    """
    length = len(dataset)
    if length < 2:
        raise ValueError(f"there is no split val, and of {length} training pair none can be held out: add pairs")
    count = max(1, length // HELD_OUT)
    held = {(2 * i + 1) * length // (2 * count) for i in range(count)}  # the middles of as many stretches
    note = f"no split val: {count} of {length} training pairs, evenly spread, are held out for validation"
    if split == "val":
        return Part(dataset, sorted(held), [note])
    known = set(dataset.names if names is None else names)
    return Part(dataset, [i for i, name in enumerate(dataset.names) if i not in held and name in known])
