"""Reading of photos and label maps from single files.

Photos are PNG, JPEG, WebP or TIFF files and label maps PNG files, of one picture, turned upright as their EXIF says.
Photos have 8 bits or fewer, in colours, grey or with a palette; transparency, gamma and colour profiles are ignored.
Ids are one grey channel of 8 or 16 bits. Label maps in colours are opaque; of a palette the colours count, not the
indices, unless ids are asked for. Any other content of a file ends in a ValueError or OSError of one line that names
the file (see png.py and pictures.py).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from streets.data import pictures, png
from streets.data.instances import check_instances
from streets.data.items import Item, checked_size, make_item, nearest, smooth
from streets.data.label_sets import CITYSCAPES
from streets.data.labels import UNKNOWN, LabelSet, OtherLabels, first_place


class LabelMaps(NamedTuple):
    """Reading of the files of label maps: by which table, and what their values are.

    ``values`` is ids, train_ids or colors; None where each file is to tell. Then one grey channel of 8 or 16 bits holds
    ids, that of a `*_labelTrainIds.png` training ids, and any other picture the table's colours.
    """

    labels: LabelSet = CITYSCAPES
    values: str | None = None

    def read(self, path: Path) -> np.ndarray:
        """Read the ids of a label map at its own size; what is not in the table raises ValueError."""
        picture = png.read(path)
        values = self.values or self._kind(path, picture)
        if values == "colors":
            hint = f": paint in the colours of {self.labels.name} alone, without antialiasing, and resize with nearest "
            colors = np.array(_rgb(path, picture, opaque=True))
            return in_table(path, self.labels.ids_from_colors, colors, f"{hint}neighbour")
        if not _holds_ids(picture) and not (self.values and picture.kind == "palette"):
            raise ValueError(
                f"expected one grey channel of ids, of 8 or 16 bits, in {path}, got {picture}: the *_labelIds.png is "
                "needed, or --label-values colors to read colours, or --label-values ids for the indices of a palette"
            )
        numbers = np.array(picture.image)
        if values == "train_ids":
            return in_table(path, self.labels.ids_from_train_ids, numbers)
        if (nothing := numbers == UNKNOWN).any() and not self.labels.may_hold(UNKNOWN):
            raise OtherLabels(
                f"expected ids of {self.labels.name} in {path}, got 255, first found at pixel {first_place(nothing)}, "
                "which maps of ids never hold: maps of training ids do; give --label-values train_ids if this is one"
            )
        return in_table(path, self.labels.as_bytes, numbers)

    def _kind(self, path: Path, picture: png.Picture) -> str:
        """Tell from name and pixels what the values of a file are."""
        if path.name.endswith("_labelTrainIds.png"):
            return "train_ids"
        if _holds_ids(picture) or path.name.endswith("_labelIds.png"):
            return "ids"
        if "grey" in picture.kind:
            raise ValueError(
                f"expected ids in one grey channel of 8 or 16 bits, or the colours of {self.labels.name}, in {path}, "
                f"got {picture}: convert it to one of these"
            )
        return "colors"


def read_label_map(path: str | Path, image_size: Sequence[int] | None = None, maps: LabelMaps | None = None) -> Item:
    """Read an item without photo from a file of a label map, as ``maps`` says, by default of Cityscapes' labels.

    It has `instances` where the file is a `NAME_gtFine_labelIds.png` with `NAME_gtFine_instanceIds.png` beside it.
    `image_size` is (height, width), the file's own if None. Ids or colours outside the table raise ValueError.
    """
    path, instances, maps = Path(path), None, maps or LabelMaps()
    size = None if image_size is None else checked_size(image_size)
    label = maps.read(path)
    size = size or label.shape
    beside = path.with_name(path.name.replace("_gtFine_labelIds.png", "_gtFine_instanceIds.png"))
    if beside != path and beside.is_file():
        instances = read_ids(beside, "instanceIds")
        check_same_size(path, label.shape[::-1], beside, instances)
        check_instances(beside, instances, label)
        instances = nearest(instances, size).astype(np.int32)
    return make_item(_scene_name(path), nearest(label, size), instances, maps.labels)


def read_photo(path: str | Path, image_size: Sequence[int] | None = None) -> Item:
    """Read an item of `photo` and `name` alone from a file; `image_size` is (height, width), the file's own if None."""
    size = None if image_size is None else checked_size(image_size)
    photo = open_photo(Path(path))
    return {"photo": smooth(photo, size or (photo.height, photo.width)), "name": _scene_name(Path(path))}


def open_photo(path: Path) -> Image.Image:
    """Read a photo at its own size."""
    return _rgb(path, pictures.read(path))


def read_ids(path: Path, kind: str) -> np.ndarray:
    """Read a map of ids at its own size."""
    picture = png.read(path)
    if not _holds_ids(picture):
        raise ValueError(
            f"expected one grey channel of ids, of 8 or 16 bits, in {path}, got {picture}: the *_{kind}.png is needed"
        )
    return np.array(picture.image)


def in_table(path: Path, decode: Callable[[Any], np.ndarray], values: np.ndarray, hint: str = "") -> np.ndarray:
    """Decode the values of a file; the ValueError names the file and ends with the hint."""
    try:
        return decode(values)
    except ValueError as error:
        raise type(error)(f"{path}: {error}{hint}") from error


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
    return re.sub("_leftImg8bit$|_gtFine_(labelIds|labelTrainIds|color)$", "", path.stem)


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
            f"{first_place(clear)}: save it without alpha, every pixel in a colour of the table"
        )
    return image.convert("RGB")


def _holds_ids(picture: png.Picture) -> bool:
    """Tell if a picture holds ids. With fewer bits it does not: 3 of 4 bits is 3 to some programs and 51 to others."""
    return picture.kind == "grey" and picture.depth >= 8
