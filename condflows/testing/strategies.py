"""Inputs to test a bijector on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["batches"]


def batches(channels: int, sizes: Sequence[int] = (), min_batch: int = 1, max_batch: int = 3,
            multiples: int = 2) -> SearchStrategy[Tensor]:
    """Make a hypothesis strategy of batches: normal, constant, sparse, integer and far from 0, in float64.

    Shapes: ``(batch, channels, *spatial)``, each spatial size 1 to ``multiples`` times the one in ``sizes``.

    Raises:
        ImportError: hypothesis is missing (``pip install hypothesis``).

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, deadline=None, database=None)
    ... @given(inputs=testing.batches(3, sizes=(2, 2)))
    ... def test_my_bijector(inputs):
    ...     testing.check_bijector(ActNorm(3), inputs)
    >>> test_my_bijector()
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_batch(draw: Any) -> Tensor:
        batch = draw(st.integers(min_batch, max_batch))
        spatial = [size * draw(st.integers(1, multiples)) for size in sizes]
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
        normal = torch.randn(batch, channels, *spatial, generator=generator, dtype=torch.float64)
        constant = torch.full_like(normal, float(normal.flatten()[0]))
        return draw(st.sampled_from([normal, constant, normal * (normal > 0.5), normal.round(), 10 * normal + 5]))

    return draw_batch()
