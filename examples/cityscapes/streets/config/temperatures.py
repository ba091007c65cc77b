"""Temperatures as options give them: one for all levels of a model, or one for each level."""

import math
from collections.abc import Sequence
from typing import Annotated

import tyro

from streets.config.kinds import WITHOUT_LIKELIHOOD, WITHOUT_TEMPERATURE


def read(words: list[str]) -> float | tuple[float, ...]:
    """Read the text of an option: a number, or numbers joined by commas."""
    try:
        values = tuple(float(word) for word in words[0].split(","))
    except ValueError:
        raise ValueError(f"expected a number, or one for each level joined by commas, got {words[0]}") from None
    return values[0] if len(values) == 1 else values


def each(temperature: float | Sequence[float]) -> Sequence[float]:
    """Return the temperatures of single levels, or the one of all."""
    return temperature if isinstance(temperature, Sequence) else (temperature,)


def text(temperature: float | Sequence[float]) -> str:
    """Return a temperature as options and tables write it."""
    return ",".join(f"{value:g}" for value in each(temperature))


Temperature = Annotated[float | tuple[float, ...], tyro.constructors.PrimitiveConstructorSpec(
    nargs=1, metavar="T|T,T,...", instance_from_str=read, str_from_instance=lambda value: [text(value)],
    is_instance=lambda value: isinstance(value, (float, int, tuple)),
)]
"""Standard deviation of the noise: of all levels, or of each, finest first."""


def check_temperature(temperature: float | Sequence[float], model: str, levels: int | None = None,
                      option: str = "--temperature") -> None:
    """Refuse temperatures that are negative or infinite, that the model has not, and too many or few for its levels."""
    option = f"{option} {text(temperature)}"
    if not all(0 <= value < math.inf for value in each(temperature)):
        raise ValueError(f"{option}: a finite number of at least 0 is needed")
    if model in WITHOUT_TEMPERATURE and temperature != 1:
        raise ValueError(f"{option}: {model} has none, its only noise is dropout; leave it out")
    if isinstance(temperature, Sequence) and model in WITHOUT_LIKELIHOOD:
        raise ValueError(f"{option}: the noise of {model} has no levels; give one temperature for all of it")
    if isinstance(temperature, Sequence) and levels not in (None, len(temperature)):
        raise ValueError(f"{option}: {model} has {levels} levels; give one temperature for all, or {levels} joined by "
                         "commas, finest first")
