"""Data set of the Cityscapes release, or of any data in its layout."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from streets.data.crops import Window, cut
from streets.data.instances import check_instances
from streets.data.items import Item, checked_size, make_item, nearest, smooth
from streets.data.reading import LabelMaps, check_same_size, open_photo, read_ids

PHOTO, LABELS, INSTANCES = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_instanceIds.png"
"""Endings of the files of a pair."""


class Cityscapes(Dataset[Item]):
    """Pairs of one split of the Cityscapes release, or of any data in its layout, sorted by path.

    `root` holds `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and, for each of them,
    `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`; where `NAME_gtFine_instanceIds.png` lie beside all of these,
    items have `instances`.
    `cities` are the folders CITY to take; all of them if none are named.
    `image_size` is (height, width) in pixels: the whole photo is squeezed into it, whatever its aspect ratio.
    `maps` says how the label maps are read, by default as Cityscapes' ids.
    A folder that cannot be read, and a photo or label map without the other, are reported at once, a damaged file when
    its item is read.
    """

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int], cities: Sequence[str] = (),
                 maps: LabelMaps | None = None) -> None:
        self.image_size, self.maps = checked_size(image_size), maps or LabelMaps()
        root = Path(root)
        all_photos, all_maps = folders(root)
        photos, fine = all_photos / split, all_maps / split
        (of_photos,), (of_maps, of_instances) = by_city(photos, PHOTO), by_city(fine, LABELS, INSTANCES)
        check_split(all_photos, split, of_photos if split else {}, cities)
        pairs, mapped = (sorted((city, name) for city, names in there.items() if not cities or city in cities
                                for name in names) for there in (of_photos, of_maps))
        # sample.py --augment writes a label map before its photo: a set that is not finished has maps without photos.
        check_partners(photos, fine, pairs, mapped, unfinished=(root / "augment.json").exists())
        self.names = [name for _, name in pairs]
        self.photos = [photos / city / f"{name}{PHOTO}" for city, name in pairs]
        self.label_maps, instances = ([fine / city / f"{name}{ending}" for city, name in pairs]
                                      for ending in (LABELS, INSTANCES))
        absent = [path for path, (city, name) in zip(instances, pairs, strict=True)
                  if name not in of_instances.get(city, ())]
        if 0 < len(absent) < len(instances):
            raise FileNotFoundError(
                f"expected instance ids for all {len(instances)} label maps or for none, missing {absent[0]} "
                f"({len(absent)} in all): unpack gtFine again or remove all *_instanceIds.png"
            )
        self.instances = None if absent else instances

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Item:
        return self.read(index)

    def sides(self, index: int) -> list[Path]:
        """Return the files of an item."""
        return [files[index] for files in (self.photos, self.label_maps, self.instances) if files is not None]

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


def folders(root: Path) -> tuple[Path, Path]:
    """Return the folders of photos and of label maps; FileNotFoundError says what there is instead."""
    if not root.is_dir():
        raise FileNotFoundError(f"expected the Cityscapes data in {root}, but there is no such folder: check the path")
    photos, fine = root / "leftImg8bit", root / "gtFine"
    if missing := [folder.name for folder in (photos, fine) if not folder.is_dir()]:
        found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"expected leftImg8bit and gtFine in {root}, missing {' and '.join(missing)}, found {found}: "
            "give the folder in which both zip files of Cityscapes were unpacked"
        )
    return photos, fine


def by_city(split: Path, *endings: str) -> list[dict[str, set[str]]]:
    """List the files of each city of a split, for each of the endings and without it; every folder is read once.

    A city that cannot be read raises OSError; ``glob`` would leave it out.
    """
    cities = [path for path in split.iterdir() if path.is_dir()] if split.is_dir() else []
    files = {city.name: [path.name for path in city.iterdir()] for city in cities}
    return [{city: {name.removesuffix(ending) for name in names if name.endswith(ending)}
             for city, names in files.items()} for ending in endings]


def check_split(photos: Path, split: str, of_photos: Mapping[str, Collection[str]], cities: Sequence[str]) -> None:
    """Refuse a split without photos, or without those of a city that is asked for."""
    found = sorted(city for city, names in of_photos.items() if names)
    if not found:
        exist = sorted(path.name for path in photos.iterdir() if any(by_city(path, PHOTO)[0].values()))
        raise FileNotFoundError(
            f"expected {photos}/{split}/CITY/*{PHOTO}, found none: splits with photos are {', '.join(exist) or 'none'}"
        )
    if unknown := sorted(set(cities) - set(found)):
        raise FileNotFoundError(
            f"expected the cities {', '.join(cities)} in {photos}/{split}, missing {', '.join(unknown)}: "
            f"cities with photos are {', '.join(found)}"
        )


def check_partners(photos: Path, fine: Path, pairs: Sequence[tuple[str, str]], mapped: Sequence[tuple[str, str]],
                   unfinished: bool) -> None:
    """Refuse photos without label maps, and label maps without photos unless the set is still being written."""
    if without_map := sorted(set(pairs) - set(mapped)):
        city, name = without_map[0]
        raise FileNotFoundError(
            f"expected the label map {fine / city / name}{LABELS} of {photos / city / name}{PHOTO}, found none "
            f"({len(without_map)} photos of {len(pairs)} have none): add it or remove the photo"
        )
    if (without_photo := sorted(set(mapped) - set(pairs))) and not unfinished:
        city, name = without_photo[0]
        beside = sorted(path.name for path in (photos / city).glob(f"{name}*"))
        raise FileNotFoundError(
            f"expected the photo {photos / city / name}{PHOTO} of a label map, found {', '.join(beside) or 'none'} "
            f"({len(without_photo)} label maps of {len(mapped)} have none): add it as PNG or remove the label map"
        )
