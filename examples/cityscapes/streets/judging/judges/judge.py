"""Interface of judges, and checks of their inputs."""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from streets.data.labels import IGNORED, LabelSet

NO_LABEL = 256
"""Id of a class that a label set lacks, which no label map holds."""


class Judge(Protocol):
    """Interface of all judges; the index of a class is its place in ``names`` and ``label_ids``."""

    names: tuple[str, ...]
    """Names of its classes."""
    label_ids: tuple[int, ...]
    """Label ids of its classes, official ones of Cityscapes unless it is a judge `for_labels` of another set."""

    def __call__(self, photos: Tensor) -> Tensor:
        """Turn RGB photos of any size, uint8 ``(B, 3, H, W)``, into class indices ``(B, H, W)``, int64."""
        ...


def class_indices(judge: Judge, labels: Tensor) -> Tensor:
    """Turn label ids, uint8, into the judge's class indices, int64, `IGNORED` where it has no such class."""
    table = torch.full((NO_LABEL + 1,), IGNORED, device=labels.device)
    table[list(judge.label_ids)] = torch.arange(len(judge.label_ids), device=labels.device)
    return table[labels.long()]


def for_labels(judge: Judge, labels: LabelSet) -> Judge:
    """Return a judge for label maps of a label set: its classes are the labels of the same names, in any case."""
    id_of = {name.casefold(): label_id for label_id, name in labels.names.items()}
    judge_of_set: Any = copy.copy(judge)
    judge_of_set.label_ids = tuple(id_of.get(name.casefold(), NO_LABEL) for name in judge.names)
    return judge_of_set


def check_photos(photos: Tensor) -> None:
    """Refuse anything but a batch of 8-bit photos: floats in [0, 1] would be judged as black."""
    if photos.dtype != torch.uint8 or photos.ndim != 4 or photos.shape[1] != 3:
        raise ValueError(f"photos: expected torch.uint8 of shape (batch, 3, height, width), got {photos.dtype} of "
                         f"{tuple(photos.shape)}; for floats in [0, 1] pass (255 * photos).round().byte()")
