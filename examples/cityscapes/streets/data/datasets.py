"""Data sets of a script: files on disk where it is given any, else drawn scenes."""

from collections.abc import Sequence
from pathlib import Path

from streets.data.cityscapes import Cityscapes
from streets.data.drawn import StreetScenes


def open_dataset(
    root: str | Path | None, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0
) -> Cityscapes | StreetScenes:
    """Open a split: `Cityscapes` where `root` is given, else `StreetScenes`, which alone reads `length` and `seed`."""
    return (
        StreetScenes(split, image_size, length, seed) if root is None else Cityscapes(root, split, image_size)
    )


def spread(length: int, count: int) -> list[int]:
    """Return so many indices, evenly spread from the first to the last of a data set; all where it has fewer."""
    count = min(count, length)
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]
