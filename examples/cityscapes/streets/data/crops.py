"""Random crops of training pairs: other ones in every epoch, whichever process reads them."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from streets.system.seeds import seed_of

WHOLE = 0.2
"""Share of the pairs that are not cropped: samples show whole photos."""


class Window(NamedTuple):
    """Part of an image: its top left corner, and its height and width, as shares of those of the image."""

    top: float
    left: float
    height: float
    width: float


class Crops(Dataset):
    """Pairs of a data set, epoch by epoch: item ``epoch * len(crops) + i`` is pair i.

    With ``least`` below 1 it is cropped at random, in each epoch anew, to that share of its height and width or more.
    """

    def __init__(self, dataset: Any, least: float, seed: int):
        self.dataset, self.least, self.seed = dataset, least, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> Any:
        epoch, index = divmod(place, len(self.dataset))
        dataset: Any = self.dataset
        if self.least == 1:
            return dataset[index]
        return dataset.read(index, draw_window(self.least, seed_of(self.seed, "crop", dataset.names[index], epoch)))


def draw_window(least: float, seed: int) -> Window | None:
    """Draw a window of ``least`` of an image's height and width or more; None for the whole image."""
    whole, share, top, left = torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()
    size = least + (1 - least) * share
    return None if whole < WHOLE else Window(top * (1 - size), left * (1 - size), size, size)


def cut(image: np.ndarray, window: Window | None) -> np.ndarray:
    """Cut a window, to whole pixels, out of an image (height, width, ...)."""
    if window is None:
        return image
    height, width = image.shape[:2]
    top, bottom = _between(window.top, window.height, height)
    left, right = _between(window.left, window.width, width)
    return image[top:bottom, left:right]


def _between(start: float, share: float, length: int) -> tuple[int, int]:
    """Return the first pixel of a part of a side, and that after its last, at least one."""
    first = min(round(start * length), length - 1)
    return first, max(round((start + share) * length), first + 1)
