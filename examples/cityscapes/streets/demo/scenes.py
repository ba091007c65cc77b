"""Scenes to begin with: generated ones, and those of a data set; or pairs of images."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streets.config.data import DataOptions
from streets.data.datasets import open_dataset
from streets.data.items import Item
from streets.data.reading import LabelMaps

GENERATED = "generated scenes"
LENGTH = 1000
"""Number of generated scenes."""


class Scenes:
    """Scenes of every source, read when they are asked for, at any size."""

    def __init__(self, data: Path | None, split: str, generated: bool = True, maps: LabelMaps | None = None,
                 options: DataOptions | None = None):
        """Name the sources; the files of ``data`` are read as ``maps`` and ``options`` say."""
        self.roots: dict[str, Path | None] = {} if data is None else {f"{data.resolve().name}, {split}": data}
        if generated:
            self.roots[GENERATED] = None
        self.split, self.maps, self.options = split, maps, options
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
        if root is None:
            return open_dataset(None, "val", size, LENGTH)
        dataset = open_dataset(root, self.split, size, maps=self.maps, options=self.options)
        if not dataset.has_label_maps and self.maps is not None:
            raise ValueError(f"--data {root}: the page paints label maps, which these data do not have; give data "
                             "in the Cityscapes layout")
        return dataset
