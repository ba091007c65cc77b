"""Street scenes as pairs of photo and label map: the Cityscapes release on disk, or scenes drawn on the fly.

Every item is a dictionary; H and W are those of `image_size`:

    photo      uint8 (3, H, W)   red, green, blue in 0..255
    condition  uint8 (3, H, W)   the label map in the official colours
    label      uint8 (H, W)      official label ids; 255 stands for -1
    instances  int32 (H, W)      1000 * id + number for single objects, else the plain id; a dataset has
                                 it in all of its items or in none
    name       str               for example aachen_000000_000019

Images are PNG files of one picture, turned upright where their EXIF says how. Photos have 8 bits or fewer, in
colours, grey or with a palette; transparency, gamma and colour profiles are ignored. Ids are one grey channel
of 8 or 16 bits. Label maps in colours are opaque; of a palette the colours count, not the indices. Any other
content of a file ends in a ValueError or OSError of one line that names it (see pictures.py).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

import labels
import pictures
import scenes

SPLITS = ("train", "val", "test")

Item = dict[str, Any]


class Cityscapes(Dataset[Item]):
    """The pairs of one split of the Cityscapes release, or of any data in its layout, sorted by path.

    `root` holds `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and, for each of them,
    `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`; where `NAME_gtFine_instanceIds.png` lie beside all of these,
    items have `instances`.
    `image_size` is (height, width) in pixels: the whole photo is squeezed into it, whatever its aspect ratio.
    What is wrong with a folder is reported here, what is wrong with a file when its item is read.
    """

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int]) -> None:
        self.image_size = _checked_size(image_size)
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(
                f"expected the Cityscapes data in {root}, but there is no such folder: check the path"
            )
        photos, maps = root / "leftImg8bit", root / "gtFine"
        if missing := [folder.name for folder in (photos, maps) if not folder.is_dir()]:
            found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
            raise FileNotFoundError(
                f"expected leftImg8bit and gtFine in {root}, missing {' and '.join(missing)}, found {found}: "
                "give the folder in which both zip files of Cityscapes were unpacked"
            )
        self.photos = sorted((photos / split).glob("*/*_leftImg8bit.png")) if split else []
        if not self.photos:
            exist = sorted(p.name for p in photos.iterdir() if any(p.glob("*/*_leftImg8bit.png")))
            raise FileNotFoundError(
                f"expected {photos}/{split}/CITY/*_leftImg8bit.png, found none: "
                f"splits with photos are {', '.join(exist) or 'none'}"
            )
        self.names = [photo.name.removesuffix("_leftImg8bit.png") for photo in self.photos]
        stems = [
            maps / split / p.parent.name / f"{n}_gtFine" for p, n in zip(self.photos, self.names, strict=True)
        ]
        self.label_maps = [stem.with_name(f"{stem.name}_labelIds.png") for stem in stems]
        for photo, label_map in zip(self.photos, self.label_maps, strict=True):
            if not label_map.is_file():
                raise FileNotFoundError(
                    f"expected the label map {label_map} of {photo}, found none: add it or remove the photo"
                )
        instances = [stem.with_name(f"{stem.name}_instanceIds.png") for stem in stems]
        absent = [path for path in instances if not path.is_file()]
        if 0 < len(absent) < len(instances):
            raise FileNotFoundError(
                f"expected instance ids for all {len(instances)} label maps or for none, missing {absent[0]} "
                f"({len(absent)} in all): unpack gtFine again or remove all *_instanceIds.png"
            )
        self.instances = None if absent else instances

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Item:
        photo_path, label_path = self.photos[index], self.label_maps[index]
        photo, label = _read_photo(photo_path), _read_ids(label_path, "labelIds")
        _check_same_size(photo_path, photo.size, label_path, label)
        label = _in_table(label_path, labels.as_bytes, label)
        instances = None
        if self.instances is not None:
            instances = _read_ids(self.instances[index], "instanceIds")
            _check_same_size(photo_path, photo.size, self.instances[index], instances)
            instances = _nearest(instances, self.image_size).astype(np.int32)
        label = _nearest(label, self.image_size)
        return _item(self.names[index], label, instances) | {"photo": _smooth(photo, self.image_size)}


class StreetScenes(Dataset[Item]):
    """`length` street scenes with exact label and instance maps, drawn when asked for: no files are needed.

    A scene depends on (seed, split, index) alone: a longer dataset begins with the scenes of a shorter one,
    and train, val and test share none. `image_size` is (height, width) in pixels; the scenes are composed at
    1:2 and squeezed into it, as Cityscapes is. The layout of a scene is the same at every size.
    """

    def __init__(self, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
        if length < 1 or seed < 0:
            raise ValueError(f"expected length >= 1 and seed >= 0, got length {length} and seed {seed}")
        self.split, self.image_size, self.length, self.seed = split, _checked_size(image_size), length, seed
        self.names = [f"{split}_{seed:06d}_{index:06d}" for index in range(length)]
        self.kept: dict[int, Item] = {}
        self.most_kept = 2**29 // (11 * self.image_size[0] * self.image_size[1])  # bytes of a pixel in all its tensors

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        index = range(self.length)[index]  # negative indices, and IndexError past the end, as in a list
        item = self.kept.get(index) or self._draw(index)
        if len(self.kept) < self.most_kept:
            self.kept[index] = item
        return item

    def _draw(self, index: int) -> Item:
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        photo, instances = scenes.draw(rng, self.image_size)
        label = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
        return _item(self.names[index], label, instances) | {"photo": _channels_first(photo)}


def open_dataset(
    root: str | Path | None, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0
) -> Cityscapes | StreetScenes:
    """`Cityscapes` where `root` is given, else `StreetScenes`; only the latter reads `length` and `seed`."""
    return (
        StreetScenes(split, image_size, length, seed) if root is None else Cityscapes(root, split, image_size)
    )


def read_label_map(path: str | Path, image_size: Sequence[int] | None = None) -> Item:
    """An item without photo from one file: official label ids in one grey channel, or a map in the official colours.

    It has `instances` where the file is a `NAME_gtFine_labelIds.png` with `NAME_gtFine_instanceIds.png` beside it.
    `image_size` is (height, width), the file's own if None. Ids or colours outside the table raise ValueError.
    """
    path, instances = Path(path), None
    if path.name.endswith("_labelTrainIds.png"):
        raise ValueError(f"expected label ids, but {path} holds training ids: give the *_labelIds.png beside it")
    size = None if image_size is None else _checked_size(image_size)
    picture = pictures.read(path)
    if _holds_ids(picture):
        label = _in_table(path, labels.as_bytes, np.array(picture.image))
    elif "grey" in picture.kind:
        raise ValueError(
            f"expected ids in one grey channel of 8 or 16 bits, or official colours, in {path}, got {picture}: "
            "convert it to one of these"
        )
    else:
        hint = ": paint in the colours of labels.py alone, without antialiasing, and resize with nearest neighbour"
        colors = np.array(_rgb(path, picture, opaque=True))
        label = _in_table(path, labels.ids_from_colors, colors, hint)
    size = size or label.shape
    beside = path.with_name(path.name.replace("_gtFine_labelIds.png", "_gtFine_instanceIds.png"))
    if beside != path and beside.is_file():
        instances = _read_ids(beside, "instanceIds")
        _check_same_size(path, picture.image.size, beside, instances)
        instances = _nearest(instances, size).astype(np.int32)
    return _item(_scene_name(path), _nearest(label, size), instances)


def read_photo(path: str | Path, image_size: Sequence[int] | None = None) -> Item:
    """An item of `photo` and `name` alone from one file; `image_size` is (height, width), the file's own if None."""
    size = None if image_size is None else _checked_size(image_size)
    photo = _read_photo(Path(path))
    return {"photo": _smooth(photo, size or (photo.height, photo.width)), "name": _scene_name(Path(path))}


def boundaries(item: Item) -> torch.Tensor:
    """Float (1, H, W), 1 where a pixel's object differs from that of one of its four neighbours, else 0.

    Objects are instances where the item has them, labels elsewhere. A collated batch gives (batch, 1, H, W).
    """
    objects = item["instances"] if "instances" in item else item["label"]
    edges = torch.zeros_like(objects, dtype=torch.bool)
    across, down = objects[..., :, 1:] != objects[..., :, :-1], objects[..., 1:, :] != objects[..., :-1, :]
    edges[..., :, 1:] |= across
    edges[..., :, :-1] |= across
    edges[..., 1:, :] |= down
    edges[..., :-1, :] |= down
    return edges.float().unsqueeze(-3)


def _item(name: str, label: np.ndarray, instances: np.ndarray | None) -> Item:
    item = {
        "condition": _channels_first(labels.colorize(label)),
        "label": torch.from_numpy(label),
        "name": name,
    }
    return item if instances is None else item | {"instances": torch.from_numpy(instances)}


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def _scene_name(path: Path) -> str:
    """The name of the scene that a file belongs to, without what tells the kinds of files of Cityscapes apart."""
    return re.sub("_leftImg8bit$|_gtFine_(labelIds|color)$", "", path.stem)


def _checked_size(image_size: Sequence[int]) -> tuple[int, int]:
    most = pictures.MOST_SIDE
    if len(image_size) != 2 or not all(1 <= side <= most and int(side) == side for side in image_size):
        raise ValueError(
            f"expected image_size as (height, width) in whole pixels, both from 1 to {most}, got {image_size}"
        )
    height, width = int(image_size[0]), int(image_size[1])
    if height * width > pictures.MOST_PIXELS:
        raise ValueError(
            f"expected an image_size of at most {pictures.MOST_PIXELS} pixels, got {height}x{width}: choose a smaller"
        )
    return height, width


def _read_photo(path: Path) -> Image.Image:
    return _rgb(path, pictures.read(path))


def _rgb(path: Path, picture: pictures.Picture, opaque: bool = False) -> Image.Image:
    if picture.depth > 8:
        raise ValueError(f"expected an 8-bit image in {path}, got {picture}: convert it to 8-bit RGB")
    image = picture.image
    if image.mode == "RGB" and not (opaque and "transparency" in image.info):
        return image
    # By way of RGBA, or else Pillow warns of a palette with transparency. Alpha is dropped, not blended.
    image = image.convert("RGBA")
    if opaque and (clear := np.array(image.getchannel("A")) < 255).any():
        raise ValueError(
            f"expected an opaque label map in {path}, got transparency, first found at pixel "
            f"{labels.first_place(clear)}: "
            "save it without alpha, every pixel in an official colour"
        )
    return image.convert("RGB")


def _holds_ids(picture: pictures.Picture) -> bool:
    """Fewer bits are no ids: 3 of 4 bits is 3 to some programs and 51 of 255 to others."""
    return picture.kind == "grey" and picture.depth >= 8


def _read_ids(path: Path, kind: str) -> np.ndarray:
    picture = pictures.read(path)
    if not _holds_ids(picture):
        raise ValueError(
            f"expected one grey channel of ids, of 8 or 16 bits, in {path}, got {picture}: the *_{kind}.png is needed"
        )
    return np.array(picture.image)


def _in_table(path: Path, decode: Callable[[Any], np.ndarray], values: np.ndarray, hint: str = "") -> np.ndarray:
    try:
        return decode(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}{hint}") from error


def _check_same_size(first: Path, size: tuple[int, int], path: Path, ids: np.ndarray) -> None:
    width, height = size
    if (height, width) != ids.shape:
        raise ValueError(
            f"expected {path} as large as {first}, {height}x{width}, "
            f"got {ids.shape[0]}x{ids.shape[1]}: one of the two is not from this release"
        )


def _smooth(photo: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    height, width = size
    if photo.size != (width, height):
        # Lanczos widens its support when it shrinks an image, which is what prevents aliasing.
        if photo.height * width > pictures.MOST_PIXELS:  # in between, for Pillow changes the width first
            photo = photo.resize((photo.width, height), Image.Resampling.LANCZOS)
        photo = photo.resize((width, height), Image.Resampling.LANCZOS)
    return _channels_first(np.array(photo))


def _nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The id under the centre of every new pixel; all of them where the size is already right."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(ids.shape, size, strict=True)
    )
    return ids[rows[:, None], columns]
