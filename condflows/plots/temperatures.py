"""Samples at several temperatures, of the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from condflows.checks import check_count, check_temperature
from condflows.flow import Flow
from condflows.pairs import PairedFlow
from condflows.plots.images import grid
from condflows.plots.panels import (
    COLOURS,
    Box,
    Figure,
    as_array,
    box_of,
    check_conditions,
    check_flow,
    check_names,
    condition_titles,
    evaluating,
    limits_of,
    panels,
)
from condflows.trace import Context, context_tensors

__all__ = ["temperatures"]


def temperatures(flow: Flow | PairedFlow, context: Context = None,
                 temperatures: Sequence[float] = (0.0, 0.4, 0.7, 1.0), *, num_samples: int | None = None,
                 generator: torch.Generator | None = None, size: Sequence[int] | None = None,
                 titles: Sequence[str] | None = None, limits: Any = None, axes: Any = None) -> Figure:
    r"""Draw samples at several temperatures, the same noise at each, one row of the picture for each condition.

    .. math:: x_\tau = f^{-1}(\tau \epsilon, c)

    with one :math:`\epsilon` along a row, so that neighbours differ by the temperature :math:`\tau` alone. A flow of
    images has a column of images for each temperature, a flow of two values a scatter plot.

    Shapes: samples of ``(channels, height, width)``, 1 or 3 channels, or ``(2,)``. Without a context each sample of an
    image has a row of its own. Units: images as for :func:`images`. Paper: Glow (arXiv 1807.03039) section 6, on
    temperatures.

    Args:
        flow: a flow, or a pair of flows.
        context: the conditions, one a row, for a pair x_a; or None.
        temperatures: factors of the noise's standard deviation, as :meth:`condflows.Flow.sample` takes them.
        num_samples: the number of samples of each condition; by default 1 image, or 1000 points.
        generator: draws the noise; a new one by default, which torch's random numbers seed.
        size: the height and width of images where the flow leaves them open, as :meth:`condflows.Flow.sample` takes it.
        titles: of the conditions; their values by default, if they are few.
        limits: of the values of images, as for :func:`images`; for points as for :func:`density`.
        axes: the axes to draw on, one column for each temperature; new ones if None.

    Raises:
        ValueError: a flow of neither images nor two values, no temperature, and titles or axes that do not fit; and
            the errors of :meth:`condflows.Flow.sample`.
        TypeError: an object that is no flow.

    >>> from condflows import plots
    >>> flow = Flow(ActNorm(2, conditioners.MLPConditioner(1, 4)), shape=(2,))
    >>> figure = plots.temperatures(flow, torch.tensor([[-1.0], [1.0]]), (0.5, 1.0))
    >>> [ax.get_title() for ax in figure.axes]
    ['T = 0.5', 'T = 1', '', '']
    """
    shape = check_flow(flow, "temperatures")
    if shape is not None and shape != (2,) and len(shape) != 3:
        raise ValueError(f"temperatures expects a flow of images or of 2 values, got one of shape {shape}; draw "
                         "samples of more values with plots.corner")
    rows = check_conditions(context, "temperatures")
    values = [float(check_temperature(one)) for one in temperatures]
    if not values:
        raise ValueError("temperatures expects at least one temperature, got none; pass for example (0.5, 1.0)")
    check_names(titles, rows, "temperatures", "titles, one for each row of the context")
    named = list(titles or condition_titles(context, rows))
    count = (1000 if shape == (2,) else 1) if num_samples is None else num_samples
    check_count(count, 1, "temperatures expects a positive whole number of samples")
    box = None if limits is None or shape != (2,) else box_of(limits, "temperatures")
    source = torch.Generator().manual_seed(int(torch.randint(2**62, ()))) if generator is None else generator
    state, samples = source.get_state(), []
    with evaluating(flow):
        for value in values:
            source.set_state(state)
            drawn = flow.sample(count, context, value, source, size=size)
            samples.append(drawn if context_tensors(context) else drawn[None])
    columns = [f"T = {value:g}" for value in values]
    if shape != (2,):
        spread = [title if i == 0 else "" for title in named for i in range(count)]
        strip = [(column, one.flatten(0, 1)) for column, one in zip(columns, samples, strict=True)]
        return grid(strip, spread, limits, True, axes, "temperatures")
    return _scatter(np.stack([as_array(one, "temperatures") for one in samples], 1), named, columns, box, axes)


def _scatter(points: np.ndarray, rows: list[str], columns: list[str], box: Box | None,
             axes: Any) -> Figure:
    """Draw points ``(rows, columns, n, 2)``, with the same limits everywhere."""
    size = 2.2 * len(columns) + 0.8, 2.2 * len(rows) + 0.8
    figure, made = panels(axes, len(rows), len(columns), "temperatures", sharex=True, sharey=True, figsize=size)
    ends = [limits_of(axis, 0.1) for axis in points.reshape(-1, 2).T] if box is None else box
    for (i, j), ax in np.ndenumerate(made):
        one_point = np.ptp(points[i, j], axis=0).max() == 0  # as at temperature 0
        ax.plot(*points[i, j].T, ".", color=COLOURS[0], markersize=8 if one_point else 2.5, markeredgewidth=0)
        ax.set(xlim=ends[0], ylim=ends[1], box_aspect=1)
        ax.set(title=columns[j] if i == 0 else "", xlabel="$x_1$" if i == len(rows) - 1 else "")
        if j == 0:
            ax.set_ylabel(f"{rows[i]}\n$x_2$" if rows[i] else "$x_2$")
    return figure
