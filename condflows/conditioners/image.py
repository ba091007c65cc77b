"""Nets from images to images of the same size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from condflows.conditioners.convnet import conv_net
from condflows.conditioners.layers import BoundedNet, conv, net_forward, require, start_at_zero
from condflows.pyramid import by_size, level_of
from condflows.rows import concat_rows, shares_context
from condflows.trace import Context, resize

__all__ = ["ConvConditioner", "CouplingConditioner", "MapConditioner"]


class CouplingConditioner(BoundedNet):
    r"""Convolutions for a coupling of ``num_channels`` channels in all: 3x3, 1x1, 3x3.

    :math:`\mathrm{conv}([\beta(x_1), \mathrm{relu}(\mathrm{conv}(\mathrm{resize}(\beta(c))))])`, with :math:`\beta` the
    soft bound of :mod:`condflows.conditioners`. With ``context_channels`` the context is resized to the input (averaged
    down, repeated up), encoded by two 3x3 convolutions and concatenated to the first part; without, any context is
    ignored.

    Shapes: ``(batch, C - C // 2, *spatial)`` to ``(batch, num_outputs, *spatial)``; the context is an image of any
    size, or a vector. Paper: Full-Glow (arXiv 2012.05846) equation (8).

    Args:
        num_channels: C, the number of channels of the coupling.
        width: the number of channels of the hidden layers.
        context_channels: the number of channels of the context, 0 for an unconditional coupling.
        spatial_dims: the number of spatial dimensions, 1 to 3.
        context_width: the number of channels of the encoder's hidden layer; 0 for no encoder, where the context is
            encoded already and is appended to the first part itself.
        checkpoint: recompute the hidden layers of large images in the backward pass, piece by piece.
        num_outputs: the number of channels of the outputs; by default ``2 * (C // 2)``, what an affine coupling needs.

    Raises:
        ValueError: a context of another number of channels or spatial dimensions, ``spatial_dims`` other than 1 to 3.
        TypeError: a context of another dtype or device than the parameters.

    >>> net = conditioners.CouplingConditioner(5, width=8, context_channels=3)
    >>> net(torch.randn(2, 3, 8, 8), torch.rand(2, 3, 16, 16)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, num_channels: int, width: int = 512, context_channels: int = 0, spatial_dims: int = 2,
                 context_width: int = 128, checkpoint: bool = False, num_outputs: int | None = None):
        super().__init__()
        self.context_channels = context_channels
        code_channels = context_channels
        self.encoder = None
        if context_channels and context_width:
            code_channels = num_channels
            self.encoder = conv_net(spatial_dims, context_channels, context_width, code_channels, checkpoint=checkpoint)
        inputs = num_channels - num_channels // 2 + code_channels
        outputs = 2 * (num_channels // 2) if num_outputs is None else num_outputs
        self.net = start_at_zero(conv_net(spatial_dims, inputs, width, width, outputs, checkpoint=checkpoint))

    @property
    def reads_context(self) -> bool:
        """True with ``context_channels``."""
        return self.context_channels > 0

    @shares_context
    @net_forward
    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        inputs = self.bound(inputs)
        if self.context_channels:
            context = self.bound(require(self, level_of(context, inputs.shape[2:]), self.context_channels))
            code = resize(context, inputs)
            if self.encoder is not None:
                code = self.encoder(code).relu()
            inputs = concat_rows(inputs, code.to(inputs.dtype), type(self).__name__)
        return self.net(inputs)


class ConvConditioner(BoundedNet):
    r"""A single 3x3 convolution of the first part: the net of Glow's learned prior. Any context is ignored.

    :math:`\mathrm{conv}(\beta(x_1))`, with :math:`\beta` the soft bound of :mod:`condflows.conditioners`.

    Shapes: ``(batch, C - C // 2, *spatial)`` to ``(batch, num_outputs, *spatial)``.
    Paper: Glow (arXiv 1807.03039) section 3.

    Args:
        num_channels: C, the number of channels of the coupling.
        spatial_dims: the number of spatial dimensions, 1 to 3.
        num_outputs: the number of channels of the outputs; by default ``2 * (C // 2)``, what an affine coupling needs.

    Raises:
        ValueError: ``spatial_dims`` other than 1 to 3.

    >>> conditioners.ConvConditioner(num_channels=4)(torch.randn(2, 2, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    reads_context = False

    def __init__(self, num_channels: int, spatial_dims: int = 2, num_outputs: int | None = None):
        super().__init__()
        first, moved = num_channels - num_channels // 2, num_channels // 2
        outputs = 2 * moved if num_outputs is None else num_outputs
        self.net = start_at_zero(nn.Sequential(conv(spatial_dims, first, outputs, 3)))

    @shares_context
    @net_forward
    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        return self.net(self.bound(inputs))


class MapConditioner(BoundedNet):
    r"""Convolutions of the context, 3x3, 1x1, 3x3: one vector for each position.

    :math:`\mathrm{conv}(\beta(c))`, with :math:`\beta` the soft bound of :mod:`condflows.conditioners`. For an actnorm
    with separate offsets at every position, as in Dual-Glow's prior.

    Shapes: ``(batch, context_channels, *spatial)`` to ``(batch, num_outputs, *spatial)``.
    Paper: Dual-Glow (arXiv 1908.08074).

    Args:
        context_channels: the number of channels of the context, an image of the size of the inputs.
        num_outputs: ``2*C`` for an actnorm of C channels.
        width: the number of channels of the hidden layers.
        spatial_dims: the number of spatial dimensions, 1 to 3.
        kernel: the side of the first and last convolution; 1 where the context is encoded already.

    Raises:
        ValueError: a context of another number of channels or spatial dimensions, ``spatial_dims`` other than 1 to 3.
        TypeError: a context of another dtype or device than the parameters.

    >>> net = conditioners.MapConditioner(3, num_outputs=2 * 4, width=8)
    >>> net(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(self, context_channels: int, num_outputs: int, width: int = 128, spatial_dims: int = 2,
                 kernel: int = 3):
        super().__init__()
        self.context_channels = context_channels
        self.spatial_dims = spatial_dims
        self.net = start_at_zero(conv_net(spatial_dims, context_channels, width, width, num_outputs, kernel=kernel))

    @by_size
    @net_forward
    def forward(self, context: Context, size: Sequence[int] | None = None) -> Tensor:
        context = require(self, level_of(context, size), self.context_channels, 2 + self.spatial_dims)
        return self.net(self.bound(context))
