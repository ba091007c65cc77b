"""What a segmentation network says of synthesized photos, and the bits that real ones cost (section 5.1)."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex

from condflows import bits_per_dim

from classifiers import IGNORED, Judge, class_indices
from pairs import to_bytes
from runs import Run

SCORES = {"pixel_accuracy": "pixel acc.", "class_accuracy": "class acc.", "mean_iou": "mean IoU"}


class Scores:
    """Pixel accuracy, class accuracy and mean IoU in percent, of one confusion matrix over all that was added.

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
        """The judge's classes (B, H, W) beside the label maps, official ids (B, H, W)."""
        self.metrics.update(classes.cpu(), class_indices(self.judge, labels))

    def compute(self) -> dict[str, Any]:
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
    run: Run, dataset: Dataset, judge: Judge, temperature: float | None, repeats: int, batch_size: int, seed: int
) -> dict[str, Any]:
    """Scores of ``repeats`` samples of every scene, each a synthesis of the whole split, and how they differ.

    A model without temperature has None for it. ``distance`` is the root mean square difference between two samples of
    a scene, images being in 0 to 1, and ``changed`` the percentage of pixels whose class the judge changes between
    them: means over all pairs and scenes.
    """
    scores = [Scores(judge) for _ in range(repeats)]
    distances: list[Tensor] = []
    changes: list[Tensor] = []
    pairs = run.pairs(seed)
    for batch in DataLoader(dataset, batch_size):
        context = pairs.context(batch)
        samples = to_bytes(run.model.sample(repeats, context, 1.0 if temperature is None else temperature, pairs.noise))
        classes = judge(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])
        for i, score in enumerate(scores):
            score.add(classes[:, i], batch["label"])
        for i, j in combinations(range(repeats), 2):
            difference = (samples[:, i].float() - samples[:, j].float()) / 255
            distances.append(difference.square().flatten(1).mean(1).sqrt())
            changes.append(100 * (classes[:, i] != classes[:, j]).float().flatten(1).mean(1))
    results = [score.compute() for score in scores]
    summary: dict[str, Any] = {"temperature": temperature}
    for name in SCORES:
        summary[name] = spread([result[name] for result in results])
    summary["class_iou"] = {name: sum(result["class_iou"][name] for result in results) / repeats
                            for name in results[0]["class_iou"]}
    summary["confusion"] = results[0]["confusion"]
    for name, values in (("distance", distances), ("changed", changes)):
        summary[name] = float(torch.cat(values).mean()) if values else None
    return summary


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation of repeated measurements, None for a single one."""
    mean, deviation = sum(values) / len(values), None
    if len(values) > 1:
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return {"mean": mean, "deviation": deviation, "values": list(values)}


@torch.no_grad()
def bits(run: Run, dataset: Dataset, draws: int, batch_size: int, seed: int) -> dict[str, Any]:
    """Conditional bits per dimension of a split, their mean and its standard error over the pairs.

    One draw of the dequantization noise gives an upper bound of what the integers cost; the mean of the densities of
    several draws gives the importance-weighted bound, which is tighter.
    """
    pairs, values = run.pairs(seed), []
    for batch in DataLoader(dataset, batch_size):
        context = pairs.context(batch)
        log_probs = torch.stack([run.model.log_prob(pairs.modelled(batch, i), context) for i in range(draws)])
        log_prob = log_probs.logsumexp(0) - math.log(draws)
        values.append(bits_per_dim(log_prob, batch[pairs.target].shape[1:]).cpu())
    each = torch.cat(values).double()
    if not torch.isfinite(each).all():
        bad = int((~torch.isfinite(each)).sum())
        raise ValueError(f"{run.path} gives {bad} of {len(each)} pairs a likelihood that is not finite: try other "
                         "--weights, or train longer")
    error = float(each.std() / math.sqrt(len(each))) if len(each) > 1 else None
    return {"mean": float(each.mean()), "standard_error": error, "draws": draws, "pairs": len(each)}


def references(dataset: Any, train_set: Any, judge: Judge, direction: str, batch_size: int) -> dict[str, dict]:
    """The same scores of what is no model's: the ceiling of real images, and two floors."""
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
    """The mean colour of every label id in the photos of a data set, of all pixels where there is none.

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
    for start in range(0, length, size):
        yield range(start, min(start + size, length))
