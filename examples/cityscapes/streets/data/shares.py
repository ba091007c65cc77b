"""Shares of the classes in a data set, found over a sample of its label maps, and what is implausible about them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streets.data.datasets import spread
from streets.data.labels import IGNORED, LabelSet, spans

SAMPLE = 32
"""Number of label maps that are read, spread over a data set."""
NAMED = 6
"""Number of classes that a line names."""
STREET = ("road", "building", "sky")
"""Labels of which every set of street scenes shows one."""


def count_labels(dataset: Any, sample: int = SAMPLE) -> tuple[dict[int, float], int]:
    """Return the share of every id over a sample of label maps, and their number, without those that cannot be read.

    A data set without files of label maps has none.
    """
    counts, number = np.zeros(256), 0
    for place in spread(len(dataset), sample) if "label maps" in dataset.sides(0) else ():
        try:
            ids = dataset.label_map(place)
        except (ValueError, OSError):  # the training names it, or leaves it out
            continue
        counts += np.bincount(ids.ravel(), minlength=256) / ids.size
        number += 1
    return {int(i): float(counts[i]) / number for i in np.flatnonzero(counts)}, number


def describe(shares: Mapping[int, float], labels: LabelSet, most: int | None = NAMED) -> str:
    """Write the shares of the classes, the largest first: 34 % road, 22 % building, 3 more."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    named = [f"{_percent(share)} {labels.names[i]}" for i, share in ranked[:most]]
    rest = ranked[len(named):]
    return ", ".join(named + ([f"{_percent(sum(share for _, share in rest))} {len(rest)} more"] if rest else []))


def doubts(shares: Mapping[int, float], labels: LabelSet) -> list[str]:
    """List what is implausible about the shares of the classes, and what to do; nothing if all is as expected."""
    if not shares:
        return []
    found = []
    advice = "look at them with inspect_data.py, and give --labels and --label-values as they are"
    train_id = {label.id % 256: label.train_id for label in labels.labels if label.train_id is not None}
    evaluated = {i for i, number in train_id.items() if 0 <= number < IGNORED}
    ignored = sum(share for i, share in shares.items() if train_id and i not in evaluated)
    numbers = {train_id[i] for i in evaluated}
    # Only where many of the ids are above all training ids do maps without any of these tell something.
    tells = 3 * sum(i > max(numbers) for i in evaluated) > len(evaluated) if numbers else False
    if tells and len(shares) > 3 and set(shares) <= numbers:
        found.append(f"all ids are of {spans(sorted(numbers))}, as training ids are, and none above: if they are "
                     "training ids, give --label-values train_ids")
    if ignored > 0.5:
        found.append(f"{_percent(ignored)} of the pixels have a label that is not evaluated, such as "
                     f"{labels.names[max(set(shares) - evaluated, key=lambda i: shares[i])]}: {advice}")
    id_of = {name: i for i, name in labels.names.items()}
    if all(name in id_of for name in STREET) and not any(id_of[name] in shares for name in STREET):
        found.append(f"there is no {', '.join(STREET[:-1])} or {STREET[-1]}: {advice}")
    if len(shares) == 1:
        found.append(f"all pixels are {labels.names[next(iter(shares))]}: {advice}")
    return found


def report(dataset: Any, labels: LabelSet, split: str) -> None:
    """Print which classes the label maps of a split show, and what is implausible; nothing where there are no maps."""
    shares, number = count_labels(dataset)
    if number:
        print(f"label maps of {split}, {number} of {len(dataset)}: {describe(shares, labels)}", flush=True)
    for doubt in doubts(shares, labels):
        print(f"warning: label maps of {split}: {doubt}", flush=True)


def _percent(share: float) -> str:
    """Write a share in percent, small ones as less than 1."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"
