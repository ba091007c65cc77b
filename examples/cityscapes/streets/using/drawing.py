"""Samples of a model for single scenes; their noise does not depend on other scenes or samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from streets.config.temperatures import text
from streets.data.items import Item
from streets.data.pairs import to_bytes
from streets.runs.pictures import grid, save_picture, visible
from streets.runs.run import Run
from streets.system.seeds import seed_of


def tensors(run: Run, item: Item, seed: int) -> tuple[Any, Any]:
    """Return context and x_b of one scene, in a batch of one; x_b is None where the item lacks it."""
    pairs, batch = run.pairs(seed), default_collate([item])
    return pairs.context(batch), pairs.modelled(batch) if pairs.target in batch else None


def draw(run: Run, item: Item, number: int, temperature: float | Sequence[float], seed: int,
         guidance: float = 0.0) -> Tensor:
    """Draw a sample ``(channels, H, W)``, uint8 or of 16 bits in int32.

    Its noise depends on ``seed``, the scene's name and the number alone.
    """
    noise = torch.Generator().manual_seed(seed_of(seed, "sample", item["name"], number))
    image = run.sample(1, tensors(run, item, seed)[0], temperature, noise, guidance)[0, 0]
    return to_bytes(image, f"sample {number} of {item['name']} at temperature {text(temperature)}",
                    run.wanted.bits).cpu()


def save_grid(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Write rows of images as one picture; those in int32 are of 16 bits."""
    shown = [[visible(image, 8 if image.dtype == torch.uint8 else 16) for image in row] for row in rows]
    save_picture(grid([torch.stack(column) for column in zip(*shown, strict=True)]), path)
