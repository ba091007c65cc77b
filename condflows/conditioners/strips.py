"""Running a net on images piece by piece, where its outputs depend on nearby positions alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from condflows.hooks import calls_only, has_hooks, is_own

__all__ = ["halo", "run_in_pieces"]

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d
POINTWISE = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
             nn.Softsign, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardtanh, nn.ReLU6)


def halo(layers: Iterable[nn.Module]) -> int | None:
    """Count the rows on either side that a row of the outputs depends on; return None where that is not known.

    It is known for convolutions that keep the size and pad with zeros, and for activations at each position. It is not
    known with hooks, which must see whole images, or parametrizations, whose weights may differ at every call.
    """
    reaches = [_reach(layer) for layer in layers]
    return None if None in reaches else sum(reaches)  # type: ignore[arg-type]


def _reach(layer: Any) -> int | None:
    if any(has_hooks(module) or is_parametrized(module) for module in layer.modules()):
        return None
    if any(calls_only(layer, kind) for kind in POINTWISE):
        return 0
    if not any(calls_only(layer, kind) and is_own(layer, kind, "_conv_forward") for kind in CONVOLUTIONS):
        return None
    both = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    padding = layer.padding if isinstance(layer.padding, str) else [2 * pad for pad in layer.padding]
    keeps = padding in ("same", both) and layer.padding_mode == "zeros" and all(n == 1 for n in layer.stride)
    return both[0] // 2 if keeps and both[0] % 2 == 0 else None


def run_in_pieces(run: Callable[[Tensor], Tensor], images: Tensor, halo: int, positions: int) -> Tensor:
    """Run a net on pieces of about ``positions`` positions: several images at a time, or strips of rows of one image.

    A strip is read with ``halo`` more rows on either side. Their outputs, which depend on rows outside of the strip,
    are left out.
    """
    each = images.shape[2:].numel()
    if each <= positions:
        return torch.cat([run(part) for part in images.split(positions // each)])
    most = max(positions // images.shape[3:].numel(), 8 * halo, 1)
    height = math.ceil(images.shape[2] / math.ceil(images.shape[2] / most))  # strips of about one height

    def strips(image: Tensor) -> Tensor:
        outputs = []
        for start in range(0, image.shape[2], height):
            stop = min(start + height, image.shape[2])
            first = max(start - halo, 0)
            part = run(image[:, :, first:min(stop + halo, image.shape[2])])
            outputs.append(part[:, :, start - first:stop - first])
        return torch.cat(outputs, dim=2)

    return torch.cat([strips(image) for image in images.split(1)])
