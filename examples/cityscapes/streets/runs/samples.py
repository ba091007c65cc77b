"""Samples of a model, as options ask for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condflows import by_level, denoise, guide
from condflows.trace import Context, context_tensors
from models.flow_matching import FlowMatching
from streets.data.labels import UNKNOWN


def sample(model: Any, number: int, context: Context, temperature: float | Sequence[float],
           generator: torch.Generator | None = None, guidance: float = 0.0, channels: int = 3,
           noise: float = 0.0) -> Tensor:
    """Draw ``number`` samples for each context, ``(contexts, number, channels, height, width)``.

    Args:
        model: a model of ``build``.
        number: the number of samples of each context.
        context: label maps or images.
        temperature: one for all levels, or one for each, finest first.
        generator: draws the noise.
        guidance: weight by which a model of ``--label-dropout`` moves away from photos without labels.
        channels: the number of channels of a sample.
        noise: the deviation of the noise that the model was trained with, which is removed from the samples.
    """
    laid_out: Any = temperature
    if isinstance(model, FlowMatching):  # whose guidance is its own, and whose noise has no levels
        return model.sample(number, context, laid_out, generator, guidance)
    if isinstance(temperature, Sequence):
        if context is None:
            raise ValueError("temperatures of levels need a context, which has the size of the samples: give one "
                             "temperature for all levels")
        laid_out = by_level(temperature, (channels, *context_tensors(context)[0].shape[2:]))
    drawn_by = guide(model, guidance, nothing=UNKNOWN) if guidance else model
    drawn = drawn_by.sample(number, context, laid_out, generator)
    if not noise:
        return drawn
    return torch.stack([denoised(model, drawn[:, i], context, noise) for i in range(number)], dim=1)


def denoised(model: Any, images: Tensor, context: Context, noise: float) -> Tensor:
    """Remove the noise that a model was trained with, of this deviation, from noisy images ``(contexts, ...)``."""
    return denoise(model, images, noise, context) if noise else images
