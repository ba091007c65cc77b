"""Parts that all pictures share: their axes and colours, the titles of conditions, a flow in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condflows import modes
from condflows.checks import check_batch
from condflows.flow import Flow
from condflows.pairs import PairedFlow
from condflows.trace import Context, context_rows

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('condflows.plots expects matplotlib, which is not installed; run '
                              'pip install "condflows[plots]"', name=error.name) from error

__all__ = ["COLOURS", "Axes", "Box", "Figure", "as_array", "box_of", "check_conditions", "check_flow", "check_names",
           "condition_titles", "evaluating", "limits_of", "panels"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito, which colour-blind readers tell apart."""

Box = list[tuple[float, float]]
"""The limits of the two axes of a panel."""

MOST_PANELS = 64


def panels(axes: Any, rows: int, columns: int, name: str, **given: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure and an array (rows, columns) of its axes: of those given, or of new ones.

    The axes that a user gives may be one, or any nest of lists or arrays that has as many as are needed.
    """
    if axes is None:
        return plt.subplots(rows, columns, squeeze=False, **{"layout": "constrained", **given})
    flat = np.array(axes, dtype=object).ravel()
    wrong = [type(each).__name__ for each in flat if not isinstance(each, Axes)]
    if wrong:
        raise TypeError(f"{name} expects axes of matplotlib, got {wrong[0]}; pass those that plt.subplots returns")
    if len(flat) != rows * columns:
        wanted = "one axis" if rows * columns == 1 else f"{rows * columns} axes, {rows} by {columns}"
        raise ValueError(f"{name} expects {wanted}, got {len(flat)}; make them with "
                         f"plt.subplots({rows}, {columns}), or leave them out")
    return flat[0].figure.figure, flat.reshape(rows, columns)  # the figure around a subfigure


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """Call models, or methods of theirs, without gradients and in evaluation mode; leave every module in its mode."""
    with modes.evaluating(*(getattr(model, "__self__", model) for model in models)), torch.no_grad():
        yield


def check_flow(flow: Any, name: str) -> tuple[int | None, ...] | None:
    """Return the shape of one sample of a flow, and refuse other objects."""
    if not isinstance(flow, (Flow, PairedFlow)):
        raise TypeError(f"{name} expects a condflows.Flow or PairedFlow, got {type(flow).__name__}; put a bijector "
                        "into a Flow")
    return flow.target.shape if isinstance(flow, PairedFlow) else flow.shape


def check_conditions(context: Context, name: str) -> int:
    """Return the number of rows of a context, 1 without one, and refuse more than a picture has room for."""
    rows = context_rows(context)
    check_batch(context, rows, name)
    if not 1 <= rows <= MOST_PANELS:
        raise ValueError(f"{name} expects 1 to {MOST_PANELS} conditions, each drawn by itself, got {rows}; pass a few "
                         "of them, for example context[:4]")
    return rows


def check_names(names: Sequence[str] | None, count: int, name: str, of: str) -> None:
    """Refuse another number of names than there are things to name."""
    if names is not None and (isinstance(names, str) or len(names) != count):
        raise ValueError(f"{name} expects {count} {of}, got {names!r}; pass a list of as many, or leave them out")


def condition_titles(context: Context, rows: int) -> list[str]:
    """Return the titles of conditions: their values where these are few, else their numbers."""
    if isinstance(context, Tensor) and context[0].numel() <= 3:
        values = [[f"{value:.3g}" for value in row] for row in context.detach().reshape(rows, -1).tolist()]
        return ["c = " + (f"({', '.join(row)})" if len(row) > 1 else "".join(row)) for row in values]
    return [f"condition {row}" for row in range(rows)] if rows > 1 else [""]


def as_array(values: Any, name: str) -> np.ndarray:
    """Return a tensor on any device, or what can be made one, as a float64 array."""
    try:
        return torch.as_tensor(values).detach().cpu().double().numpy()  # not every device has float64
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} expects a tensor of numbers, got {type(values).__name__}; convert it with "
                        "torch.as_tensor") from error


def box_of(limits: Any, name: str) -> Box:
    """Return the limits of both axes that a user gave, or refuse them."""
    try:
        box = np.broadcast_to(np.asarray(limits, dtype=float), (2, 2))
    except (TypeError, ValueError):
        box = np.full((2, 2), np.nan)
    if not (np.isfinite(box).all() and (box[:, 0] < box[:, 1]).all()):
        raise ValueError(f"{name} expects limits (low, high), or ((low, high), (low, high)) for the two axes, got "
                         f"{limits!r}; the lower end comes first")
    return [(float(low), float(high)) for low, high in box]


def limits_of(values: np.ndarray, margin: float) -> tuple[float, float]:
    """Return limits that hold all but the outermost thousandth of the finite values on each side, and a margin."""
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
    # Of equal values, limits that differ: by more than a rounding of such values.
    room = margin * (high - low) or max(0.5, 1e-6 * abs(high))
    return float(low - room), float(high + room)
