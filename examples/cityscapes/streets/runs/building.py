"""Models with the dequantization that they are trained with."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from condflows import VariationalDequantization, bfloat16_nets
from models import MODELS


def build(name: str, arguments: Mapping[str, Any], dequantization: str = "uniform", nets: str = "float32",
          bits: int = 8) -> Any:
    """Build a model of images of some bits, with nets of a precision, and a ``dequantization`` of learned noise."""
    model: Any = MODELS[name](**arguments)
    if dequantization == "variational":
        model.dequantization = VariationalDequantization(arguments.get("channels", 3), bits=bits)
    return bfloat16_nets(model) if nets == "bfloat16" else model


def with_learned_noise(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with noise of the model's dequantization in place of their own, and its log-density in nats.

    ``log_prob`` of these images less the log-density is the model's bound. Without a learned dequantization the images
    stay as they are and the log-density is 0.

    Args:
        model: a model of ``build``.
        images: images ``(batch, channels, height, width)`` in [0, 1), dequantized uniformly.
    """
    if not hasattr(model, "dequantization"):
        return images, images.new_zeros(images.shape[0])
    bits = model.dequantization.bits
    values = 2**bits * images
    integers = values.floor()
    return model.dequantization(integers.to(torch.uint8 if bits == 8 else torch.int32), noise=values - integers)
