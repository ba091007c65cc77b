"""Tiles of images that are larger than what a model is trained on, at the scale of the files."""

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from streets.data.crops import Window
from streets.data.items import Item
from streets.system import progress


class Tiles(Dataset[Item]):
    """Tiles of all pairs of a data set, side by side and as large as its image size, at the scale of the photos.

    Images A of another size than B are cut in the same places, and resized. What is left at the right and at the bottom
    of an image is not used, which the ``notes`` say. An image that is smaller than a tile is an error.
    """

    def __init__(self, dataset: Any):
        self.dataset, (height, width) = dataset, dataset.image_size
        self.pixels, self.has_label_maps, self.one_size = dataset.pixels, dataset.has_label_maps, dataset.one_size
        self.image_size, self.names = dataset.image_size, []
        self.tiles: list[tuple[int, Window]] = []
        names = progress.bar(dataset.names, desc="sizes of files, for tiles", leave=False, delay=2)
        for index, name in enumerate(names):
            try:
                rows, columns = dataset.size(index)
            except (OSError, ValueError) as error:
                self._check_unreadable(index, error)
                self.tiles.append((index, Window(0, 0, 1, 1)))
                self.names.append(name)
                continue
            if rows < height or columns < width:
                raise ValueError(f"expected images of at least {height}x{width} for --tile, got {rows}x{columns} of "
                                 f"{name}: choose a smaller --image-size")
            for row in range(rows // height):
                for column in range(columns // width):
                    self.tiles.append((index, Window(row * height / rows, column * width / columns, height / rows,
                                                     width / columns)))
                    self.names.append(f"{name}_{row}_{column}")
        self.notes = (*dataset.notes, f"{len(self)} tiles of {height}x{width} of {len(dataset)} pairs; what is left at "
                                      "the right and at the bottom is not used")

    def _check_unreadable(self, index: int, error: Exception) -> None:
        """Pass over a pair that cannot be read, which is told or left out later; else raise why it has no size."""
        try:
            self.dataset.read(index)
        except (OSError, ValueError):
            return
        raise error

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, index: int) -> Item:
        return self.read(index)

    def read(self, index: int, window: Window | None = None) -> Item:
        """Read a tile, of which no windows are cut."""
        if window is not None:
            raise ValueError("tiles are not cropped: give --tile or --crop")
        place, tile = self.tiles[index]
        return self.dataset.read(place, tile) | {"name": self.names[index]}

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of a tile."""
        return self.image_size

    def sides(self, index: int) -> dict[str, Path]:
        """Return the files that a tile is from, by what they are."""
        return self.dataset.sides(self.tiles[index][0])

    def label_map(self, index: int) -> np.ndarray:
        """Read the label map of the whole image that a tile is from."""
        return self.dataset.label_map(self.tiles[index][0])
