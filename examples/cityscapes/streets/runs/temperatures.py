"""Temperatures of samples as models take them."""

from collections.abc import Sequence

from torch import Tensor

from condflows import by_level
from condflows.trace import Context, context_tensors


def laid_out(temperature: float | Sequence[float], context: Context) -> float | Tensor:
    """Return one temperature as it is, and one for each level laid out over photos of the size of the context."""
    if not isinstance(temperature, Sequence):
        return temperature
    return by_level(temperature, (3, *context_tensors(context)[0].shape[2:]))
