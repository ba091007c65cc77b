"""Reading of photos and label maps from single files.

Images are PNG files of one picture, turned upright as their EXIF says. Photos have 8 bits or fewer, in colours, grey
or with a palette; transparency, gamma and colour profiles are ignored. Ids are one grey channel of 8 or 16 bits.
Label maps in colours are opaque; of a palette the colours count, not the indices. Any other content of a file ends
in a ValueError or OSError of one line that names the file (see png.py).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from streets.data import labels, png
from streets.data.items import Item, checked_size, make_item, nearest, smooth


class OtherTable(ValueError):
    """Values that are not in the label table: those of other files, that are in it, may be misread as well."""


def read_label_map(path: str | Path, image_size: Sequence[int] | None = None) -> Item:
    """Read an item without photo from a file: official label ids in one grey channel, or a map in the official colours.

    It has `instances` where the file is a `NAME_gtFine_labelIds.png` with `NAME_gtFine_instanceIds.png` beside it.
    `image_size` is (height, width), the file's own if None. Ids or colours outside the table raise ValueError.
    """
    path, instances = Path(path), None
    if path.name.endswith("_labelTrainIds.png"):
        raise ValueError(f"expected label ids, but {path} holds training ids: give the *_labelIds.png beside it")
    size = None if image_size is None else checked_size(image_size)
    picture = png.read(path)
    if _holds_ids(picture):
        label = in_table(path, labels.as_bytes, np.array(picture.image))
    elif "grey" in picture.kind:
        raise ValueError(
            f"expected ids in one grey channel of 8 or 16 bits, or official colours, in {path}, got {picture}: "
            "convert it to one of these"
        )
    else:
        hint = ": paint in the colours of labels.py alone, without antialiasing, and resize with nearest neighbour"
        colors = np.array(_rgb(path, picture, opaque=True))
        label = in_table(path, labels.ids_from_colors, colors, hint)
    size = size or label.shape
    beside = path.with_name(path.name.replace("_gtFine_labelIds.png", "_gtFine_instanceIds.png"))
    if beside != path and beside.is_file():
        instances = read_ids(beside, "instanceIds")
        check_same_size(path, picture.image.size, beside, instances)
        instances = nearest(instances, size).astype(np.int32)
    return make_item(_scene_name(path), nearest(label, size), instances)


def read_photo(path: str | Path, image_size: Sequence[int] | None = None) -> Item:
    """Read an item of `photo` and `name` alone from a file; `image_size` is (height, width), the file's own if None."""
    size = None if image_size is None else checked_size(image_size)
    photo = open_photo(Path(path))
    return {"photo": smooth(photo, size or (photo.height, photo.width)), "name": _scene_name(Path(path))}


def open_photo(path: Path) -> Image.Image:
    """Read a photo at its own size."""
    return _rgb(path, png.read(path))


def read_ids(path: Path, kind: str) -> np.ndarray:
    """Read a map of ids at its own size."""
    picture = png.read(path)
    if not _holds_ids(picture):
        raise ValueError(
            f"expected one grey channel of ids, of 8 or 16 bits, in {path}, got {picture}: the *_{kind}.png is needed"
        )
    return np.array(picture.image)


def in_table(path: Path, decode: Callable[[Any], np.ndarray], values: np.ndarray, hint: str = "") -> np.ndarray:
    """Decode the values of a file; an OtherTable names the file and ends with the hint."""
    try:
        return decode(values)
    except ValueError as error:
        raise OtherTable(f"{path}: {error}{hint}") from error


def check_same_size(first: Path, size: tuple[int, int], path: Path, ids: np.ndarray) -> None:
    """Refuse a map of ids that is not as large as the first file, whose size is (width, height)."""
    width, height = size
    if (height, width) != ids.shape:
        raise ValueError(
            f"expected {path} as large as {first}, {height}x{width}, "
            f"got {ids.shape[0]}x{ids.shape[1]}: one of the two is not from this release"
        )


def _scene_name(path: Path) -> str:
    """Return the name of the scene that a file belongs to, without the endings of the files of Cityscapes."""
    return re.sub("_leftImg8bit$|_gtFine_(labelIds|color)$", "", path.stem)


def _rgb(path: Path, picture: png.Picture, opaque: bool = False) -> Image.Image:
    """Convert a picture of 8 bits to RGB; with ``opaque`` transparency is refused, else dropped."""
    if picture.depth > 8:
        raise ValueError(f"expected an 8-bit image in {path}, got {picture}: convert it to 8-bit RGB")
    image = picture.image
    if image.mode == "RGB" and not (opaque and "transparency" in image.info):
        return image
    # By way of RGBA, since Pillow would warn of a palette with transparency. Alpha is dropped, not blended.
    image = image.convert("RGBA")
    if opaque and (clear := np.array(image.getchannel("A")) < 255).any():
        raise ValueError(
            f"expected an opaque label map in {path}, got transparency, first found at pixel "
            f"{labels.first_place(clear)}: save it without alpha, every pixel in an official colour"
        )
    return image.convert("RGB")


def _holds_ids(picture: png.Picture) -> bool:
    """Tell if a picture holds ids. With fewer bits it does not: 3 of 4 bits is 3 to some programs and 51 to others."""
    return picture.kind == "grey" and picture.depth >= 8
