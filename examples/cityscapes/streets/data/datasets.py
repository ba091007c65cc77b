"""Data set of a script: files on disk if it is given a folder, else drawn scenes."""

from collections.abc import Sequence
from pathlib import Path

from streets.data.cityscapes import Cityscapes
from streets.data.drawn import StreetScenes


def open_dataset(
    root: str | Path | None, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0
) -> Cityscapes | StreetScenes:
    """Open a split: `Cityscapes` if `root` is given, else `StreetScenes` of this `length` and `seed`."""
    return StreetScenes(split, image_size, length, seed) if root is None else Cityscapes(root, split, image_size)


def open_split(
    root: str | Path | None, split: str, image_size: Sequence[int], generated: int, seed: int
) -> Cityscapes | StreetScenes:
    """Open a split as in training: of drawn scenes `generated` for train, an eighth as many for each other split."""
    return open_dataset(root, split, image_size, generated if split == "train" else max(1, generated // 8), seed)


def spread(length: int, count: int) -> list[int]:
    """Choose `count` indices of a data set, evenly spread from the first to the last; all if it has fewer."""
    count = min(count, length)
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]
