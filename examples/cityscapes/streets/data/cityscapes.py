"""Data set of the Cityscapes release, or of any data in its layout."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from streets.config.data import MAPS, PHOTOS
from streets.data.crops import Window, cut
from streets.data.folders import described, entries, is_picture
from streets.data.instances import check_instances
from streets.data.items import Item, checked_size, make_item, nearest, smooth
from streets.data.pictures import SUFFIXES, size_of
from streets.data.pixels import PairPixels
from streets.data.reading import LabelMaps, check_same_size, open_photo, read_ids

PHOTO = re.compile(f"(.+)_leftImg8bit({'|'.join(map(re.escape, SUFFIXES))})", re.IGNORECASE)
LABEL_MAP = re.compile(r"(.+)_gtFine_labelIds\.png", re.IGNORECASE)
INSTANCES = re.compile(r"(.+)_gtFine_instanceIds\.png", re.IGNORECASE)

Found = dict[tuple[str, str], Path]
"""Files by city and name."""


class Cityscapes(Dataset[Item]):
    """Pairs of one split of the Cityscapes release, or of any data in its layout, sorted by path.

    `root` holds `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` (or `.jpg`, `.webp`, `.tif`) and, for each of them,
    `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`; where `NAME_gtFine_instanceIds.png` lie beside all of these,
    items have `instances`.
    `cities` are the folders CITY to take; all of them if none are named.
    `image_size` is (height, width) in pixels: the whole photo is squeezed into it, whatever its aspect ratio.
    `maps` says how the label maps are read, by default as Cityscapes' ids.
    A folder that is missing or cannot be read is reported at once, a damaged file when its item is read. Files without
    a partner are refused, or with `skip_unpaired` left out, which the `notes` then say.
    """

    pixels, has_label_maps, one_size = PairPixels(), True, True

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int], cities: Sequence[str] = (),
                 maps: LabelMaps | None = None, skip_unpaired: bool = False) -> None:
        self.image_size, self.maps = checked_size(image_size), maps or LabelMaps()
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(
                f"expected the Cityscapes data in {root}, but there is no such folder: check the path"
            )
        splits = splits_of(root)
        photos, others = _files(root / PHOTOS / split, PHOTO) if split in splits else ({}, [])
        if not photos:
            where = root / PHOTOS / split
            there = described(where) if split and where.is_dir() else "none"
            exist = [name for name in splits if name != split and _files(root / PHOTOS / name, PHOTO)[0]]
            raise FileNotFoundError(
                f"expected {root / PHOTOS}/{split}/CITY/*_leftImg8bit.png, found {there}: "
                f"splits with photos are {', '.join(exist) or 'none'}"
            )
        found = sorted({city for city, _ in photos})
        if unknown := sorted(set(cities) - set(found)):
            raise FileNotFoundError(
                f"expected the cities {', '.join(cities)} in {root / PHOTOS / split}, missing {', '.join(unknown)}: "
                f"cities with photos are {', '.join(found)}"
            )
        label_maps, _ = _files(root / MAPS / split, LABEL_MAP)
        instances, _ = _files(root / MAPS / split, INSTANCES)
        photos, label_maps, instances = ({key: path for key, path in each.items() if not cities or key[0] in cities}
                                         for each in (photos, label_maps, instances))
        others = [path for path in others if not cities or path.parent.name in cities]
        both = sorted(photos.keys() & label_maps.keys())
        self.notes = _check_partners(root, split, photos, label_maps, others, skip_unpaired)
        self.photos, self.label_maps = [photos[key] for key in both], [label_maps[key] for key in both]
        self.names = _unique_names(both, self.photos)
        absent = [key for key in both if key not in instances]
        if 0 < len(absent) < len(both):
            city, name = absent[0]
            raise FileNotFoundError(
                f"expected instance ids for all {len(both)} label maps or for none, missing "
                f"{root / MAPS / split / city / name}_gtFine_instanceIds.png "
                f"({len(absent)} in all): unpack gtFine again or remove all *_instanceIds.png"
            )
        self.instances = None if absent else [instances[key] for key in both]

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Item:
        return self.read(index)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an item's files."""
        return size_of(self.photos[index])

    def sides(self, index: int) -> dict[str, Path]:
        """Return the files of an item, by what they are."""
        sides = {"photos": self.photos, "label maps": self.label_maps, "instance maps": self.instances}
        return {kind: files[index] for kind, files in sides.items() if files is not None}

    def label_map(self, index: int) -> np.ndarray:
        """Read the label map of an item at its own size."""
        return self.maps.read(self.label_maps[index])

    def read(self, index: int, window: Window | None = None) -> Item:
        """Read an item, or a window of it that is resized to the image size."""
        photo_path, label_path = self.photos[index], self.label_maps[index]
        photo, label = open_photo(photo_path), self.label_map(index)
        check_same_size(photo_path, photo.size, label_path, label)
        instances = None
        if self.instances is not None:
            instances = read_ids(self.instances[index], "instanceIds")
            check_same_size(photo_path, photo.size, self.instances[index], instances)
            check_instances(self.instances[index], instances, label)
            instances = nearest(cut(instances, window), self.image_size).astype(np.int32)
        label = nearest(cut(label, window), self.image_size)
        photo = photo if window is None else Image.fromarray(cut(np.array(photo), window))
        item = make_item(self.names[index], label, instances, self.maps.labels)
        return item | {"photo": smooth(photo, self.image_size)}


def splits_of(root: Path) -> list[str]:
    """Return the splits of a data set; FileNotFoundError if it lacks one of the two folders."""
    folders, _ = entries(root)
    if missing := [name for name in (PHOTOS, MAPS) if name not in folders]:
        raise FileNotFoundError(
            f"expected leftImg8bit and gtFine in {root}, missing {' and '.join(missing)}, found {described(root)}: "
            "give the folder in which both zip files of Cityscapes were unpacked"
        )
    return entries(root / PHOTOS)[0]


def _files(folder: Path, pattern: re.Pattern[str]) -> tuple[Found, list[Path]]:
    """Find the files of a split whose names are of a pattern, and the pictures whose names are not."""
    found: Found = {}
    if not folder.is_dir():
        return found, []
    cities, loose = entries(folder)
    others = [folder / file for file in loose if is_picture(file)]
    for city in cities:  # each is listed once, since asking for single files takes long on a disk far away
        for file in entries(folder / city)[1]:
            match, path = pattern.fullmatch(file), folder / city / file
            if match is None:
                others += [path] if is_picture(file) else []
            elif (city, match[1]) in found:
                raise ValueError(f"{found[city, match[1]]} and {path} have the same name: remove one of them")
            else:
                found[city, match[1]] = path
    return found, others


def _check_partners(root: Path, split: str, photos: Found, maps: Found, others: Sequence[Path],
                    skip: bool) -> list[str]:
    """Refuse files without a partner, or where they may be left out return the line that says so."""
    if (root / "augment.json").exists():  # sample.py --augment writes a label map before its photo, and goes on later
        maps = {key: path for key, path in maps.items() if key in photos}
    no_map, no_photo = (sorted(mine.keys() - other.keys()) for mine, other in ((photos, maps), (maps, photos)))
    if not no_map and not no_photo and not others:
        return []
    counts = (f"{len(no_map)} of {len(photos)} photos have no label map, {len(no_photo)} of {len(maps)} label maps "
              f"have no photo, {len(others)} pictures have other names")
    if skip and len(photos) > len(no_map):
        alone = [*(photos[key] for key in no_map), *others, *(maps[key] for key in no_photo)]
        return [f"left out of {split}: {counts}, first {alone[0]}"]
    photo_of, map_of = ({key: root / folder / split / key[0] / key[1] for key in keys}
                        for folder, keys in ((PHOTOS, no_photo), (MAPS, no_map)))
    wanted = [f"the label map {stem}_gtFine_labelIds.png of {photos[key]}, found none" for key, stem in map_of.items()]
    wanted += [f"photos named *_leftImg8bit.png alone, got {path}" for path in others]
    wanted += [f"the photo {stem}_leftImg8bit.png of {maps[key]}, found {_beginning_with(stem) or 'none'}"
               for key, stem in photo_of.items()]
    raise FileNotFoundError(f"expected {wanted[0]} ({counts}): add or rename files, or leave out those without a "
                            "partner with --skip-unpaired")


def _beginning_with(stem: Path) -> str:
    """Name the files of a folder whose names begin like this path."""
    return ", ".join(sorted(path.name for path in stem.parent.glob(f"{stem.name}*")))


def _unique_names(keys: Sequence[tuple[str, str]], photos: Sequence[Path]) -> list[str]:
    """Return the names of pairs; two of different cities that have the same are refused."""
    first: dict[str, Path] = {}
    for (_, name), photo in zip(keys, photos, strict=True):
        if name in first:
            raise ValueError(f"{first[name]} and {photo} have the same name, as would files of their pairs: rename one")
        first[name] = photo
    return list(first)
