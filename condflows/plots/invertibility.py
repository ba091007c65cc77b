"""A report of where a flow inverts badly, as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from condflows.plots.panels import COLOURS, Axes, Figure, panels
from condflows.testing.report import InvertibilityReport, Place

__all__ = ["invertibility"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_LABELS = 60


def invertibility(report: InvertibilityReport, *, axes: Any = None) -> Figure:
    """Draw a report of where a flow inverts badly: the errors of its operations at the left, their scales at the right.

    Operations stand below each other in the order in which data enters them, by their names without ``_transform``
    and ``bijectors``. A grey bar is the error of a composition, over the operations that it is made of: where it lies
    to the right of them, their errors were amplified on the way back. Errors of exactly 0 stand at the left edge as
    hollow marks, and those that are not finite at the right edge as red crosses. At the right are the least and
    the largest scale, or singular value, of each operation, and the condition number of each 1x1 convolution.

    Shapes: two panels. Units: errors in those of the inputs, on a logarithmic axis. Paper: none.

    Args:
        report: what :func:`condflows.testing.invertibility_report` returns.
        axes: the two axes to draw on; new ones if None.

    Raises:
        ValueError: a report of no place, another number of axes than two.
        TypeError: an object that is no report.

    >>> from condflows import plots
    >>> chain = Chain([ActNorm(3), LUConv1x1(3)])
    >>> figure = plots.invertibility(testing.invertibility_report(chain, torch.randn(5, 3)))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['0 ActNorm', '1 LUConv1x1']
    """
    if not isinstance(report, (tuple, list)) or not all(isinstance(place, Place) for place in report):
        raise TypeError(f"invertibility expects the report of condflows.testing.invertibility_report, got "
                        f"{type(report).__name__}; pass it as it is")
    if not report:
        raise ValueError("invertibility expects a report of at least one place, got none; report a flow")
    single, compositions = _arranged(report)
    height = min(max(0.22 * len(single) + 1.4, 3.0), 14.0)
    figure, made = panels(axes, 1, 2, "invertibility", figsize=(11.0, height), sharey=True)
    (errors, scales), = made
    _draw_errors(errors, single, compositions)
    _draw_scales(scales, single)
    for ax in (errors, scales):
        ax.set(xscale="log", ylim=(len(single) - 0.4, -0.6))
        low, high = ax.get_xlim()
        if high < 50 * low:  # of few decades, more than their beginnings
            ax.xaxis.set_major_locator(MaxNLocator(5) if high < 5 * low else LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)
    named = [ax.get_legend_handles_labels() for ax in (errors, scales)]
    scales.legend(*map(sum, zip(*named, strict=True), ([], [])), loc="upper left", bbox_to_anchor=(1.02, 1.0))
    if len(single) <= MOST_LABELS:
        errors.set_yticks(range(len(single)), [_label(place) for place in single])
    else:
        errors.yaxis.set_major_locator(MaxNLocator(integer=True))
        errors.set_ylabel("operation, in the order of data")
    return figure


def _arranged(report: Any) -> tuple[list[Place], list[tuple[Place, int, int]]]:
    """Return the places without parts, and those with parts together with the first and last of their places."""
    single: list[Place] = []
    around: list[list[Any]] = []
    for place, following in zip(report, [*report[1:], None], strict=True):
        if following is not None and following.name != place.name and _holds(place, following):
            around.append([place, len(single), len(single)])
            continue
        for composition in around:
            composition[2] = len(single) if _holds(composition[0], place) else composition[2]
        single.append(place)
    return single, [(place, first, last) for place, first, last in around]


def _holds(composition: Place, place: Place) -> bool:
    return not composition.name or place.name.startswith(f"{composition.name}.")


def _label(place: Place) -> str:
    path = [part for part in place.name.split(".") if part not in ("", "bijectors", "_transform", "transform")]
    return f"{'.'.join(path)} {place.kind}".strip()


def _draw_errors(ax: Axes, single: list[Place], compositions: list[tuple[Place, int, int]]) -> None:
    found = np.array([place.error for place in (*single, *(place for place, _, _ in compositions))])
    positive = found[np.isfinite(found) & (found > 0)]
    low, high = (positive.min() / 3, positive.max() * 3) if len(positive) else (1e-17, 1.0)
    for place, first, last in compositions:
        error = min(max(place.error, low), high) if np.isfinite(place.error) else high
        ax.plot([error, error], [first - 0.4, last + 0.4], color="0.6", linewidth=3, alpha=0.7, solid_capstyle="butt",
                label="composition" if place is compositions[0][0] else None)
    kinds = list(dict.fromkeys(place.kind for place in single))
    for i, kind in enumerate(kinds):
        rows = np.array([row for row, place in enumerate(single) if place.kind == kind])
        of_kind = np.array([single[row].error for row in rows])
        color, marker, finite = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], np.isfinite(of_kind)
        some = finite & (of_kind > 0)
        ax.plot(of_kind[some], rows[some], marker, color=color, markersize=5, label=kind)
        none = finite & (of_kind == 0)
        ax.plot(np.full(none.sum(), low), rows[none], marker, color=color, markersize=5, fillstyle="none")
        ax.plot(np.full((~finite).sum(), high), rows[~finite], "x", color="red", markersize=7)
    if any(place.error == 0 for place in single):
        ax.plot([], [], "o", color="0.4", markersize=5, fillstyle="none", label="error 0")
    if not all(np.isfinite(place.error) for place in single):
        ax.plot([], [], "x", color="red", markersize=7, label="error not finite")
    ax.set(title="error of the round trip", xlabel="largest absolute error", xlim=(low / 2, high * 2))


def _draw_scales(ax: Axes, single: list[Place]) -> None:
    rows = [(row, place.min_scale, place.max_scale) for row, place in enumerate(single)
            if place.min_scale is not None and place.max_scale is not None]
    for row, low, high in rows:
        ax.plot([low, high], [row, row], "|-", color=COLOURS[0], linewidth=1.5, markersize=7,
                label="least to largest scale" if row == rows[0][0] else None)
    conditions = [(place.condition, row) for row, place in enumerate(single) if place.condition is not None]
    if conditions:
        ax.plot(*zip(*conditions, strict=True), "D", color=COLOURS[1], markersize=5, fillstyle="none",
                label="condition number")
    ax.axvline(1, color="0.8", linewidth=0.8, zorder=0)
    drawn = np.array([1.0, *(each for row in rows for each in row[1:]), *(each for each, _ in conditions)])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    ax.set(title="scales", xlabel="factor", xlim=(min(0.5, drawn.min() / 1.3), max(2.0, drawn.max() * 1.3)))
