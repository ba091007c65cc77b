"""Samples of several values, in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from torch import Tensor

from condflows.checks import check_count
from condflows.plots.panels import COLOURS, Axes, Figure, as_array, check_names, limits_of, panels

__all__ = ["corner"]

STYLES = ("-", "--", "-.", ":")
MOST_VALUES = 20


def corner(samples: Tensor | Mapping[str, Tensor], names: Sequence[str] | None = None, *,
           truths: Tensor | Sequence[float] | None = None, bins: int = 30, levels: Sequence[float] = (0.5, 0.9),
           axes: Any = None) -> Figure:
    """Draw samples of several values in pairs: a histogram of each value, and below it contours with each other value.

    A contour holds the given share of the samples, where these are densest: the regions are those of a histogram that
    is smoothed by a normal of one bin's deviation. Several sets of samples share the bins, and their histograms are
    scaled to densities, so that sets of different sizes can be compared. The axes leave out the outermost thousandth of
    the values on each side.

    Shapes: ``(n, K)``, for one condition of a flow ``flow.sample(n, context)[0]``; ``(K, K)`` panels, of which those
    above the diagonal stay empty. Units: those of the values. Paper: none; such pictures are known from
    corner.py (doi 10.21105/joss.00024).

    Args:
        samples: the samples ``(n, K)``, or a dictionary of several sets by name, which a legend tells.
        names: of the K values.
        truths: K true values, drawn as lines and crosses.
        bins: the number of bins along each axis.
        levels: the shares that contours hold, each between 0 and 1.
        axes: the K by K axes to draw on; new ones if None.

    Raises:
        ValueError: samples of another shape, none of them, or some that are not finite; names, truths, levels or axes
            that do not fit.
        TypeError: samples that are no numbers.

    >>> from condflows import plots
    >>> posterior, prior = 0.3 * torch.randn(500, 3), torch.randn(200, 3)
    >>> figure = plots.corner({"prior": prior, "posterior": posterior}, ["mass", "spin", "tilt"], truths=[0, 0, 0])
    >>> [ax.get_xlabel() for ax in figure.axes[-3:]]
    ['mass', 'spin', 'tilt']
    """
    given = samples if isinstance(samples, Mapping) else {"": samples}
    sets = {name: _checked(as_array(one, "corner"), name) for name, one in given.items()}
    counts = {one.shape[1] for one in sets.values()}
    if len(counts) != 1:
        raise ValueError(f"corner expects sets of samples of one number of values, got {sorted(counts)}; leave out the "
                         "values that not all have")
    size = counts.pop()
    check_names(names, size, "corner", "names, one for each value")
    check_count(bins, 2, "corner expects at least 2 bins")
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"corner expects levels between 0 and 1, got {levels!r}; 0.9 holds nine samples of ten")
    true = None if truths is None else as_array(truths, "corner")
    if true is not None and true.shape != (size,):
        raise ValueError(f"corner expects {size} true values, one for each value, got shape {true.shape}; give NaN for "
                         "one that is not known")
    edges = [_edges([one[:, i] for one in sets.values()], None if true is None else true[i], bins) for i in range(size)]
    side = 1.7 * size + 0.8
    figure, made = panels(axes, size, size, "corner", figsize=(side, side))
    for i, j in np.ndindex(size, size):
        _panel(made[i, j], i, j, sets, edges, levels, true)
    for i in range(size):
        name = names[i] if names else f"$x_{{{i + 1}}}$"
        made[-1, i].set_xlabel(name)
        if i:
            made[i, 0].set_ylabel(name)
        for j in range(i + 1):
            made[i, j].tick_params(labelbottom=i == size - 1, labelleft=i > j == 0)
    if any(sets):
        lines = [Line2D([], [], color=color, linestyle=style, label=name) for name, (color, style) in _styles(sets)]
        legend = made[0, -1].legend(handles=lines, loc="upper right")
        legend.set_in_layout(False)  # it may be wider than its panel, and lie over the empty ones beside it
    return figure


def _checked(samples: np.ndarray, name: str) -> np.ndarray:
    of = f" {name!r}" if name else ""
    if samples.ndim != 2 or 0 in samples.shape or samples.shape[1] > MOST_VALUES:
        raise ValueError(f"corner expects samples{of} of shape (n, K), of 1 to {MOST_VALUES} values, got "
                         f"{samples.shape}; of samples (conditions, n, K) pass one condition's, samples[0]")
    if not np.isfinite(samples).all():
        raise ValueError(f"corner expects finite samples{of}, got {(~np.isfinite(samples)).sum()} NaN or infinite "
                         "values; leave their rows out")
    return samples


def _edges(sets: list[np.ndarray], true: float | None, bins: int) -> np.ndarray:
    """Return the edges of the bins of one value, for all sets; the true value lies within."""
    low, high = np.array([limits_of(one, 0.05) for one in sets]).T
    inside = [] if true is None or not np.isfinite(true) else [true]
    return np.linspace(min(*low, *inside, np.inf), max(*high, *inside, -np.inf), bins + 1)


def _styles(sets: Mapping[str, np.ndarray]) -> list[tuple[str, tuple[str, Any]]]:
    """Return the colour and the style of the lines of each set."""
    return [(name, (COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)])) for i, name in enumerate(sets)]


def _panel(ax: Any, i: int, j: int, sets: Mapping[str, np.ndarray], edges: list[np.ndarray], levels: Sequence[float],
           true: np.ndarray | None) -> None:
    """Draw the panel of row i and column j: value j to the right, and below the diagonal value i upwards."""
    if i < j:
        ax.axis("off")
        return
    for name, (color, style) in _styles(sets):
        values = sets[name]
        if i == j:
            counts, _ = np.histogram(values[:, i], edges[i])
            shares = counts / len(values) / np.diff(edges[i])  # a density, of which the axes may leave out a little
            ax.stairs(shares, edges[i], color=color, linestyle=style, linewidth=1.3)
            ax.stairs(shares, edges[i], color=color, alpha=0.15, fill=True)
        else:
            _contours(ax, values[:, [j, i]], edges[j], edges[i], levels, color, style)
    ax.set(xlim=edges[j][[0, -1]])
    if i == j:
        ax.set(ylim=(0, None), yticks=[])
    else:
        ax.set(ylim=edges[i][[0, -1]])
    if true is not None:
        ax.axvline(true[j], color="black", linewidth=0.8)
        if i != j:
            ax.axhline(true[i], color="black", linewidth=0.8)
            ax.plot(true[j], true[i], "k+", markersize=9)


def _contours(ax: Axes, values: np.ndarray, right: np.ndarray, up: np.ndarray, levels: Sequence[float], color: str,
              style: str) -> None:
    """Draw the contours that hold shares of the values."""
    counts, _, _ = np.histogram2d(values[:, 0], values[:, 1], [right, up])
    steps = np.arange(len(counts))
    smooth = np.exp(-0.5 * (steps - steps[:, None]) ** 2)
    counts = smooth @ counts @ smooth
    ranked = np.sort(counts.ravel())[::-1]
    reached = np.searchsorted(ranked.cumsum(), np.array(sorted(levels, reverse=True)) * ranked.sum())
    heights = np.unique(ranked[np.minimum(reached, ranked.size - 1)])
    centres = [(edges[1:] + edges[:-1]) / 2 for edges in (right, up)]
    ax.contourf(*centres, counts.T, levels=[*heights, np.inf], colors=[color], alpha=0.25)
    ax.contour(*centres, counts.T, levels=heights, colors=[color], linestyles=[style], linewidths=1.1)
