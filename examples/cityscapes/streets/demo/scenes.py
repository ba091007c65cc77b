"""Scenes to begin with: generated ones, and those of a data set; or pairs of images."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streets.config.data import DataOptions
from streets.data.datasets import open_dataset
from streets.data.items import Item

GENERATED = "generated scenes"
LENGTH = 1000
"""Number of generated scenes."""


class Scenes:
    """Scenes of every source, read when they are asked for, at any size."""

    def __init__(self, data: Path | None, split: str, of_images: bool = False, options: DataOptions | None = None):
        """Name the sources; with ``of_images`` these are pairs of images, of which none are generated."""
        self.roots: dict[str, Path | None] = {} if data is None else {f"{data.resolve().name}, {split}": data}
        if not of_images:
            self.roots[GENERATED] = None
        self.split, self.of_images, self.options = split, of_images, options
        self._opened = functools.lru_cache(maxsize=8)(self._open)

    @property
    def sources(self) -> list[str]:
        """Names of the sources, the data set first."""
        return [*self.roots]

    def count(self, source: str, size: Sequence[int]) -> int:
        """Count the scenes of a source."""
        return len(self._opened(source, tuple(size)))

    def item(self, source: str, number: float | None, size: Sequence[int]) -> Item:
        """Read a scene at a size; numbers past the last one begin again, and an empty field is the first."""
        dataset = self._opened(source, tuple(size))
        return dataset[int(number or 0) % len(dataset)]

    def _open(self, source: str, size: tuple[int, ...]) -> Any:
        root = self.roots[source]
        dataset = open_dataset(root, self.split if root else "val", size, LENGTH, options=self.options)
        if not dataset.has_label_maps and not self.of_images:
            raise ValueError(f"--data {root}: the page paints label maps, which these data do not have; give data "
                             "in the Cityscapes layout")
        return dataset
