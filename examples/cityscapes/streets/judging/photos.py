"""Photos and label maps that a classifier is trained on, and scored on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from streets.config.classifier import Config
from streets.config.data import DataOptions
from streets.data.checking import check_files
from streets.data.cityscapes import Cityscapes
from streets.data.datasets import open_split, say_notes
from streets.data.reading import LabelMaps


def open_pairs(config: Config, maps: LabelMaps) -> tuple[Any, list[Any]]:
    """Open the training split, all of its pairs, and the extra ones if there are any."""
    options = DataOptions(skip_unpaired=config.skip_unpaired)
    real = open_split(config.data, "train", config.image_size, config.generated, config.seed, config.cities, maps,
                      options, hold_out="val" in config.score)
    if not real.has_label_maps:
        raise ValueError(f"--data {config.data}: a classifier learns from label maps, which these data do not have: "
                         "give data in the Cityscapes layout")
    of_ids = LabelMaps(maps.labels)  # as sample.py --augment writes them
    extra = [] if config.extra is None else [Cityscapes(config.extra, "train", config.image_size, maps=of_ids,
                                                        skip_unpaired=config.skip_unpaired)]
    say_notes(real, *extra)
    return real, extra


def open_scored(config: Config, maps: LabelMaps) -> dict[str, Any]:
    """Open the splits to score, of which all files are looked at."""
    options = DataOptions(skip_unpaired=config.skip_unpaired)
    scored = {name: open_split(config.data, name, config.image_size, config.generated, config.seed, maps=maps,
                               options=options) for name in config.score}
    say_notes(*scored.values())
    for name, dataset in scored.items():
        check_files(dataset, name)
    return scored


def batches(train_set: Any, config: Config) -> DataLoader:
    """Return the training batches, in random order."""
    order = torch.Generator().manual_seed(config.seed)
    return DataLoader(train_set, config.batch_size, shuffle=True, generator=order, num_workers=config.workers,
                      drop_last=True, persistent_workers=config.workers > 0, collate_fn=photos_and_labels)


def photos_and_labels(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Collate photos and labels alone: of two data sets only one may have instances."""
    return default_collate([{key: item[key] for key in ("photo", "label")} for item in items])


def present_classes(dataset: Any, evaluated: dict[str, int], config: Config) -> dict[str, int]:
    """Find the evaluated classes that occur in the label maps."""
    every = DataLoader(dataset, config.batch_size, num_workers=config.workers, collate_fn=photos_and_labels)
    seen = {label_id for batch in every for label_id in batch["label"].unique().tolist()}
    classes = {name: label_id for name, label_id in evaluated.items() if label_id in seen}
    if len(classes) < 2:
        raise ValueError(f"the training label maps hold {' and '.join(classes) or 'none'} of the {len(evaluated)} "
                         "evaluated classes: at least two are needed")
    return classes
