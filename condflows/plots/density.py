"""Densities in the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from condflows.bijector import Bijector
from condflows.checks import check_count
from condflows.flow import Flow
from condflows.pairs import PairedFlow
from condflows.plots.panels import (
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
from condflows.trace import Context, context_tensors, map_context

__all__ = ["density"]

LogProb = Callable[[Tensor, Any], Tensor]
Model = Flow | PairedFlow | LogProb

AT_A_TIME = 10_000  # points whose density is computed in one call
SAMPLES = 1000  # of each condition, to find limits


def density(flow: Model | Mapping[str, Model], context: Context = None, *, points: Tensor | None = None,
            limits: Any = None, resolution: int = 150, vmax: float | None = None,
            names: Sequence[str] = ("$x_1$", "$x_2$"), titles: Sequence[str] | None = None,
            axes: Any = None) -> Figure:
    r"""Draw the density :math:`p(x \mid c)` of a flow of two values, one panel for each row of the context.

    Several models of one quantity, the truth among them, are drawn below each other, and all panels below each other
    have one scale of colours, told by a bar beside new axes. A panel's colours are the density at the centres of
    ``resolution`` by ``resolution`` cells, so their sum times the area of a cell is the probability inside the limits.
    For a flow of more values, draw samples with :func:`corner`; a plane through its density is drawn here, of a
    function that completes the points.

    Shapes: inputs of the flow are ``(batch, 2)``; with B rows of context and M models there are ``(M, B)`` panels.
    Units: the density is that per unit of area. Paper: none.

    Args:
        flow: a flow, a pair of flows, or a function ``log_prob(points, context)`` that returns log-densities
            ``(n,)`` in nats of points ``(n, 2)`` and as many rows of context (None without a context); or a
            dictionary of several of them by name.
        context: the conditions, one a row; or None.
        points: points to draw over the density, ``(n, 2)`` in every panel or ``(B, n, 2)``, as samples are.
        limits: ``(low, high)`` of both axes, or ``((low, high), (low, high))``; found from ``points`` and from
            samples of the flows if None, which leaves torch's random numbers as they were.
        resolution: the number of cells along each axis.
        vmax: the density of the brightest colour; by default the largest one of the panels below each other.
        names: of the two values.
        titles: of the conditions; their values by default, if they are few.
        axes: the axes to draw on, as many as there are panels; new ones if None.

    Raises:
        ValueError: no model, a flow of another number of values; points, limits, vmax, names, titles or axes that do
            not fit; a function without limits and points; log-densities of another shape; and the errors of the flow.
        TypeError: an object that is no flow and no function.

    >>> from condflows import plots
    >>> flow = Flow(ActNorm(2, conditioners.MLPConditioner(1, 4)), shape=(2,))
    >>> contexts = torch.tensor([[-1.0], [0.0], [1.0]])
    >>> figure = plots.density(flow, contexts, points=flow.sample(100, contexts))
    >>> [ax.get_title() for ax in figure.axes[:3]]
    ['c = -1', 'c = 0', 'c = 1']

    Beside the truth, with the same limits:

    >>> def truth(points, context):
    ...     return torch.distributions.Normal(0, 1).log_prob(points).sum(1)
    >>> figure = plots.density({"truth": truth, "learned": flow}, contexts, limits=(-3, 3))
    """
    models = dict(flow) if isinstance(flow, Mapping) else {"": flow}
    if not models:
        raise ValueError("density expects at least one flow or function, got an empty dictionary; pass some by name")
    for model in models.values():
        _check(model)
    rows = check_conditions(context, "density")
    check_names(names, 2, "density", "names, one for each value")
    check_names(titles, rows, "density", "titles, one for each row of the context")
    check_count(resolution, 2, "density expects a resolution of at least 2 cells")
    if vmax is not None and not vmax > 0:
        raise ValueError(f"density expects a positive density as vmax, got {vmax!r}; leave it out for the largest one")
    overlaid = None if points is None else _checked(as_array(points, "density"), rows)
    (left, right), (bottom, top) = box = _box(models.values(), context, overlaid, limits)
    centres = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    across, up = (low + (high - low) * centres for low, high in box)
    grid = torch.cartesian_prod(up, across).flip(1)  # row by row, as in an image
    with evaluating(*models.values()):
        found = [[_density(model, grid, context, row).reshape(resolution, resolution) for model in models.values()]
                 for row in range(rows)]
    side, below = 3.1 if rows == 1 else 2.2, vmax is None  # below: where bars of colours are
    figure, made = panels(axes, len(models), rows, "density", sharex=True, sharey=True, layout="compressed",
                          figsize=(side * rows + (0.7 if below else 1.6), side * len(models) + (1.5 if below else 0.8)))
    for row, title in enumerate(titles or condition_titles(context, rows)):
        largest = max(float(one[np.isfinite(one)].max(initial=0)) for one in found[row]) if vmax is None else vmax
        for ax, one in zip(made[:, row], found[row], strict=True):
            image = ax.imshow(one, origin="lower", extent=(left, right, bottom, top), vmin=0, vmax=largest or 1.0,
                              cmap="viridis", aspect="auto")
            if overlaid is not None:
                ax.plot(*overlaid[row].T, ".", color="white", markersize=3, alpha=0.5, markeredgewidth=0)
            ax.set(xlim=(left, right), ylim=(bottom, top), box_aspect=1)
        made[0, row].set_title(title)
        made[-1, row].set_xlabel(names[0])
        if axes is None and below:
            figure.colorbar(image, ax=list(made[:, row]), location="bottom", label="density", ticks=MaxNLocator(3))
    if axes is None and not below:  # one for all panels
        figure.colorbar(image, ax=list(made.flat), label="density")
    for ax, name in zip(made[:, 0], models, strict=True):
        ax.set_ylabel("\n".join(filter(None, (str(name), names[1]))))
    return figure


def _check(model: Any) -> None:
    """Refuse models without a density of two values."""
    if not callable(getattr(model, "log_prob", model)) or isinstance(model, Bijector):
        raise TypeError(f"density expects a flow, or a function log_prob(points, context), got {type(model).__name__}; "
                        "put a bijector into a Flow, and several models into a dictionary")
    shape = check_flow(model, "density") if isinstance(model, (Flow, PairedFlow)) else None
    if shape is not None and shape != (2,):
        raise ValueError(f"density expects a flow of 2 values, got one of shape {shape}; draw samples of more values "
                         "with plots.corner, and of images with plots.images")


def _checked(points: np.ndarray, rows: int) -> np.ndarray:
    """Return points for every panel, or refuse them."""
    if points.shape[-1:] == (2,) and points.ndim in (2, 3) and points.shape[:-2] in ((), (rows,)):
        return np.broadcast_to(points, (rows, *points.shape[-2:]))
    raise ValueError(f"density expects points of shape (n, 2), or ({rows}, n, 2), a set for each condition, got "
                     f"{points.shape}; choose the two values that the flow has")


def _box(models: Any, context: Context, points: np.ndarray | None, limits: Any) -> Box:
    """Return the limits of both axes: those given, or some around points and samples."""
    if limits is not None:
        return box_of(limits, "density")
    values = [] if points is None else [points.reshape(-1, 2)]
    for flow in (model for model in models if isinstance(model, (Flow, PairedFlow))):
        with evaluating(flow):
            samples = flow.sample(SAMPLES, context, generator=torch.Generator().manual_seed(0))
        values.append(as_array(samples, "density").reshape(-1, 2))
    if not values:
        raise ValueError("density expects limits for functions, which have no samples to find them from; pass "
                         "limits=((low, high), (low, high))")
    return [limits_of(both, 0.15) for both in np.concatenate(values).T]


def _density(model: Any, grid: Tensor, context: Context, row: int) -> np.ndarray:
    """Return the density of a model at points of a grid, given one row of the context."""
    log_prob = getattr(model, "log_prob", model)
    owner = getattr(model, "__self__", model)
    own = list(owner.parameters()) if isinstance(owner, nn.Module) else []
    like = next((each for each in (*own, *context_tensors(context)) if each.is_floating_point()), torch.empty(()))
    found = []
    for points in grid.to(like).split(AT_A_TIME):
        count = len(points)
        given = map_context(lambda each, n=count: each[row:row + 1].expand(n, *each.shape[1:]), context)
        one = log_prob(points, given)
        if not isinstance(one, Tensor) or one.shape != (count,):
            raise ValueError(f"density expects log_prob(points, context) to return log-densities of shape ({count},), "
                             f"got {tuple(getattr(one, 'shape', ())) or type(one).__name__}; return one for each point")
        found.append(as_array(one, "density"))
    return np.exp(np.concatenate(found))
