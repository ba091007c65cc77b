"""Dequantization of integer images, and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from condflows.hooks import is_transformed

__all__ = ["bits_per_dim", "dequantize"]


def dequantize(images: Tensor, bits: int = 8, generator: torch.Generator | None = None) -> Tensor:
    r"""Dequantize uniformly: integers in ``[0, 2**bits)`` to floats in ``[0, 1)``.

    :math:`y = (x + u) / 2^b`, :math:`u` uniform in :math:`[0, 1)`. With :math:`D` values, the expected log-density of
    :math:`y` less :math:`D b \log 2` is a lower bound of :math:`\log P(x)`; :func:`bits_per_dim` states it in bits.

    Shapes: any, to the same, in torch's default dtype. Paper: arXiv 1511.01844, A note on the evaluation of generative
    models.

    Args:
        images: integers of any shape.
        bits: the number of bits of a value.
        generator: draws the noise u, on its own device.

    Raises:
        TypeError: floating-point images.
        ValueError: values outside the range, or more than 16 bits.

    >>> dequantize(torch.tensor([0, 255], dtype=torch.uint8)).mul(256).floor()
    tensor([  0., 255.])
    """
    check_integers(images, bits, "dequantize")
    device = generator.device if generator is not None else images.device
    dtype = torch.get_default_dtype()
    noise = torch.rand(images.shape, generator=generator, device=device, dtype=dtype).to(images.device)
    return in_bins(images.to(dtype), noise, bits)


def check_bits(bits: int, name: str) -> None:
    """Refuse numbers of bits that float32 cannot hold."""
    if bits not in range(1, 17):
        raise ValueError(f"{name} expects 1 to 16 bits, which float32 can hold, got {bits!r}")


def check_integers(images: Tensor, bits: int, name: str) -> None:
    """Refuse images other than integers in ``[0, 2**bits)``, and numbers of bits that float32 cannot hold."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} expects a tensor, got {type(images).__name__}; convert it with torch.as_tensor")
    check_bits(bits, name)
    if images.is_floating_point() or images.is_complex() or images.dtype == torch.bool:
        raise TypeError(f"{name} expects integer images, got {images.dtype}; pass the 8-bit values, for example "
                        "(image * 255).round().to(torch.uint8)")
    if not images.numel() or (images.dtype == torch.uint8 and bits >= 8) or is_transformed():
        return
    images = images.long()  # torch compares few of the unsigned kinds
    if not 0 <= int(images.min()) <= int(images.max()) < 2**bits:
        raise ValueError(f"{name} expects values in [0, {2**bits}), got {int(images.min())} to {int(images.max())}; "
                         "pass bits=...")


def in_bins(values: Tensor, noise: Tensor, bits: int) -> Tensor:
    """Return ``(values + noise) / 2**bits``; a sum that would round up to the next integer stays in its own bin."""
    return torch.minimum(values + noise, torch.nextafter(values + 1, values)) / 2**bits


def bits_per_dim(log_prob: Tensor, num_dims: int | Sequence[int], bits: int = 8) -> Tensor:
    r"""Turn log-densities into bits per dimension of the integers behind :func:`dequantize`.

    :math:`b - \log_2 p(x) / D`, nats to bits.

    Shapes: any shape of log-densities, to the same. Paper: Glow (arXiv 1807.03039) section 2.

    Args:
        log_prob: log-densities of the dequantized images, in nats.
        num_dims: D, or the shape of one image without its batch.
        bits: b, the number of bits of a value.

    Raises:
        ValueError: a number of dimensions below 1.

    >>> bits_per_dim(torch.zeros(2), (3, 64, 64))  # the uniform density
    tensor([8., 8.])
    """
    sizes = num_dims if isinstance(num_dims, Sequence) else [num_dims]
    if not all(hasattr(size, "__index__") and size >= 1 for size in sizes):
        raise ValueError(f"bits_per_dim expects at least one dimension, got {num_dims!r}; pass the shape of one image")
    return bits - log_prob / (math.log(2) * math.prod(sizes))
