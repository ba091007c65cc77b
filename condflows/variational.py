"""Dequantization with a learned distribution of the noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from nflows.transforms.base import Transform
from nflows.transforms.permutations import Permutation
from torch import Tensor, nn

from condflows.bijector import at_least_float32, precise
from condflows.chain import Chain, Inverse
from condflows.checks import check_count
from condflows.conditioners import CouplingConditioner, MLPConditioner
from condflows.conditioners.convnet import conv_net
from condflows.conditioners.layers import BoundedNet, mlp, net_forward, require
from condflows.couplings.affine import AffineCoupling
from condflows.hooks import is_transformed
from condflows.images import check_bits, check_integers, in_bins
from condflows.pyramid import level_of
from condflows.rows import concat_rows
from condflows.squeeze import Squeeze
from condflows.trace import Context, resize

__all__ = ["VariationalDequantization"]

NAME = "VariationalDequantization"


class VariationalDequantization(nn.Module):
    r"""Dequantize with noise that depends on the image: integers in ``[0, 2**bits)`` to floats in ``[0, 1)``.

    With :math:`f` a flow of couplings that read a code of the image :math:`x` and of a context :math:`c`,

    .. math:: y = (x + u) / 2^b, \quad u = \mathrm{sigmoid}(f(\epsilon, x, c)), \quad \epsilon \text{ logistic}

    The density :math:`q(u \mid x, c)` is 1 at the start, where :math:`f` is the identity: noise is exactly uniform
    until it is trained, together with the flow of the images. With :math:`D` values, the expectation of
    :math:`\log p(y) - \log q(u) - D b \log 2` is a lower bound of :math:`\log P(x)`, so
    ``bits_per_dim(log_prob - log_q, shape)`` is an upper bound of the bits; the mean of the densities of K draws,
    ``torch.logsumexp(log_prob - log_q, 0) - math.log(K)`` of K of them, gives the tighter importance-weighted bound.

    Shapes: images ``(batch, num_channels, *spatial)``, integers, even in every spatial size, to values of this shape
    and ``log_q`` of shape ``(batch,)``, in nats; the context is an image of any size, or a vector.
    Paper: Flow++ (arXiv 1902.00275) section 3.1.

    Args:
        num_channels: the number of channels of the images.
        context_channels: the number of channels of the context, 0 to ignore any context.
        steps: the number of couplings, which move the halves of the noise in turn.
        width: the number of channels of the nets' hidden layers, and of the code.
        spatial_dims: the number of spatial dimensions, 0 to 3.
        bits: the number of bits of a value.

    Raises:
        TypeError: floating-point images.
        ValueError: values outside the range, more than 16 bits, vectors of one number, fewer than one step; odd
            sizes, images of another number of channels; a context of another number of channels or batch size.

    >>> dequantization = VariationalDequantization(3)
    >>> flow = Flow(multiscale(3, (1, 1), ActNorm), (3, None, None))
    >>> photos = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    >>> y, log_q = dequantization(photos)
    >>> bits_per_dim(flow.log_prob(y) - log_q, (3, 8, 8)).shape  # its mean is the loss, of both modules
    torch.Size([4])
    """

    def __init__(self, num_channels: int, context_channels: int = 0, steps: int = 4, width: int = 32,
                 spatial_dims: int = 2, bits: int = 8):
        super().__init__()
        check_count(steps, 1, "VariationalDequantization expects at least 1 step")
        check_count(width, 1, "VariationalDequantization expects a width of at least 1")
        check_count(context_channels, 0, "VariationalDequantization expects at least 0 channels of context")
        check_count(num_channels, 1 if spatial_dims else 2,
                    "VariationalDequantization expects at least 1 channel, and 2 for vectors")
        check_bits(bits, NAME)
        self.num_channels, self.spatial_dims, self.bits = num_channels, spatial_dims, bits
        channels = num_channels * 2**spatial_dims
        self.encoder = ImageCode(channels, context_channels, width, spatial_dims)
        # Each moves the half that the one before it passed; of an odd number of channels each is moved in its turn.
        couplings = [_turned(AffineCoupling(channels, _net(channels, width, spatial_dims)), i * (channels // 2))
                     for i in range(steps)]
        self.flow = Chain([Squeeze(), *couplings, Inverse(Squeeze())])

    def forward(self, images: Tensor, context: Context = None, generator: torch.Generator | None = None,
                noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the values ``(batch, num_channels, *spatial)`` and ``log_q`` of shape ``(batch,)``, in nats.

        Args:
            images: integers.
            context: what the noise depends on beside the image.
            generator: draws the noise, on its own device.
            noise: uniform noise in [0, 1) of the images' shape, to use instead of drawing it.
        """
        check_integers(images, self.bits, "VariationalDequantization")
        if images.ndim != 2 + self.spatial_dims or images.shape[1] != self.num_channels:
            raise ValueError(f"VariationalDequantization expects images of {self.num_channels} channels and "
                             f"{self.spatial_dims} spatial dimensions, got shape {tuple(images.shape)}; build it "
                             "with num_channels and spatial_dims of the images")
        if noise is not None and (not isinstance(noise, Tensor) or noise.shape != images.shape):
            raise ValueError(f"VariationalDequantization expects noise of the images' shape {tuple(images.shape)}, got "
                             f"{tuple(noise.shape) if isinstance(noise, Tensor) else noise!r}; repeat the images for "
                             "several draws")
        if noise is not None and not is_transformed() and noise.numel() and not 0 <= noise.min() <= noise.max() < 1:
            raise ValueError("VariationalDequantization expects uniform noise in [0, 1), got values from "
                             f"{float(noise.min()):g} to {float(noise.max()):g}")
        like = next(self.parameters())
        if like.dtype != at_least_float32(like.dtype):
            raise TypeError(f"VariationalDequantization expects parameters in float32 or float64, got {like.dtype}, "
                            "which cannot hold noise within a bin; condflows.bfloat16_nets rounds its nets alone")
        if noise is None:
            device = generator.device if generator is not None else like.device
            noise = torch.rand(images.shape, generator=generator, device=device, dtype=like.dtype)
        least = torch.finfo(torch.float32).eps / 2  # so that logits are finite; 0 is torch.rand's one smaller value
        start = noise.to(like).clamp(least, 1 - least).logit()
        values = images.to(like.dtype)
        code = self.encoder(Squeeze()(2 * values / 2**self.bits - 1)[0], context)
        logits, logabsdet = self.flow(start, code)
        with precise(start):
            log_q = _logistic(start) - _logistic(logits) - logabsdet
            return in_bins(values, logits.sigmoid(), self.bits), log_q


class ImageCode(BoundedNet):
    """A net of the squeezed image and the context, which all couplings of the noise read."""

    def __init__(self, channels: int, context_channels: int, width: int, spatial_dims: int):
        super().__init__()
        self.context_channels = context_channels
        sizes = channels + context_channels, width, width, width
        self.net = conv_net(spatial_dims, *sizes) if spatial_dims else nn.Sequential(*mlp(sizes))

    @net_forward
    def forward(self, images: Tensor, context: Context = None) -> Tensor:
        if self.context_channels:
            context = require(self, level_of(context, images.shape[2:]), self.context_channels, name=NAME)
            context = resize(self.bound(context), images)
            images = concat_rows(images, context, NAME)
        return self.net(images)


def _net(channels: int, width: int, spatial_dims: int) -> nn.Module:
    """Build the net of a coupling, which reads the first half of the noise and the code."""
    if spatial_dims:
        return CouplingConditioner(channels, width, width, spatial_dims, context_width=width)
    return MLPConditioner(channels - channels // 2, 2 * (channels // 2), width, hidden=(width, width))


def _turned(coupling: AffineCoupling, by: int) -> Transform:
    """Return the coupling of channels that are turned round by a number of places."""
    if by % coupling.num_channels == 0:
        return coupling
    order = torch.arange(coupling.num_channels).roll(by)
    return Chain([Permutation(order), coupling, Permutation(order.argsort())])


def _logistic(values: Tensor) -> Tensor:
    """Return the log-densities ``(batch,)`` of logistic noise, which are also those of the sigmoid's slope."""
    return (F.logsigmoid(values) + F.logsigmoid(-values)).flatten(1).sum(1)
