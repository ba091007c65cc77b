"""Judges: segmentation classifiers that score synthesized street photos by how well they recognize what was asked for.

    judge = load_judge("espnet-camvid", Path("weights.safetensors"))
    predicted = judge(photos)                      # class indices of every pixel
    truth = class_indices(judge, labels)           # of the label maps that the photos were made from
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from classifiers import espnet, pspnet
from classifiers.inputs import check_photos
from labels import IGNORED, LABELS


class Judge(Protocol):
    """What all judges are; the index of a class is its place in ``names`` and ``label_ids``."""

    names: tuple[str, ...]
    """Of its classes."""
    label_ids: tuple[int, ...]
    """The official label id of each class."""

    def __call__(self, photos: Tensor) -> Tensor:
        """Photos uint8 ``(B, 3, H, W)``, RGB, of any size, to class indices int64 ``(B, H, W)`` on their device."""
        ...


class ColorsJudge:
    """For models that synthesize label maps: of the 19 evaluated classes, the one whose official colour is nearest."""

    names, label_ids = tuple(pspnet.CITYSCAPES), tuple(pspnet.CITYSCAPES.values())

    def __call__(self, photos: Tensor) -> Tensor:
        check_photos(photos)
        of_name = {label.name: label.color for label in LABELS}
        colors = torch.tensor([of_name[name] for name in self.names], device=photos.device).float()
        # |p - c|^2 without |p|^2: whole numbers, exact in float32.
        distances = colors.square().sum(1)[:, None, None] - 2 * torch.einsum("bchw,kc->bkhw", photos.float(), colors)
        return distances.argmin(1)


def load_colors(weights: Path | None, device: str | torch.device = "cpu") -> ColorsJudge:
    """The judge by colours, which has no weights and works on any device."""
    if weights is not None:
        raise ValueError(f"expected no weights for the judge by colours, got {weights}: leave them out")
    return ColorsJudge()


JUDGES: dict[str, Callable[[Path | None, str | torch.device], Judge]] = {
    "espnet-camvid": espnet.load, "pspnet": pspnet.load, "colors": load_colors
}


def load_judge(name: str, weights: Path | None = None, device: str | torch.device = "cpu") -> Judge:
    """The judge of that name with its weights.

    Raises:
        FileNotFoundError: there are no weights in that place.
        ValueError: an unknown name, damaged weights, or those of another network, of which the first key that differs
            is named with both shapes.
    """
    if name not in JUDGES:
        raise ValueError(f"expected a judge of {', '.join(JUDGES)}, got {name!r}: pass one of these names")
    return JUDGES[name](weights, device)


def class_indices(judge: Judge, labels: Tensor) -> Tensor:
    """Official label ids in uint8 to the judge's class indices in int64, `IGNORED` where it has no such class."""
    table = torch.full((256,), IGNORED, device=labels.device)
    table[list(judge.label_ids)] = torch.arange(len(judge.label_ids), device=labels.device)
    return table[labels.long()]
