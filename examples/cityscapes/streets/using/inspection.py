"""Inspection of a data set: what it holds, what a training would leave out and why, and a picture of some pairs."""

from collections import Counter
from typing import Any

from torch.utils.data import default_collate

from streets.config.checks import check_counts
from streets.config.inspection import Config
from streets.data import label_sets
from streets.data.datasets import open_dataset, splits_of, spread
from streets.data.items import Item
from streets.data.labels import LabelSet, OtherLabels
from streets.data.pictures import size_of
from streets.data.reading import LabelMaps
from streets.data.shares import count_labels, describe, doubts
from streets.runs.pictures import grid, save_picture, visible

NAMED = 3
"""Most files that are named for a split."""

Sizes = dict[str, Counter[tuple[int, int]]]
"""Number of files of each height and width, for each kind of files."""


def inspect(config: Config) -> None:
    """Print what there is, and write the contact sheet."""
    check_counts(config, pairs=0, scenes=1, height=8)
    if config.out.exists() and not config.overwrite:
        raise ValueError(f"--out {config.out} is in use: give another, or --overwrite to replace it")
    if config.data is None and config.dataset is None:
        raise ValueError("there is nothing to look at: give the folder of the data, or --dataset MODULE:FUNCTION")
    if config.tile:
        raise ValueError("--tile: files are looked at as they are; leave it out")
    maps = LabelMaps(label_sets.read(config.labels), config.label_values)
    items: list[Item] = []
    size, pixels = None, None
    for split in splits_of(config.data, config):
        try:
            dataset = open_dataset(config.data, split, size or (config.height, config.height), maps=maps,
                                   options=config)
        except (ValueError, OSError) as error:
            print(f"{split}: a training would refuse it: {error}")
            continue
        sizes = count_sizes(dataset, config.pairs)
        if size is None:  # all pictures of the sheet have one size, with the sides of the first split's files
            size = dataset.image_size = sheet_size(dataset, config.height)
        pixels = pixels or dataset.pixels
        items += tell(dataset, split, sizes, maps.labels, config)
    if pixels is None or not items:
        raise ValueError(f"expected pairs in {config.data or config.dataset}, found none that can be read: nothing is "
                         f"written to {config.out}; see the lines above")
    items = [items[i] for i in spread(len(items), config.scenes)]
    batch = default_collate([{kind: item[kind] for kind in pixels._fields} for item in items])
    columns = [visible(batch[kind], of.bits) for kind, of in reversed(pixels._asdict().items())]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_picture(grid(columns), config.out)
    shown = f"photos and label maps in the colours of {maps.labels.name}" if "label" in items[0] else "images B and A"
    print(f"{config.out}: {len(items)} pairs, {shown}")


def count_sizes(dataset: Any, pairs: int) -> Sizes:
    """Count the sizes, height and width, of the files of a sample; those that are no images are missing."""
    sizes: Sizes = {}
    for place in spread(len(dataset), pairs or len(dataset)):
        for kind, path in dataset.sides(place).items():
            try:
                size = size_of(path)
            except (OSError, ValueError):
                continue
            sizes.setdefault(kind, Counter())[size] += 1
    return sizes


def sheet_size(dataset: Any, height: int) -> tuple[int, int]:
    """Return a size of this height with the proportions of the first image that is modelled and can be read."""
    for place in range(len(dataset)):
        try:
            rows, columns = dataset.size(place)
        except (OSError, ValueError):
            continue
        return height, max(1, round(height * columns / rows))
    return height, height


def tell(dataset: Any, split: str, sizes: Sizes, labels: LabelSet, config: Config) -> list[Item]:
    """Print what a split holds, and return the items of a sample that can be read, at most those of the sheet."""
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
    print(f"{split}: {len(dataset)} pairs, {len(places)} of them read")
    for kind, counts in sizes.items():
        print(f"    {kind}: {', '.join(f'{height}x{width} {n}' for (height, width), n in counts.most_common())}")
    reasons = [*listed("a training would refuse", other), *listed("left out with --skip-bad-files", bad)]
    if dataset.has_label_maps:
        shares, number = count_labels(dataset, len(places))
        cities = Counter(path.parent.name for path in dataset.photos)
        print(f"    cities: {', '.join(f'{city} {count}' for city, count in cities.items())}\n"
              f"    classes of {number} label maps: {describe(shares, labels, None) or 'none can be read'}")
        reasons = [*(f"    warning: {doubt}" for doubt in doubts(shares, labels)), *reasons]
    else:
        print(f"    A and B: {dataset.pixels}")
    print("\n".join([*(f"    {note}" for note in dataset.notes), *(reasons or ["    all of these can be read"])]))
    return items


def listed(what: str, reasons: list[str]) -> list[str]:
    """Write how many pairs a reason concerns, and the first ones."""
    more = [f"        and {len(reasons) - NAMED} more"] if len(reasons) > NAMED else []
    head = [f"    {what}, {len(reasons)} pairs:"] if reasons else []
    return head + [f"        {reason}" for reason in reasons[:NAMED]] + more
