"""Samples for the page, one at a time, each with its likelihood."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from streets.config.checks import MOST
from streets.config.temperatures import check_temperature
from streets.data.items import Item
from streets.judging.bits import bits_of_each
from streets.runs.run import Run
from streets.using.drawing import draw

DEFAULT_TEMPERATURE = 0.8
"""Temperature of a run whose pictures in training had none, or one for each level."""


class Sample(NamedTuple):
    """A sample, and how likely the model finds it."""

    image: Tensor
    """Image as it is in files."""
    bits: float | None
    """Bits per dimension given the condition; None where they are not known."""
    without: str = "no likelihood"
    """Text in their place."""

    def __str__(self) -> str:
        if self.bits is None:
            return self.without
        return f"{self.bits:.3f} bits/dim, log p {-self.bits * math.log(2) * self.image.numel():,.0f} nats"


def samples(run: Run, item: Item, count: int, temperature: float, seed: int, guidance: float) -> Iterator[Sample]:
    """Draw samples of a scene, which depend on their numbers, the seed and the scene's name alone."""
    if not 0 <= seed <= MOST["seed"]:
        raise ValueError(f"the seed {seed}: a whole number from 0 to {MOST['seed']} is needed")
    temperature, guidance = temperature if run.has_temperature else 1.0, run.guidance(guidance)
    check_temperature(temperature, run.name, run.levels)
    for number in range(count):
        image = draw(run, item, number, temperature, seed, guidance)
        if run.noise:
            yield Sample(image, None, "without the noise, and so without a known likelihood")
        else:
            yield Sample(image, bits(run, item | {run.pairs().target: image}, seed) if run.has_likelihood else None)


def bits(run: Run, item: Item, seed: int) -> float:
    """Measure the bits per dimension of an item's modelled image given the other."""
    pair: torch.utils.data.Dataset = [item]  # pyright: ignore[reportAssignmentType] - a list does all that is asked
    return float(bits_of_each(run.model, run.pairs(seed), pair, draws=1, batch_size=1)[0])


def usual_temperature(config: Mapping[str, Any]) -> float:
    """Return the temperature of the pictures in a run's training."""
    value = config.get("temperature")
    return float(value) if isinstance(value, (int, float)) else DEFAULT_TEMPERATURE
