"""Interface of judges, and checks of their inputs."""

from typing import Protocol

import torch
from torch import Tensor

from streets.data.labels import IGNORED


class Judge(Protocol):
    """Interface of all judges; the index of a class is its place in ``names`` and ``label_ids``."""

    names: tuple[str, ...]
    """Names of its classes."""
    label_ids: tuple[int, ...]
    """Official label ids of its classes."""

    def __call__(self, photos: Tensor) -> Tensor:
        """Turn RGB photos of any size, uint8 ``(B, 3, H, W)``, into class indices ``(B, H, W)``, int64."""
        ...


def class_indices(judge: Judge, labels: Tensor) -> Tensor:
    """Turn official label ids, uint8, into the judge's class indices, int64, `IGNORED` where it has no such class."""
    table = torch.full((256,), IGNORED, device=labels.device)
    table[list(judge.label_ids)] = torch.arange(len(judge.label_ids), device=labels.device)
    return table[labels.long()]


def check_photos(photos: Tensor) -> None:
    """Refuse anything but a batch of 8-bit photos: floats in [0, 1] would be judged as black."""
    if photos.dtype != torch.uint8 or photos.ndim != 4 or photos.shape[1] != 3:
        raise ValueError(f"photos: expected torch.uint8 of shape (batch, 3, height, width), got {photos.dtype} of "
                         f"{tuple(photos.shape)}; for floats in [0, 1] pass (255 * photos).round().byte()")
