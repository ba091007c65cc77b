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
from streets.runs.pictures import grid, save_picture
from streets.runs.run import Run
from streets.system.seeds import seed_of


def tensors(run: Run, item: Item, seed: int) -> tuple[Any, Any]:
    """Return context and x_b of one scene, in a batch of one; x_b is None where the item lacks it."""
    pairs, batch = run.pairs(seed), default_collate([item])
    return pairs.context(batch), pairs.modelled(batch) if pairs.target in batch else None


def draw(run: Run, item: Item, number: int, temperature: float | Sequence[float], seed: int,
         guidance: float = 0.0) -> Tensor:
    """Draw a sample, uint8 ``(3, H, W)``; its noise depends on ``seed``, the scene's name and the number alone."""
    noise = torch.Generator().manual_seed(seed_of(seed, "sample", item["name"], number))
    image = run.sample(1, tensors(run, item, seed)[0], temperature, noise, guidance)[0, 0]
    return to_bytes(image, f"sample {number} of {item['name']} at temperature {text(temperature)}").cpu()


def save_grid(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Write rows of uint8 images as one picture."""
    save_picture(grid([torch.stack(column) / 255 for column in zip(*rows, strict=True)]), path)
