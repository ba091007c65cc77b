"""The convolutions of couplings, and how they are run on images with many positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.conditioners.layers import conv
from condflows.conditioners.strips import halo, run_in_pieces

__all__ = ["ConvNet", "LARGE", "conv_net"]

LARGE = 2**24  # values of a hidden layer; 8 times as many on a GPU
WIDEST = 2**12  # channels of hidden layers, as far as is supposed without a look at them
CHANNELS_LAST = 1024  # positions in a batch


class ConvNet(nn.Sequential):
    """Layers applied one after the other: convolutions and the activations between them.

    Any layers may take their place: they are always called as modules. How they are called differs with the images, and
    changes results only by rounding:

    - Images with many positions on a CPU are put into the channels-last format, in which convolutions are faster.
    - Where a hidden layer would have more than ``LARGE`` values, and they need not be kept for the backward pass,
      because there is none or they are recomputed (``checkpoint``), the images go through the layers in pieces.
    """

    def __init__(self, *layers: Any, checkpoint: bool = False):
        super().__init__(*layers)
        self.checkpoint = checkpoint

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        if _is_exporting():  # sizes stay open
            return super().forward(images)
        positions, on_cpu = images.shape[0] * images.shape[2:].numel(), images.device.type == "cpu"
        if on_cpu and images.ndim == 4 and positions >= CHANNELS_LAST:
            images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels_last, as vmap can do it too
        if torch.is_grad_enabled() and not self.checkpoint:  # hidden layers are kept
            return super().forward(images)
        limit = LARGE if on_cpu else 8 * LARGE
        if positions * WIDEST <= limit or positions * (width := self._width()) <= limit:
            return super().forward(images)
        run = super().forward
        if torch.is_grad_enabled():
            run = partial(recompute, run, use_reentrant=False)
        rows = halo(self)
        return run(images) if rows is None else run_in_pieces(run, images, rows, limit // width)

    def _width(self) -> int:
        """Return the largest number of channels of a hidden layer."""
        hidden = [module for layer in list(self)[:-1] for module in layer.modules()]
        return max([1, *(getattr(module, "out_channels", 1) for module in hidden)])


def conv_net(spatial_dims: int, *channels: int, checkpoint: bool = False, kernel: int = 3) -> ConvNet:
    """Build convolutions with these channels, the first and last 3x3, the others 1x1, and ReLUs between."""
    layers: list[nn.Module] = []
    for inputs, outputs, own in zip(channels, channels[1:], (kernel, *[1] * (len(channels) - 3), kernel), strict=False):
        layers += [conv(spatial_dims, inputs, outputs, own), nn.ReLU()]
    return ConvNet(*layers[:-1], checkpoint=checkpoint)


def _is_exporting() -> bool:
    return getattr(torch.compiler, "is_exporting", lambda: False)()
