"""Splits of a training, train and val: opened, and checked before the first step."""

from typing import Any

import torch

from streets.config.training import Config
from streets.data import loading
from streets.data.checking import check_files
from streets.data.datasets import open_split, say_notes, some
from streets.data.labels import LabelSet
from streets.data.parts import Part
from streets.data.reading import LabelMaps
from streets.data.shares import report
from streets.system import processes


def open_splits(config: Config, labels: LabelSet, device: torch.device) -> tuple[Any, Any]:
    """Open train and val; the first process looks at all files, and says which classes their label maps show."""
    maps, names = LabelMaps(labels, config.label_values), ("train", "val")
    train_set, val_set = sets = [open_readable(config, name, device, maps) for name in names]
    if not config.skip_bad_files:  # else all have been read
        processes.by_first(lambda: [check_files(each, name, loading.advised)
                                    for each, name in zip(sets, names, strict=True)], device)
    if processes.rank() == 0:
        for each, name in zip(sets, names, strict=True):
            report(each, labels, name)
    if train_set.pixels != val_set.pixels:
        raise ValueError(f"the pairs of train are of {train_set.pixels}, and those of val of {val_set.pixels}: convert "
                         "them to the same kinds of images")
    return train_set, val_set


def open_readable(config: Config, name: str, device: torch.device, maps: LabelMaps) -> Any:
    """Open a split of the data, on request without the pairs that cannot be read."""
    training = name == "train"
    dataset: Any = open_split(config.data, name, config.image_size, config.generated, config.seed,
                              config.cities if training else (), maps, config, hold_out=True)
    say_notes(dataset)
    dataset = some(dataset, config.pairs) if training else dataset
    bad = loading.unreadable(dataset, config.workers, device, name) if config.skip_bad_files else {}
    if not bad:
        return dataset
    good = [i for i in range(len(dataset)) if i not in bad]
    if not good:
        raise ValueError(f"none of the {len(dataset)} pairs of {name} can be read: {next(iter(bad.values()))}")
    if processes.rank() == 0:
        print("\n".join(bad.values()), f"\n{len(bad)} of {len(dataset)} pairs of {name} cannot be read and are "
              "left out", sep="")
    return Part(dataset, good)
