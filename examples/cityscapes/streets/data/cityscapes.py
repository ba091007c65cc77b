"""Data set of the Cityscapes release, or of any data in its layout."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from streets.data.crops import Window, cut
from streets.data.instances import check_instances
from streets.data.items import Item, checked_size, make_item, nearest, smooth
from streets.data.reading import LabelMaps, check_same_size, open_photo, read_ids


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
        if not root.is_dir():
            raise FileNotFoundError(
                f"expected the Cityscapes data in {root}, but there is no such folder: check the path"
            )
        photos, fine = root / "leftImg8bit", root / "gtFine"
        if missing := [folder.name for folder in (photos, fine) if not folder.is_dir()]:
            found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
            raise FileNotFoundError(
                f"expected leftImg8bit and gtFine in {root}, missing {' and '.join(missing)}, found {found}: "
                "give the folder in which both zip files of Cityscapes were unpacked"
            )
        of_split = by_city(photos / split, "_leftImg8bit.png") if split else {}
        if not any(of_split.values()):
            exist = sorted(path.name for path in photos.iterdir() if any(by_city(path, "_leftImg8bit.png").values()))
            raise FileNotFoundError(
                f"expected {photos}/{split}/CITY/*_leftImg8bit.png, found none: "
                f"splits with photos are {', '.join(exist) or 'none'}"
            )
        found = sorted(city for city, names in of_split.items() if names)
        if unknown := sorted(set(cities) - set(found)):
            raise FileNotFoundError(
                f"expected the cities {', '.join(cities)} in {photos}/{split}, missing {', '.join(unknown)}: "
                f"cities with photos are {', '.join(found)}"
            )
        of_maps, of_instances = ({city: set(names) for city, names in by_city(fine / split, ending).items()}
                                 for ending in ("_gtFine_labelIds.png", "_gtFine_instanceIds.png"))
        pairs = [(city, name) for city in found if not cities or city in cities for name in of_split[city]]
        without_map = [(city, name) for city, name in pairs if name not in of_maps.get(city, ())]
        if without_map:
            city, name = without_map[0]
            raise FileNotFoundError(
                f"expected the label map {fine / split / city / name}_gtFine_labelIds.png of "
                f"{photos / split / city / name}_leftImg8bit.png, found none ({len(without_map)} photos of "
                f"{len(pairs)} have none): add it or remove the photo"
            )
        without_photo = sorted((city, name) for city, names in of_maps.items() if not cities or city in cities
                               for name in names.difference(of_split.get(city, ())))
        # sample.py --augment writes a label map before its photo: a set that is not finished has maps without photos.
        if without_photo and not (root / "augment.json").exists():
            city, name = without_photo[0]
            beside = sorted(path.name for path in (photos / split / city).glob(f"{name}*"))
            raise FileNotFoundError(
                f"expected the photo {photos / split / city / name}_leftImg8bit.png of a label map, found "
                f"{', '.join(beside) or 'none'} ({len(without_photo)} label maps of "
                f"{len(pairs) + len(without_photo)} have none): add it as PNG or remove the label map"
            )
        self.names = [name for _, name in pairs]
        self.photos = [photos / split / city / f"{name}_leftImg8bit.png" for city, name in pairs]
        stems = [fine / split / city / f"{name}_gtFine" for city, name in pairs]
        self.label_maps = [stem.with_name(f"{stem.name}_labelIds.png") for stem in stems]
        instances = [stem.with_name(f"{stem.name}_instanceIds.png") for stem in stems]
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


def by_city(split: Path, ending: str) -> dict[str, list[str]]:
    """List the files of each city of a split that have an ending, sorted and without it; OSError of a city that cannot
    be read, which ``glob`` would leave out."""
    cities = sorted(path for path in split.iterdir() if path.is_dir()) if split.is_dir() else []
    return {city.name: sorted(path.name.removesuffix(ending) for path in city.iterdir() if path.name.endswith(ending))
            for city in cities}
