"""Pictures: grids of images, and PNG files that are written whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

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


def save_picture(picture: Tensor, path: Path) -> None:
    """Write uint8 ``(3, height, width)`` or ``(height, width)`` as PNG so that a reader sees the whole file or none."""
    pixels = picture.permute(1, 2, 0) if picture.ndim == 3 else picture
    with files.written(path) as partial:
        Image.fromarray(pixels.contiguous().numpy()).save(partial, "PNG")
