"""What judges take."""

import torch
from torch import Tensor


def check_photos(photos: Tensor) -> None:
    """Refuse what is no batch of 8-bit photos: floats in [0, 1] would be judged as black."""
    if photos.dtype != torch.uint8 or photos.ndim != 4 or photos.shape[1] != 3:
        raise ValueError(f"photos: expected torch.uint8 of shape (batch, 3, height, width), got {photos.dtype} of "
                         f"{tuple(photos.shape)}; for floats in [0, 1] pass (255 * photos).round().byte()")
