"""A net that maps an image to one vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from condflows.conditioners.layers import BoundedNet, conv, mlp, net_forward, require, start_at_zero
from condflows.pyramid import by_size, level_of
from condflows.trace import Context

__all__ = ["GlobalConditioner"]


class GlobalConditioner(BoundedNet):
    r"""Convolutions, pooling to a small grid and an MLP: one vector for each sample at any resolution.

    :math:`\mathrm{MLP}(\mathrm{pool}(\mathrm{conv}(\beta(c))))`, with ReLUs between and :math:`\beta` the soft bound of
    :mod:`condflows.conditioners`. The paper's net for conditional actnorm and 1x1 convolutions (three convolutions,
    four linear layers), with the feature map averaged to a fixed grid where the published code flattens it at a fixed
    resolution.

    Shapes: ``(batch, context_channels, *spatial)`` to ``(batch, num_outputs)``.
    Paper: Full-Glow (arXiv 2012.05846) section 5.

    Args:
        context_channels: the number of channels of the context.
        num_outputs: ``2*C`` for an actnorm of C channels, ``2*C*C + C`` for a 1x1 convolution.
        spatial_dims: the number of spatial dimensions of the context, 1 to 3.
        conv_channels: the output channels of the convolutions, the first of which is 1x1 (3x3 if ``stride`` is more
            than 1) and the others 3x3.
        grid: the number of positions kept along each spatial dimension.
        hidden: sizes of the MLP's hidden layers.
        stride: the stride of the convolutions; 2, as in C-Glow (arXiv 1905.13288), saves work on large images.

    Raises:
        ValueError: a context of another number of channels or spatial dimensions, ``spatial_dims`` other than 1 to 3.
        TypeError: a context of another dtype or device than the parameters.

    >>> net = conditioners.GlobalConditioner(context_channels=3, num_outputs=2 * 4)
    >>> net(torch.rand(2, 3, 32, 64)).shape  # all 0, as the last layer starts at 0
    torch.Size([2, 8])
    """

    def __init__(self, context_channels: int, num_outputs: int, spatial_dims: int = 2,
                 conv_channels: Sequence[int] = (8, 8, 8), grid: int = 4, hidden: Sequence[int] = (32, 64, 48),
                 stride: int = 1):
        super().__init__()
        self.context_channels = context_channels
        self.spatial_dims = spatial_dims
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise([context_channels, *conv_channels])):
            layers += [conv(spatial_dims, inputs, outputs, 3 if i or stride > 1 else 1, stride), nn.ReLU()]
        layers += [getattr(nn, f"AdaptiveAvgPool{spatial_dims}d")(grid), nn.Flatten()]
        layers += mlp([conv_channels[-1] * grid**spatial_dims, *hidden, num_outputs])
        self.net = start_at_zero(nn.Sequential(*layers))

    @by_size
    @net_forward
    def forward(self, context: Context, size: Sequence[int] | None = None) -> Tensor:
        context = require(self, level_of(context, size), self.context_channels, 2 + self.spatial_dims)
        return self.net(self.bound(context))
