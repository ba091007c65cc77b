"""The convolutions of couplings, and their ways of taking many positions."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.conditioners.layers import conv
from condflows.conditioners.strips import halo, run_in_pieces

__all__ = ["ConvNet", "LARGE"]

LARGE = 2**24  # values of a hidden layer; 8 times as many on a GPU
CHANNELS_LAST = 1024  # positions in a batch


class ConvNet(nn.Sequential):
    """A 3x3 convolution, 1x1 convolutions and a 3x3 convolution, with ReLUs between.

    It calls its layers, whatever they are, in one of these ways, which agree up to rounding:

    - Images with many positions on a CPU are in the channels-last format, in which convolutions are faster there.
    - Where a hidden layer would have more than ``LARGE`` values, and they need not be kept for the backward pass,
      because there is none or they are recomputed (``checkpoint``), the images go through the layers in pieces.
    """

    def __init__(self, spatial_dims: int, *channels: int, checkpoint: bool = False):
        super().__init__()
        for inputs, outputs, kernel in zip(channels, channels[1:], (3, *[1] * (len(channels) - 3), 3), strict=False):
            self.extend([conv(spatial_dims, inputs, outputs, kernel), nn.ReLU()])
        del self[-1]
        self.width, self.checkpoint = max(channels[1:-1]), checkpoint

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        if _is_exporting():  # sizes stay open
            return super().forward(images)
        positions, on_cpu = images.shape[0] * images.shape[2:].numel(), images.device.type == "cpu"
        if on_cpu and images.ndim == 4 and positions >= CHANNELS_LAST:
            images = images.contiguous(memory_format=torch.channels_last)
        limit = LARGE if on_cpu else 8 * LARGE
        keep = torch.is_grad_enabled() and not self.checkpoint
        if keep or positions * self.width <= limit:
            return super().forward(images)
        run = super().forward
        if torch.is_grad_enabled():
            run = partial(recompute, run, use_reentrant=False)
        rows = halo(self)
        return run(images) if rows is None else run_in_pieces(run, images, rows, limit // self.width)


def _is_exporting() -> bool:
    return getattr(torch.compiler, "is_exporting", lambda: False)()
