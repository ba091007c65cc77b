"""Data set of the Cityscapes release, or of any data in its layout."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from streets.data import labels
from streets.data.crops import Window, cut
from streets.data.items import Item, checked_size, make_item, nearest, smooth
from streets.data.reading import check_same_size, in_table, open_photo, read_ids


class Cityscapes(Dataset[Item]):
    """Pairs of one split of the Cityscapes release, or of any data in its layout, sorted by path.

    `root` holds `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and, for each of them,
    `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`; where `NAME_gtFine_instanceIds.png` lie beside all of these,
    items have `instances`.
    `cities` are the folders CITY to take; all of them if none are named.
    `image_size` is (height, width) in pixels: the whole photo is squeezed into it, whatever its aspect ratio.
    A missing folder or file is reported at once, a damaged file when its item is read.
    """

    def __init__(self, root: str | Path, split: str, image_size: Sequence[int], cities: Sequence[str] = ()) -> None:
        self.image_size = checked_size(image_size)
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
        found = sorted({photo.parent.name for photo in self.photos})
        if unknown := sorted(set(cities) - set(found)):
            raise FileNotFoundError(
                f"expected the cities {', '.join(cities)} in {photos}/{split}, missing {', '.join(unknown)}: "
                f"cities with photos are {', '.join(found)}"
            )
        self.photos = [photo for photo in self.photos if not cities or photo.parent.name in cities]
        self.names = [photo.name.removesuffix("_leftImg8bit.png") for photo in self.photos]
        stems = [maps / split / p.parent.name / f"{n}_gtFine" for p, n in zip(self.photos, self.names, strict=True)]
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
        return self.read(index)

    def read(self, index: int, window: Window | None = None) -> Item:
        """Read an item, or a window of it that is resized to the image size."""
        photo_path, label_path = self.photos[index], self.label_maps[index]
        photo, label = open_photo(photo_path), read_ids(label_path, "labelIds")
        check_same_size(photo_path, photo.size, label_path, label)
        label = in_table(label_path, labels.as_bytes, label)
        instances = None
        if self.instances is not None:
            instances = read_ids(self.instances[index], "instanceIds")
            check_same_size(photo_path, photo.size, self.instances[index], instances)
            instances = nearest(cut(instances, window), self.image_size).astype(np.int32)
        label = nearest(cut(label, window), self.image_size)
        photo = photo if window is None else Image.fromarray(cut(np.array(photo), window))
        return make_item(self.names[index], label, instances) | {"photo": smooth(photo, self.image_size)}
