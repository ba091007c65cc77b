"""From items of a data set to what a model takes: which image is given, side information, noise."""

from typing import Any

import torch
from torch import Tensor

from condflows import dequantize
from condflows.trace import Context, map_context

from data import boundaries

DIRECTIONS = {"label2photo": ("condition", "photo"), "photo2label": ("photo", "condition")}


class Pairs:
    """``pairs(batch)`` is ``(context, x_b)``: what is given and what is modelled, float in [0, 1) on ``device``.

    The context is x_a, or with ``boundaries`` ``(x_a, side)``, where side is 1 on the edges of objects and 0 elsewhere.
    The same ``seed`` gives the same noise of dequantization and the same mirrored pairs.
    """

    def __init__(self, device: torch.device, direction: str = "label2photo", boundaries: bool = False, seed: int = 0):
        if boundaries and direction != "label2photo":
            raise ValueError("--boundaries are edges of the label map, which photo2label is to predict: leave it out")
        self.device, self.boundaries = device, boundaries
        self.source, self.target = DIRECTIONS[direction]
        self.noise = torch.Generator(device).manual_seed(seed)

    def __call__(self, batch: dict[str, Any], flip: bool = False) -> tuple[Context, Tensor]:
        context, x_b = self.context(batch), self.modelled(batch)
        if flip:
            mirrored = torch.rand(len(x_b), 1, 1, 1, generator=self.noise, device=self.device) < 0.5
            context, x_b = map_context(lambda x: torch.where(mirrored, x.flip(-1), x), (context, x_b))
        return map_context(lambda x: x.contiguous(memory_format=torch.channels_last), (context, x_b))

    def context(self, batch: dict[str, Any]) -> Context:
        """The context alone, of a batch that may lack what is modelled."""
        x_a = self._dequantized(batch[self.source])
        return (x_a, boundaries(batch).to(self.device)) if self.boundaries else x_a

    def modelled(self, batch: dict[str, Any]) -> Tensor:
        """x_b alone, with new noise at every call."""
        return self._dequantized(batch[self.target])

    def _dequantized(self, images: Tensor) -> Tensor:
        return dequantize(images.to(self.device), generator=self.noise)


def to_bytes(images: Tensor, what: str = "a sample") -> Tensor:
    """Images in [0, 1) as uint8 0..255, what ``dequantize`` undoes; values outside are clamped."""
    if not torch.isfinite(images).all():
        raise ValueError(f"{what} has values that are not finite: try other --weights, or train longer")
    return (256 * images).clamp(0, 255).to(torch.uint8)
