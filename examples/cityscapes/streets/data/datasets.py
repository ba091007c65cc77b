"""Data set of a script: files on disk if it is given a folder, else drawn scenes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from streets.data.cityscapes import Cityscapes
from streets.data.drawn import StreetScenes
from streets.data.label_sets import CITYSCAPES
from streets.data.reading import LabelMaps


def open_dataset(root: str | Path | None, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0,
                 cities: Sequence[str] = (), maps: LabelMaps | None = None) -> Cityscapes | StreetScenes:
    """Open a split: of files if ``root`` is given, all its ``cities`` or some; else ``length`` drawn scenes."""
    if root is not None:
        return Cityscapes(root, split, image_size, cities, maps)
    if cities:
        raise ValueError(f"--cities {' '.join(cities)}: cities are folders of --data, and drawn scenes have none; give "
                         "--data too, or leave them out")
    if maps is not None and maps.values is not None:
        raise ValueError(f"--label-values {maps.values}: drawn scenes are no files of label maps; give --data too, or "
                         "leave it out")
    if maps is not None and maps.labels != CITYSCAPES:
        raise ValueError(f"--labels {maps.labels.name}: drawn scenes have the labels of cityscapes; give --data too, "
                         "or leave it out")
    return StreetScenes(split, image_size, length, seed)


def open_split(root: str | Path | None, split: str, image_size: Sequence[int], generated: int, seed: int,
               cities: Sequence[str] = (), maps: LabelMaps | None = None) -> Cityscapes | StreetScenes:
    """Open a split as in training: of drawn scenes `generated` for train, an eighth as many for each other split."""
    length = generated if split == "train" else max(1, generated // 8)
    return open_dataset(root, split, image_size, length, seed, cities, maps)


def some(dataset: Any, pairs: int | None) -> Any:
    """Take ``pairs`` pairs of a training split, evenly spread over it; all if None."""
    if pairs is None or pairs == len(dataset):
        return dataset
    if pairs > len(dataset):
        raise ValueError(f"--pairs {pairs}: there are only {len(dataset)} training pairs")
    return Subset(dataset, spread(len(dataset), pairs))


def spread(length: int, count: int) -> list[int]:
    """Choose `count` indices of a data set, evenly spread from the first to the last; all if it has fewer."""
    count = min(count, length)
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]
