"""The place of the data and how they are read, as options give them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PHOTOS, MAPS = "leftImg8bit", "gtFine"
"""Folders of the Cityscapes layout."""
GENERATED = Path("generated")
"""Value of ``--data`` that asks for drawn scenes; a folder of that name needs a longer path."""


def folder(data: Path | None) -> Path | None:
    """Return the folder that the option names; None for drawn scenes."""
    return None if data == GENERATED else data


def name_of(data: Path | None) -> str:
    """Name the data in a message or in a table."""
    return "drawn scenes" if data is None else str(data)


def layout_has_label_maps(data: Path | None, dataset: str | None) -> bool:
    """Tell if data have label maps: drawn scenes do, and the Cityscapes layout."""
    return dataset is None and (data is None or not os.path.exists(data)
                                or any(os.path.exists(data / name) for name in (PHOTOS, MAPS)))


Side = Literal["left", "right"]
"""Half of a picture of two images side by side."""


@dataclass(kw_only=True)
class DataOptions:
    """Options of data that are not in the Cityscapes layout."""

    side: Side | None = None
    """Half that is A, the given image, where each picture of --data is two images side by side."""
    dataset: str | None = None
    """Function of your own that opens the data, MODULE:FUNCTION, in place of --data: it gets the name of a split, and
    returns a sequence of pairs of images (A, B), or None where there is no such split."""
    tile: bool = False
    """Cut the images into tiles of --image-size, side by side at the scale of the files, in place of resizing them."""
    skip_unpaired: bool = False
    """Leave out files of --data that have no partner, and say how many; without this option they are an error."""


def options_of(config: Mapping[str, Any]) -> DataOptions:
    """Return the options that the data of a run were opened with, which older runs lack.

    A function that opens data is never taken from the files of a run, which may be those of someone else.
    """
    return DataOptions(side=config.get("side"), tile=config.get("tile", False),
                       skip_unpaired=config.get("skip_unpaired", False))
