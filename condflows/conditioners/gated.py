"""A deep net for couplings of images: gated residual blocks, and attention between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from condflows.checks import check_count, check_rows
from condflows.conditioners.layers import BoundedNet, conv, net_forward, require, start_at_zero
from condflows.pyramid import level_of
from condflows.rows import align_rows, shares_context
from condflows.trace import Context, resize

__all__ = ["GatedConditioner"]


class GatedConditioner(BoundedNet):
    r"""Gated residual blocks for a coupling of ``num_channels`` channels in all, each of which reads the context.

    .. math:: h_0 = \mathrm{conv}(\beta(x_1)), \quad
        h_i = h_{i-1} + \mathrm{glu}(A_i\, \mathrm{elu}(\mathrm{conv}(\mathrm{elu}(h_{i-1})) + B_i \beta(c))), \quad
        \mathrm{conv}(\mathrm{elu}(h_n))

    with 3x3 convolutions, :math:`A_i` and :math:`B_i` 1x1 convolutions, :math:`\mathrm{glu}(a, b) = a\, \sigma(b)`, and
    :math:`\beta` the soft bound of :mod:`condflows.conditioners`. With ``context_channels`` the context is resized to
    the input (averaged down, repeated up); without, any context is ignored.

    With ``heads`` each block is followed by self-attention over all positions, also gated and added to its input.
    Time and memory grow with the square of their number: attention is for coarse levels and small images. Unlike in the
    papers, positions have no embedding, so that no resolution is fixed, and nothing is dropped at random.

    Shapes: ``(batch, C - C // 2, *spatial)`` to ``(batch, num_outputs, *spatial)``; the context is an image of any
    size, or a vector. Paper: PixelCNN++ (arXiv 1701.05517), whose blocks these are; Flow++ (arXiv 1902.00275), which
    uses them in couplings, with attention.

    Args:
        num_channels: C, the number of channels of the coupling.
        width: the number of channels of the hidden layers.
        context_channels: the number of channels of the context, 0 for an unconditional coupling.
        blocks: n, the number of residual blocks.
        heads: the number of heads of the attention after each block, which divides ``width``; 0 for no attention.
        spatial_dims: the number of spatial dimensions, 1 to 3.
        num_outputs: the number of channels of the outputs; by default ``2 * (C // 2)``, what an affine coupling needs.

    Raises:
        ValueError: ``heads`` that do not divide ``width``, fewer than one block, a context of another number of
            channels or spatial dimensions, ``spatial_dims`` other than 1 to 3.
        TypeError: a context of another dtype or device than the parameters.

    >>> net = conditioners.GatedConditioner(5, width=8, context_channels=3, heads=2)
    >>> net(torch.randn(2, 3, 8, 8), torch.rand(2, 3, 16, 16)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, num_channels: int, width: int = 64, context_channels: int = 0, blocks: int = 2, heads: int = 0,
                 spatial_dims: int = 2, num_outputs: int | None = None):
        super().__init__()
        check_count(blocks, 1, "GatedConditioner expects at least 1 block")
        check_count(heads, 0, "GatedConditioner expects at least 0 heads", "pass heads=0 for no attention")
        if heads and width % heads:
            raise ValueError(f"GatedConditioner expects heads that divide width={width}, got {heads}; pass "
                             f"width={width + -width % heads}, or other heads")
        self.context_channels = context_channels
        self.first = conv(spatial_dims, num_channels - num_channels // 2, width, 3)
        self.blocks = nn.ModuleList(GatedBlock(width, context_channels, heads, spatial_dims) for _ in range(blocks))
        outputs = 2 * (num_channels // 2) if num_outputs is None else num_outputs
        self.last = start_at_zero(nn.Sequential(nn.ELU(), conv(spatial_dims, width, outputs, 3)))

    @property
    def reads_context(self) -> bool:
        """True with ``context_channels``."""
        return self.context_channels > 0

    @shares_context
    @net_forward
    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        seen = None
        if self.context_channels:
            context = require(self, level_of(context, inputs.shape[2:]), self.context_channels)
            check_rows(context, inputs.shape[0], type(self).__name__)
            seen = resize(self.bound(context), inputs)
        hidden = self.first(self.bound(inputs))
        for block in self.blocks:
            hidden = block(hidden, seen)
        return self.last(hidden)


class GatedBlock(nn.Module):
    """A residual block, which reads a context of the size of its images, and attention after it."""

    def __init__(self, width: int, context_channels: int, heads: int, spatial_dims: int):
        super().__init__()
        self.first = nn.Sequential(nn.ELU(), conv(spatial_dims, width, width, 3))
        self.context = conv(spatial_dims, context_channels, width, 1) if context_channels else None
        self.gate = nn.Sequential(nn.ELU(), conv(spatial_dims, width, 2 * width, 1), nn.GLU(dim=1))
        self.attention = SelfAttention(width, heads) if heads else None

    def forward(self, images: Tensor, context: Tensor | None) -> Tensor:
        hidden = self.first(images)
        if self.context is not None:
            hidden = torch.add(*align_rows(hidden, self.context(context))).reshape(hidden.shape)
        images = images + self.gate(hidden)
        return images if self.attention is None else self.attention(images)


class SelfAttention(nn.Module):
    """Attention of every position to every other, normalized, gated and added to the images."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.gate = nn.Sequential(nn.Linear(width, 2 * width), nn.GLU(dim=-1))

    def forward(self, images: Tensor) -> Tensor:
        positions = self.norm(images.flatten(2).transpose(1, 2))  # (batch, positions, width)
        projected = self.project(positions).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)  # each (batch, heads, positions, width // heads)
        # Written out, because torch's scaled_dot_product_attention has neither second derivatives nor forward mode.
        weights = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(-1)
        read = self.gate((weights @ values).transpose(1, 2).flatten(2))
        return images + read.transpose(1, 2).reshape(images.shape)
