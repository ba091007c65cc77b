"""Inspection of a data set: what it holds, what a training would leave out and why, and a picture of some pairs."""

from collections import Counter
from pathlib import Path

import torch
from PIL import Image

from streets.config.checks import check_counts
from streets.config.inspection import Config
from streets.data import label_sets
from streets.data.cityscapes import Cityscapes
from streets.data.datasets import spread
from streets.data.items import Item
from streets.data.labels import OtherLabels
from streets.data.reading import LabelMaps
from streets.data.shares import count_labels, describe, doubts
from streets.runs.pictures import grid, save_picture

NAMED = 3
"""Most files that are named for a split."""


def inspect(config: Config) -> None:
    """Print what there is, and write the contact sheet."""
    check_counts(config, pairs=0, scenes=1, height=8)
    if config.out.exists() and not config.overwrite:
        raise ValueError(f"--out {config.out} is in use: give another, or --overwrite to replace it")
    maps = LabelMaps(label_sets.read(config.labels), config.label_values)
    items: list[Item] = []
    size = None
    for split in splits_of(config.data):
        try:
            dataset = Cityscapes(config.data, split, size or (config.height, config.height), maps=maps)
        except (ValueError, OSError) as error:
            print(f"{split}: a training would refuse it: {error}")
            continue
        sizes = photo_sizes(dataset, config.pairs)
        if size is None and sizes:  # all pictures of the sheet have one size, that of most photos
            (width, height), _ = sizes.most_common(1)[0]
            size = dataset.image_size = config.height, max(1, round(config.height * width / height))
        items += tell(dataset, split, sizes, config)
    if not items:
        raise ValueError(f"expected pairs in {config.data}, found none that can be read: nothing is written to "
                         f"{config.out}; see the lines above")
    items = [items[i] for i in spread(len(items), config.scenes)]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_picture(grid([torch.stack([item[key] for item in items]) / 255 for key in ("photo", "condition")]), config.out)
    print(f"{config.out}: {len(items)} pairs, photos and label maps in the colours of {maps.labels.name}")


def splits_of(root: Path) -> list[str]:
    """List the splits of a data set, train first; without any the name of one, which is then refused with a reason."""
    folder = root / "leftImg8bit"
    found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return sorted(found, key=lambda name: name != "train") or ["train"]


def photo_sizes(dataset: Cityscapes, pairs: int) -> Counter:
    """Count the sizes, width and height, of a sample of the photos; those that are no images are missing."""
    sizes: Counter = Counter()
    for place in spread(len(dataset), pairs or len(dataset)):
        try:
            with Image.open(dataset.photos[place]) as photo:  # the header alone
                sizes[photo.size] += 1
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return sizes


def tell(dataset: Cityscapes, split: str, sizes: Counter, config: Config) -> list[Item]:
    """Print what a split holds, and return the items of a sample that can be read, at most those of the sheet."""
    cities = Counter(path.parent.name for path in dataset.photos)
    places = spread(len(dataset), config.pairs or len(dataset))
    shown = set(spread(len(places), config.scenes))
    items, bad, other = [], [], []
    for number, place in enumerate(places):
        try:
            item = dataset[place]
        except OtherLabels as error:
            other.append(str(error))
        except (ValueError, OSError) as error:
            bad.append(str(error))
        else:
            items += [item] if number in shown else []
    labels = dataset.maps.labels
    shares, number = count_labels(dataset, len(places))
    print(f"{split}: {len(dataset)} pairs, {len(places)} of them read")
    print(f"    cities: {', '.join(f'{city} {count}' for city, count in cities.items())}")
    print(f"    sizes: {', '.join(f'{height}x{width} {n}' for (width, height), n in sizes.most_common()) or 'none'}")
    print(f"    label maps, {number} readable: {describe(shares, labels, None) or 'nothing'}")
    print(f"    instance maps: {'for all pairs' if dataset.instances else 'none'}")
    print("\n".join([*(f"    warning: {doubt}" for doubt in doubts(shares, labels)),
                     *listed("a training would refuse", other),
                     *listed("left out with --skip-bad-files", bad)]) or "    all of these can be read")
    return items


def listed(what: str, reasons: list[str]) -> list[str]:
    """Write how many pairs a reason concerns, and the first ones."""
    more = [f"        and {len(reasons) - NAMED} more"] if len(reasons) > NAMED else []
    head = [f"    {what}, {len(reasons)} pairs:"] if reasons else []
    return head + [f"        {reason}" for reason in reasons[:NAMED]] + more
