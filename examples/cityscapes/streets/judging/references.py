"""Scores of images that no model made: a ceiling and two floors."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from streets.judging.judges import Judge
from streets.judging.scores import Scores


def references(dataset: Any, train_set: Any, judge: Judge, direction: str, batch_size: int) -> dict[str, dict]:
    """Score images that no model made: real ones (the ceiling), and two floors."""
    if len(dataset) < 2:
        raise ValueError(f"a split of {len(dataset)} pairs has no other scene to compare with: choose another --split")
    key = "photo" if direction == "label2photo" else "condition"
    other = {"real": 0, "another scene's": len(dataset) // 2}
    scores = {name: Scores(judge) for name in other}
    colors = None
    if direction == "label2photo":
        colors, scores["mean colours"] = mean_colors(train_set), Scores(judge)
    for rows in chunks(len(dataset), batch_size):
        items = [dataset[i] for i in rows]
        labels = torch.stack([item["label"] for item in items])
        for name, shift in other.items():
            shown = items if not shift else [dataset[(i + shift) % len(dataset)] for i in rows]
            scores[name].add(judge(torch.stack([item[key] for item in shown])), labels)
        if colors is not None:
            scores["mean colours"].add(judge(colors[labels.long()].permute(0, 3, 1, 2).contiguous()), labels)
    return {name: score.compute() for name, score in scores.items()}


def mean_colors(dataset: Any) -> Tensor:
    """Return the mean colour of every label id in the photos of a data set; for absent ids, that of all pixels.

    Shape: ``(256, 3)``, uint8.
    """
    total, count = torch.zeros(256, 3, dtype=torch.float64), torch.zeros(256, dtype=torch.float64)
    for i in range(len(dataset)):
        item = dataset[i]
        ids, pixels = item["label"].flatten().long(), item["photo"].flatten(1).T.double()
        total.index_add_(0, ids, pixels)
        count += torch.bincount(ids, minlength=256)
    mean = torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], total.sum(0) / count.sum())
    return mean.round().to(torch.uint8)


def chunks(length: int, size: int) -> Iterator[range]:
    """Yield consecutive ranges of ``size`` indices, which end before ``length``."""
    for start in range(0, length, size):
        yield range(start, min(start + size, length))
