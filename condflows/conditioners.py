"""Nets that predict an operation's parameters from a context. All start at zero output, none holds a resolution.

They bound what they read softly to +-3 (``MLPConditioner`` its ``asinh``). So what lies far outside of what was trained
on gives parameters like those of training, and a deep flow stays invertible in float32. Scale contexts to order 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.affine import soft_bound
from condflows.bijector import check_like
from condflows.trace import Context, once, resize

__all__ = ["ConvConditioner", "CouplingConditioner", "GlobalConditioner", "MLPConditioner", "MapConditioner"]

BOUND = 3.0
LARGE = 2**23


def _conv(spatial_dims: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    if spatial_dims not in (1, 2, 3):
        raise ValueError(f"a convolutional conditioner expects 1 to 3 spatial dimensions, got {spatial_dims}; "
                         "use MLPConditioner for vectors")
    return getattr(nn, f"Conv{spatial_dims}d")(inputs, outputs, kernel, stride, padding=kernel // 2)


def _mlp(sizes: Sequence[int]) -> Sequence[nn.Module]:
    return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())][:-1]


def _start_at_zero(net: Any) -> Any:
    """The paper's section 4: the output layer's weights are 0, so the start is constant in the context."""
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return net


class _ConvNet(nn.Sequential):
    """A 3x3 convolution, 1x1 convolutions and a 3x3 convolution, with ReLUs between.

    Where hidden layers have more than ``LARGE`` values (8 times as many on a GPU), and where wide nets are trained on a
    CPU without autocast, the positions of images become rows of a matrix. They go through the net in blocks, which stay
    in the cache; what each gives to its neighbours is summed at the end. With ``checkpoint`` the hidden layers of large
    images are not kept for the backward pass.
    """

    def __init__(self, spatial_dims: int, *channels: int, checkpoint: bool = False):
        super().__init__()
        for inputs, outputs, kernel in zip(channels, channels[1:], (3, *[1] * (len(channels) - 3), 3), strict=False):
            self.extend([_conv(spatial_dims, inputs, outputs, kernel), nn.ReLU(inplace=True)])
        del self[-1]
        self.width, self.checkpoint = max(channels[1:-1]), checkpoint

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        positions, cpu = len(images) * images.shape[2:].numel(), images.device.type == "cpu"
        limit = LARGE if cpu else 8 * LARGE
        large = positions * self.width > limit
        run = partial(recompute, use_reentrant=False) if large and self.checkpoint else lambda net, *rest: net(*rest)
        faster = cpu and positions >= 1024
        wide = faster and self.width >= 256 and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        if images.ndim == 4 and (large or wide):
            return self._in_blocks(images, limit // (4 if large else 16), run)
        if images.ndim == 4 and faster:
            images = images.contiguous(memory_format=torch.channels_last)
        return run(super().forward, images)

    def _in_blocks(self, images: Tensor, values: int, run: Callable[..., Tensor]) -> Tensor:
        layers: Any = list(self)[::2]
        # Where position p reads part i of its neighbour p + i - 1, it gives part 2 - i to it.
        to_neighbours = layers[-1].weight.flatten(2).flip(2).transpose(1, 2).flatten(0, 1)

        def block(part: Tensor) -> Tensor:
            """What some rows of the images, which come with one more on either side, give to all of these."""
            rows = F.unfold(part, 3, padding=(0, 1)).transpose(1, 2).flatten(0, 1)
            for layer in layers[:-1]:
                rows = F.linear(rows, layer.weight.flatten(1), layer.bias).relu_()
            rows = F.linear(rows, to_neighbours).to(images.dtype).unflatten(0, (len(part), -1))
            return F.fold(rows.transpose(1, 2), part.shape[2:], 3, padding=(0, 1))

        height, row = images.shape[2], self.width * len(images) * images.shape[3]
        size = next(n for n in range(max(1, min(values // row, height)), 0, -1) if height % n == 0)
        parts = F.pad(images, (0, 0, 1, 1)).unfold(2, size + 2, size).transpose(3, 4).unbind(2)
        blocks = torch.stack([run(block, part) for part in parts], 2)
        outputs = blocks[:, :, :, 1:-1].flatten(2, 3) + layers[-1].bias[:, None, None]
        seams = torch.cat([blocks[:, :, :-1, -1], blocks[:, :, 1:, 0]], 2)
        starts = torch.arange(size, height, size, device=images.device)
        return outputs.index_add(2, torch.cat([starts, starts - 1]), seams)


def _require(net: nn.Module, context: Context, channels: int, ndim: int | None = None) -> Tensor:
    name = type(net).__name__
    if not isinstance(context, Tensor) or context.ndim < 2 or context.shape[1] != channels:
        came = f"shape {tuple(context.shape)}" if isinstance(context, Tensor) else type(context).__name__
        raise ValueError(f"{name} expects a context tensor with {channels} channels in dimension 1, got {came}; "
                         "pass such a context or build the conditioner for its channels")
    check_like(context, net, name)
    if ndim is not None and context.ndim != ndim:
        raise ValueError(f"{name} expects a context with {ndim - 2} spatial dimensions, got shape "
                         f"{tuple(context.shape)}; build it with spatial_dims={context.ndim - 2}, or for vectors "
                         "use MLPConditioner")
    return context


class GlobalConditioner(nn.Module):
    """Convolutions, pooling to a small grid and an MLP: one vector for each sample at any resolution.

    The paper's net for conditional actnorm and 1x1 convolutions (section 5: three convolutions, four linear layers),
    with the feature map averaged to a fixed grid where the published code flattens it at a fixed resolution.

    Shapes: ``(batch, context_channels, *spatial)`` to ``(batch, num_outputs)``.

    Args:
        context_channels: of the context.
        num_outputs: ``2*C`` for an actnorm of C channels, ``2*C*C + C`` for a 1x1 convolution.
        spatial_dims: of the context, 1 to 3.
        conv_channels: of the convolutions, the first 1x1 (3x3 if ``stride`` is more than 1) and the others 3x3.
        grid: positions kept along each spatial dimension.
        hidden: sizes of the MLP's hidden layers.
        stride: of the convolutions; 2, as in C-Glow (arXiv 1905.13288), spares work where the context is a large image.
    """

    def __init__(self, context_channels: int, num_outputs: int, spatial_dims: int = 2,
                 conv_channels: Sequence[int] = (8, 8, 8), grid: int = 4, hidden: Sequence[int] = (32, 64, 48),
                 stride: int = 1):
        super().__init__()
        self.context_channels = context_channels
        self.spatial_dims = spatial_dims
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise([context_channels, *conv_channels])):
            layers += [_conv(spatial_dims, inputs, outputs, 3 if i or stride > 1 else 1, stride), nn.ReLU()]
        layers += [getattr(nn, f"AdaptiveAvgPool{spatial_dims}d")(grid), nn.Flatten()]
        layers += _mlp([conv_channels[-1] * grid**spatial_dims, *hidden, num_outputs])
        self.net = _start_at_zero(nn.Sequential(*layers))

    def forward(self, context: Tensor) -> Tensor:
        context = _require(self, context, self.context_channels, 2 + self.spatial_dims)
        return self.net(soft_bound(context, BOUND))


class CouplingConditioner(nn.Module):
    """Convolutions for a coupling of ``num_channels`` channels in all: 3x3, 1x1, 3x3.

    With ``context_channels`` the context is resized to the input, encoded by two 3x3 convolutions and concatenated
    to the first part; without, any context is ignored. Paper: Full-Glow (arXiv 2012.05846) equation (8).

    Shapes: ``(batch, C - C // 2, *spatial)`` to ``(batch, 2 * (C // 2), *spatial)``; the context is an image of any
    size, or a vector.

    Args:
        num_channels: C of the coupling.
        width: of the hidden layers.
        context_channels: of the context, 0 for an unconditional coupling.
        spatial_dims: 1 to 3.
        context_width: of the encoder's hidden layer.
        checkpoint: recompute the hidden layers of large images in the backward pass, block by block.
    """

    def __init__(self, num_channels: int, width: int = 512, context_channels: int = 0, spatial_dims: int = 2,
                 context_width: int = 128, checkpoint: bool = False):
        super().__init__()
        self.context_channels = context_channels
        if context_channels:
            self.encoder = _ConvNet(spatial_dims, context_channels, context_width, num_channels, checkpoint=checkpoint)
        inputs = num_channels - num_channels // 2 + (num_channels if context_channels else 0)
        outputs = 2 * (num_channels // 2)
        self.net = _start_at_zero(_ConvNet(spatial_dims, inputs, width, width, outputs, checkpoint=checkpoint))

    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        inputs = soft_bound(inputs, BOUND)
        if self.context_channels:
            code = once(self, self._encode, inputs, context)
            inputs = torch.cat([inputs, code.to(inputs.dtype)], dim=1)
        return self.net(inputs)

    def _encode(self, inputs: Tensor, context: Context) -> Tensor:
        context = _require(self, context, self.context_channels)
        return self.encoder(resize(soft_bound(context, BOUND), inputs)).relu_()


class ConvConditioner(nn.Module):
    """A single 3x3 convolution of the first part: the net of Glow's learned prior. Any context is ignored.

    Shapes: ``(batch, C - C // 2, *spatial)`` to ``(batch, 2 * (C // 2), *spatial)``.
    """

    def __init__(self, num_channels: int, spatial_dims: int = 2):
        super().__init__()
        first, moved = num_channels - num_channels // 2, num_channels // 2
        self.net = _start_at_zero(nn.Sequential(_conv(spatial_dims, first, 2 * moved, 3)))

    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        return self.net(soft_bound(inputs, BOUND))


class MapConditioner(nn.Module):
    """Convolutions of the context, 3x3, 1x1, 3x3: one vector for each position.

    For an actnorm with a map of its own at every position, as in Dual-Glow's prior (arXiv 1908.08074).

    Shapes: ``(batch, context_channels, *spatial)`` to ``(batch, num_outputs, *spatial)``.

    Args:
        context_channels: of the context, an image of the size of the inputs.
        num_outputs: ``2*C`` for an actnorm of C channels.
        width: of the hidden layers.
        spatial_dims: 1 to 3.
    """

    def __init__(self, context_channels: int, num_outputs: int, width: int = 128, spatial_dims: int = 2):
        super().__init__()
        self.context_channels = context_channels
        self.spatial_dims = spatial_dims
        self.net = _start_at_zero(_ConvNet(spatial_dims, context_channels, width, width, num_outputs))

    def forward(self, context: Tensor) -> Tensor:
        context = _require(self, context, self.context_channels, 2 + self.spatial_dims)
        return self.net(soft_bound(context, BOUND))


class MLPConditioner(nn.Module):
    """A multilayer perceptron for vectors, with the context appended to its inputs.

    Called with one vector it is a conditioner of actnorm or a 1x1 convolution (``num_inputs`` is the context's
    size); called with two, that of a coupling.

    Shapes: ``(batch, num_inputs)`` and ``(batch, context_features)`` to ``(batch, num_outputs)``.

    Args:
        num_inputs: size of the first vector; ``C - C // 2`` for a coupling.
        num_outputs: ``2 * (C // 2)`` for a coupling, ``2*C`` for actnorm, ``2*C*C + C`` for a 1x1 convolution.
        context_features: size of the second vector, 0 to ignore any context.
        hidden: sizes of the hidden layers.
    """

    def __init__(self, num_inputs: int, num_outputs: int, context_features: int = 0,
                 hidden: Sequence[int] = (128, 128)):
        super().__init__()
        self.num_inputs = num_inputs
        self.context_features = context_features
        self.net = _start_at_zero(nn.Sequential(*_mlp([num_inputs + context_features, *hidden, num_outputs])))

    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        inputs = _require(self, inputs, self.num_inputs)
        if self.context_features:
            context = once(self, lambda _, rows: _require(self, rows, self.context_features), inputs, context)
            inputs = torch.cat([inputs, context], dim=1)
        return self.net(soft_bound(torch.asinh(inputs), BOUND))
