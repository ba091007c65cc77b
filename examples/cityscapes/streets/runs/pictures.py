"""Pictures: grids of images, and PNG files that are written whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from streets.system import files


def grid(columns: Sequence[Tensor], padding: int = 2, least: int = 96) -> Tensor:
    """Lay out columns of images, each ``(rows, 3, H, W)`` in [0, 1], in one picture ``(3, height, width)``, uint8.

    Images less than ``least`` pixels high are enlarged by a whole factor.
    """
    cells = torch.stack([column.float().cpu().clamp(0, 1) for column in columns], dim=1)
    enlarge = -(-least // cells.shape[-2])
    cells = cells.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    cells = torch.nn.functional.pad(cells, (0, padding, 0, padding), value=1.0)
    rows, count, channels, height, width = cells.shape
    picture = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, count * width)
    return (255 * picture[:, :-padding, :-padding]).round().to(torch.uint8)


def visible(images: Tensor, bits: int | None = None) -> Tensor:
    """Turn images ``(..., channels, H, W)`` into ones to look at, ``(..., 3, H, W)`` in [0, 1].

    One channel becomes grey, two red and green, and of more than three the first three are shown. Images are of
    ``bits``, or in [0, 1] already if that is None.
    """
    shown = images[..., :3, :, :] if bits is None else images[..., :3, :, :] / (2**bits - 1)
    channels = shown.shape[-3]
    if channels == 1:
        return shown.expand(*shown.shape[:-3], 3, *shown.shape[-2:])
    return shown if channels == 3 else torch.cat([shown, torch.zeros_like(shown[..., :1, :, :])], dim=-3)


def suffix_of(image: Tensor) -> str:
    """Return the ending of a file that holds all values of an image ``(channels, H, W)`` or ``(H, W)``.

    It is .png for colours of 8 bits and for one channel of 8 or 16, else .npy.
    """
    one_channel = image.ndim == 2 or len(image) == 1
    return ".png" if one_channel or (len(image) == 3 and image.dtype == torch.uint8) else ".npy"


def save_values(image: Tensor, path: Path) -> None:
    """Write an image, uint8 or of 16 bits in int32, as PNG or as an array ``(H, W, channels)``."""
    values = image if image.dtype == torch.uint8 else image.to(torch.uint16)
    if suffix_of(image) == ".png":
        save_picture(values[0] if values.ndim == 3 and len(values) == 1 else values, path)
        return
    with files.written(path) as partial, partial.open("wb") as file:
        np.save(file, values.permute(1, 2, 0).contiguous().numpy())


def save_image(image: Tensor, stem: Path) -> None:
    """Write an image with the ending that its values need."""
    save_values(image, stem.with_name(stem.name + suffix_of(image)))


def save_picture(picture: Tensor, path: Path) -> None:
    """Write uint8 ``(3, height, width)`` or ``(height, width)`` as PNG so that a reader sees the whole file or none."""
    pixels = picture.permute(1, 2, 0) if picture.ndim == 3 else picture
    with files.written(path) as partial:
        Image.fromarray(pixels.contiguous().numpy()).save(partial, "PNG")
