"""Data set of a script: files on disk, what a function returns, or else drawn scenes.

Every data set has a length, items by index, and

    names             names of the items
    pixels            channels and bits of both images, which all items share
    has_label_maps    True where items have a ``label``
    sides(index)      files of an item, by what they are
    size(index)       height and width of these
    one_size          True where these are to be equally large
    notes             lines on what was left out, or held out

and those that are not drawn ``read(index, window)``, for a part of an item.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streets.config.data import DataOptions
from streets.data.drawn import StreetScenes
from streets.data.folders import SPLITS
from streets.data.label_sets import CITYSCAPES
from streets.data.layouts import Layout, recognize
from streets.data.own import open_own
from streets.data.parts import Part, split_off, spread
from streets.data.reading import LabelMaps
from streets.data.tiles import Tiles
from streets.system import processes

__all__ = ["open_dataset", "open_split", "say_notes", "some", "splits_of", "spread"]


def open_dataset(root: str | Path | None, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0,
                 cities: Sequence[str] = (), maps: LabelMaps | None = None, options: DataOptions | None = None,
                 hold_out: bool = False) -> Any:
    """Open a split: of files if ``root`` is given, all its ``cities`` or some; else ``length`` drawn scenes.

    Label maps are read as ``maps`` says. Where there is no split val, a part of train is val, which train lacks if
    ``hold_out`` asks for that.
    """
    options = options or DataOptions()
    if options.tile and (root is not None or options.dataset is not None):
        whole = dataclasses.replace(options, tile=False)
        return Tiles(open_dataset(root, split, image_size, length, seed, cities, maps, whole, hold_out))
    if root is None and (unused := [name for name in ("side", "skip_unpaired") if getattr(options, name)]):
        raise ValueError(f"--{unused[0].replace('_', '-')} is for files of --data, and there are none: leave it out")
    if options.dataset is not None:
        _check_no_maps(maps, "pairs of --dataset have no label maps; leave it out")
        return _open_own(root, options.dataset, split, image_size, cities, hold_out)
    if root is not None:
        return _open_files(Path(root), split, image_size, cities, maps, options, hold_out)
    if cities:
        raise ValueError(f"--cities {' '.join(cities)}: cities are folders of --data, and drawn scenes have none; give "
                         "--data too, or leave them out")
    if options.tile:
        raise ValueError("--tile: drawn scenes have no size of their own; give --data too, or leave it out")
    _check_no_maps(maps, "drawn scenes have the labels of cityscapes, and no files; give --data too, or leave it out")
    return StreetScenes(split, image_size, length, seed)


def open_split(root: str | Path | None, split: str, image_size: Sequence[int], generated: int, seed: int,
               cities: Sequence[str] = (), maps: LabelMaps | None = None, options: DataOptions | None = None,
               hold_out: bool = False) -> Any:
    """Open a split as in training: of drawn scenes `generated` for train, an eighth as many for each other split."""
    length = generated if split == "train" else max(1, generated // 8)
    return open_dataset(root, split, image_size, length, seed, cities, maps, options, hold_out)


def splits_of(root: Path | None, options: DataOptions) -> list[str]:
    """List the splits that there are on disk, or of a function of one's own, train first."""
    if options.dataset is not None:
        found = [split for split in SPLITS if open_own(options.dataset, split, (1, 1)) is not None]
    else:
        found = [*recognize(root or Path(), options).splits]
    return sorted(found, key=lambda name: name != "train") or ["train"]


def some(dataset: Any, pairs: int | None) -> Any:
    """Take ``pairs`` pairs of a training split, evenly spread over it; all if None."""
    if pairs is None or pairs == len(dataset):
        return dataset
    if pairs > len(dataset):
        raise ValueError(f"--pairs {pairs}: there are only {len(dataset)} training pairs")
    return Part(dataset, spread(len(dataset), pairs))


def say_notes(*opened: Any) -> None:
    """Print what was left out of data sets, or held out; of several processes the first alone does."""
    for note in (note for dataset in opened for note in dataset.notes if processes.rank() == 0):
        print(note, flush=True)


def _open_files(root: Path, split: str, image_size: Sequence[int], cities: Sequence[str],
                maps: LabelMaps | None, options: DataOptions, hold_out: bool) -> Any:
    """Open a split of a layout that is recognized."""
    layout = recognize(root, options, maps)
    if not layout.has_label_maps:
        _check_no_maps(maps, f"{root} holds pairs of images ({layout.name}), without label maps; leave it out")
    if (split == "val" or (split == "train" and hold_out)) and "val" not in layout.splits and "train" in layout.splits:
        whole = layout.splits["train"](image_size, ())
        named = layout.splits["train"](image_size, cities).names if cities and split == "train" else None
        return _with_notes(split_off(whole, split, named), split, layout)
    if split not in layout.splits:
        raise FileNotFoundError(f"expected the split {split} in {root}, got {layout.name} with "
                                f"{', '.join(layout.splits) or 'no splits'}: choose one of these with --split")
    return _with_notes(layout.splits[split](image_size, cities), split, layout)


def _with_notes(dataset: Any, split: str, layout: Layout) -> Any:
    """Add the notes on the whole of the data to those of train, so that they are said once."""
    dataset.notes = (*dataset.notes, *(layout.notes if split == "train" else ()))
    return dataset


def _check_no_maps(maps: LabelMaps | None, reason: str) -> None:
    """Refuse options of label maps for data that have no files of them."""
    if maps is not None and maps.values is not None:
        raise ValueError(f"--label-values {maps.values}: {reason}")
    if maps is not None and maps.labels != CITYSCAPES:
        raise ValueError(f"--labels {maps.labels.name}: {reason}")


def _open_own(root: str | Path | None, name: str, split: str, image_size: Sequence[int], cities: Sequence[str],
              hold_out: bool) -> Any:
    """Open a split of a function of one's own."""
    if root is not None or cities:
        raise ValueError(f"--dataset {name} opens the data itself: leave out --data and --cities")
    dataset = open_own(name, split, image_size)
    if split == "train" and hold_out and dataset is not None and open_own(name, "val", image_size) is None:
        return split_off(dataset, split)
    if split == "val" and dataset is None and (whole := open_own(name, "train", image_size)) is not None:
        return split_off(whole, split)
    if dataset is None:
        raise FileNotFoundError(f"--dataset {name} returns None for the split {split}: choose another with --split")
    return dataset
