"""Scores of synthesized photos: how well a segmentation network recognizes their label maps (section 5.1)."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex

from streets.data.labels import IGNORED
from streets.data.pairs import to_bytes
from streets.judging.judges import Judge, class_indices
from streets.runs.run import Run

SCORES = {"pixel_accuracy": "pixel acc.", "class_accuracy": "class acc.", "mean_iou": "mean IoU"}


class Scores:
    """Pixel accuracy, class accuracy and mean IoU in percent, from one confusion matrix over all added images.

    The means run over the classes that occur in the label maps; unlabeled pixels, and labels that the judge does not
    know, do not count.
    """

    def __init__(self, judge: Judge):
        self.judge = judge
        options: dict[str, Any] = {"num_classes": len(judge.names), "ignore_index": IGNORED}
        self.metrics = MetricCollection({
            "confusion": MulticlassConfusionMatrix(**options),
            "pixel_accuracy": MulticlassAccuracy(average="micro", **options),
            "class_accuracy": MulticlassAccuracy(average="none", **options),
            "iou": MulticlassJaccardIndex(average="none", **options),
        })

    def add(self, classes: Tensor, labels: Tensor) -> None:
        """Add the judge's class indices (B, H, W) and the label maps, official ids (B, H, W)."""
        self.metrics.update(classes.cpu(), class_indices(self.judge, labels))

    def compute(self) -> dict[str, Any]:
        """Return the scores, the IoU of each class, and the confusion matrix."""
        values = self.metrics.compute()
        confusion: Tensor = values["confusion"]
        occur = confusion.sum(1) > 0
        if not occur.any():
            raise ValueError(f"none of the judge's classes ({', '.join(self.judge.names)}) occurs in the label maps: "
                             "choose a --judge for this data")
        names = [name for name, occurs in zip(self.judge.names, occur.tolist(), strict=True) if occurs]
        return {
            "pixel_accuracy": 100 * float(values["pixel_accuracy"]),
            "class_accuracy": 100 * float(values["class_accuracy"][occur].mean()),
            "mean_iou": 100 * float(values["iou"][occur].mean()),
            "class_iou": dict(zip(names, (100 * values["iou"][occur]).tolist(), strict=True)),
            "confusion": confusion.tolist(),
        }


@torch.no_grad()
def judge_samples(
    run: Run, dataset: Dataset, judge: Judge | None, temperature: float | Sequence[float] | None, repeats: int,
    batch_size: int, seed: int, guidance: float = 0.0
) -> dict[str, Any]:
    """Score ``repeats`` syntheses of a split, each a sample of every scene, and measure their differences.

    ``temperature`` is None for a model that has none. ``distance`` is the root mean square difference between two
    samples of a scene, with images in 0 to 1, and ``changed`` the percentage of pixels whose class the judge changes
    between them: means over all pairs of samples and all scenes. Without a judge there are no scores, and ``changed``
    is None.
    """
    scores = [] if judge is None else [Scores(judge) for _ in range(repeats)]
    distances: list[Tensor] = []
    changes: list[Tensor] = []
    pairs = run.pairs(seed)
    for batch in DataLoader(dataset, batch_size):
        context = pairs.context(batch)
        samples = to_bytes(run.sample(repeats, context, 1.0 if temperature is None else temperature, pairs.noise,
                                      guidance), bits=run.wanted.bits)
        for i, j in combinations(range(repeats), 2):
            difference = (samples[:, i].float() - samples[:, j].float()) / (2**run.wanted.bits - 1)
            distances.append(difference.square().flatten(1).mean(1).sqrt())
        if judge is None:
            continue
        classes = judge(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])
        for i, score in enumerate(scores):
            score.add(classes[:, i], batch["label"])
        changes += [100 * (classes[:, i] != classes[:, j]).float().flatten(1).mean(1)
                    for i, j in combinations(range(repeats), 2)]
    summary: dict[str, Any] = {"temperature": temperature, "guidance": guidance}
    results = [score.compute() for score in scores]
    if results:
        for name in SCORES:
            summary[name] = mean_and_deviation([result[name] for result in results])
        summary["class_iou"] = {name: sum(result["class_iou"][name] for result in results) / repeats
                                for name in results[0]["class_iou"]}
        summary["confusion"] = results[0]["confusion"]
    for name, values in (("distance", distances), ("changed", changes)):
        summary[name] = float(torch.cat(values).mean()) if values else None
    return summary


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation of repeated measurements, None for a single one."""
    mean, deviation = sum(values) / len(values), None
    if len(values) > 1:
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return {"mean": mean, "deviation": deviation, "values": list(values)}
