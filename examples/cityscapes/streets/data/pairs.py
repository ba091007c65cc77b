"""Batches as a model takes them: the given image, side information, the modelled image, dequantization noise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from condflows import dequantize
from condflows.trace import Context, map_context
from streets.data.items import boundaries
from streets.data.labels import UNKNOWN
from streets.data.pixels import DIRECTIONS, PairPixels
from streets.system.seeds import seed_of


class Pairs:
    """Conversion of batches into ``(context, x_b)``, the given and the modelled image, float in [0, 1) on ``device``.

    The context is x_a, the given image, or with ``boundaries`` ``(x_a, side)``, where side is 1 on the edges of objects
    and 0 elsewhere; or with ``labels`` the map of label ids, integers ``(batch, 1, height, width)``. Gaussian noise of
    the deviation ``sigma`` is added to x_b, which may then leave [0, 1). All noise, and the choice of pairs that are
    mirrored or whose labels are hidden, depend on ``seed``, the name of the item and the number of the ``draw`` alone:
    not on the batch, its order, or the process that reads it.
    """

    def __init__(self, device: torch.device, direction: str = "label2photo", boundaries: bool = False, seed: int = 0,
                 labels: bool = False, pixels: PairPixels | None = None, sigma: float = 0.0):
        if boundaries and direction != "label2photo":
            raise ValueError("--boundaries are edges of the label map, which photo2label is to predict: leave it out")
        self.device, self.boundaries, self.seed, self.labels = device, boundaries, seed, labels
        self.direction, self.pixels, self.sigma = direction, pixels or PairPixels(), sigma
        self.source, self.target = DIRECTIONS[direction]
        self.given, self.wanted = self.pixels.sides(direction)
        self.noise = torch.Generator(device).manual_seed(seed)
        self._own = torch.Generator(device)

    def restarted(self, seed: int) -> "Pairs":
        """Return the same conversion with the noise of another seed."""
        return Pairs(self.device, self.direction, self.boundaries, seed, self.labels, self.pixels, self.sigma)

    def __call__(self, batch: dict[str, Any], flip: bool = False, draw: int = 0,
                 label_dropout: float = 0.0) -> tuple[Context, Tensor]:
        context, x_b = self.context(batch, draw), self.modelled(batch, draw)
        if label_dropout:
            hidden = self._chosen("labels", batch["name"], draw, label_dropout)
            context = map_context(lambda labels: labels.masked_fill(hidden, UNKNOWN), context)
        if flip:
            mirrored = self._chosen("flip", batch["name"], draw, 0.5)
            context, x_b = map_context(lambda x: torch.where(mirrored, x.flip(-1), x), (context, x_b))
        return map_context(lambda x: x.contiguous(memory_format=torch.channels_last), (context, x_b))

    def context(self, batch: dict[str, Any], draw: int = 0) -> Context:
        """Return the context alone; the batch may lack the modelled image."""
        if self.labels:
            return batch["label"].unsqueeze(1).to(self.device)
        x_a = self._dequantized(self.source, batch, draw)
        return (x_a, boundaries(batch).to(self.device)) if self.boundaries else x_a

    def modelled(self, batch: dict[str, Any], draw: int = 0) -> Tensor:
        """Return x_b, the modelled image, alone."""
        x_b = self._dequantized(self.target, batch, draw)
        if not self.sigma:
            return x_b
        noise = self._drawn("noise", batch["name"], draw,
                            lambda i, own: torch.randn(x_b.shape[1:], generator=own, device=self.device))
        return x_b + self.sigma * noise

    def _dequantized(self, kind: str, batch: dict[str, Any], draw: int) -> Tensor:
        """Dequantize the images of a kind, each with its own noise."""
        images, bits = batch[kind].to(self.device), getattr(self.pixels, kind).bits
        return self._drawn(kind, batch["name"], draw, lambda i, own: dequantize(images[i], bits, own))

    def _chosen(self, kind: str, names: Sequence[str], draw: int, share: float) -> Tensor:
        """Choose a share of the items, ``(batch, 1, 1, 1)``."""
        return self._drawn(kind, names, draw,
                           lambda i, own: torch.rand(1, 1, 1, generator=own, device=self.device) < share)

    def _drawn(self, kind: str, names: Sequence[str], draw: int,
               draw_one: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Stack what ``draw_one`` draws for each item, from a generator that depends on the item alone."""
        return torch.stack([draw_one(i, self._own.manual_seed(seed_of(self.seed, kind, name, draw)))
                            for i, name in enumerate(names)])


def to_bytes(images: Tensor, what: str = "a sample", bits: int = 8) -> Tensor:
    """Turn images in [0, 1) into uint8 0..255, as they were before ``dequantize``; values outside are clamped.

    With 16 bits they become int32 0..65535.
    """
    if not torch.isfinite(images).all():
        raise ValueError(f"{what} has values that are not finite: try other --weights, or train longer")
    return (2**bits * images).clamp(0, 2**bits - 1).to(torch.uint8 if bits == 8 else torch.int32)
