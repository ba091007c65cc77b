"""Ranks of true values among samples, beside what chance would give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condflows.plots.panels import COLOURS, Figure, as_array, panels

__all__ = ["calibration"]

COVERAGE = 0.95
MOST_POINTS = 100  # at which a line is compared with the band
SIMULATED = 2000
STYLES = ("-", "--", "-.", ":")


def calibration(result: Any, *, axes: Any = None) -> Figure:
    r"""Draw whether a flow is calibrated: ranks of true values among its samples, beside what chance would give.

    A line is the share of ranks up to r, less the share :math:`(r + 1) / (S + 1)` that is expected of S samples. Of a
    calibrated flow it stays close to 0. A line that rises and then falls below 0 belongs to a flow whose samples are
    too narrow, one that falls first to samples that are too wide, and one on one side of 0 to samples that are too
    large (above 0) or too small (below 0). Ranks of log-densities have one direction: a line above 0 belongs to true
    values that lie further out in the tails than samples do.

    The band is simultaneous: of a calibrated flow 95 % of all lines lie inside over their whole length. It follows
    Säilynoja and others: bounds of the binomial distribution at each of at most 100 ranks, of a coverage that is found
    by simulating 2000 sets of ranks. Of K lines, 5 % of K are expected to leave it somewhere by chance.

    Shapes: one panel, with a line for each of the K quantities. Units: shares. Paper: arXiv 2103.10522, Graphical test
    for discrete uniformity; simulation-based calibration is arXiv 1804.06788.

    Args:
        result: what ``condflows.testing.calibration`` returns, or any object with its ``ranks``, integers ``(rows, K)``
            from 0 to ``num_samples``, its ``num_samples`` and its ``names``, one for each of the K quantities.
        axes: the axis to draw on; a new one if None.

    Raises:
        ValueError: ranks of another shape or beyond ``num_samples``, another number of names, more than one axis.
        TypeError: an object without these attributes.

    >>> from types import SimpleNamespace
    >>> from condflows import plots
    >>> ranks = torch.randint(0, 100, (500, 2))
    >>> figure = plots.calibration(SimpleNamespace(ranks=ranks, num_samples=99, names=("mass", "spin")))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['mass', 'spin', '95 % simultaneous band']
    """
    missing = [name for name in ("ranks", "num_samples", "names") if not hasattr(result, name)]
    if missing:
        raise TypeError(f"calibration expects the result of condflows.testing.calibration, got {type(result).__name__} "
                        f"without {', '.join(missing)}; pass it as it is")
    ranks, samples, names = as_array(result.ranks, "calibration"), int(result.num_samples), tuple(result.names)
    if ranks.ndim != 2 or 0 in ranks.shape or ranks.shape[1] != len(names):
        raise ValueError(f"calibration expects ranks of shape (rows, K), at least one row, and K names, got "
                         f"{ranks.shape} and {len(names)} names; pass the result as it is")
    if samples < 1 or ranks.min() < 0 or ranks.max() > samples or (ranks % 1).any():
        raise ValueError(f"calibration expects whole ranks from 0 to num_samples={samples}, at least 1, got "
                         f"{ranks.min():g} to {ranks.max():g}; pass the result as it is")
    # The last rank is left out: all ranks are up to it.
    at = np.unique(np.linspace(0, samples - 1, min(samples, MOST_POINTS)).round())
    expected = (at + 1) / (samples + 1)
    low, high = (np.r_[0, bound / len(ranks) - expected, 0] for bound in _band(len(ranks), expected))
    across = np.r_[0, expected, 1]
    figure, ((ax,),) = panels(axes, 1, 1, "calibration", figsize=(6.0, 4.0))
    label = f"{100 * COVERAGE:g} % simultaneous band"
    band = ax.fill_between(across, low, high, color="0.85", linewidth=0, label=label)
    ax.axhline(0, color="0.5", linewidth=0.8)
    lines = []
    for i, (name, of_name) in enumerate(zip(names, ranks.T, strict=True)):
        share = (of_name[:, None] <= at).mean(0)
        lines += ax.plot(across, np.r_[0, share - expected, 0], STYLES[i // len(COLOURS) % len(STYLES)],
                         color=COLOURS[i % len(COLOURS)], linewidth=1.4, label=name)
    ax.set(xlabel="rank of the true value among samples, as a share", ylabel="share of ranks up to it, less expected",
           xlim=(0, 1))
    ax.legend(handles=[*lines, band], fontsize="small")
    return figure


def _band(rows: int, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest counts of ranks up to some, for a simultaneous coverage of 95 %.

    Args:
        rows: the number of ranks, independent and uniform.
        expected: the probability of a rank up to each of those at which counts are compared.
    """
    below = _binomial_cdf(rows, torch.as_tensor(expected)).numpy()  # (points, rows + 1)
    steps = np.diff(np.r_[0, expected, 1])
    counts = np.random.default_rng(0).multinomial(rows, steps, SIMULATED).cumsum(1)[:, :-1]
    points = np.arange(len(expected))
    up_to, fewer = below[points, counts], np.where(counts > 0, below[points, counts - 1], 0)
    # The least probability, at any point, of so few or so many: of 5 % of the sets it is lower than the bound.
    rare = np.minimum(up_to, 1 - fewer).min(1)
    bound = np.quantile(rare, 1 - COVERAGE) * (1 - 1e-9)  # of two equal tails, both are inside, whatever their rounding
    return (below >= bound).argmax(1), (1 - below < bound).argmax(1)


def _binomial_cdf(rows: int, probability: Tensor) -> Tensor:
    """Return the probability of each count from 0 to ``rows`` or fewer, for each probability of one."""
    counts = torch.arange(rows + 1, dtype=torch.float64)
    ways = math.lgamma(rows + 1) - torch.lgamma(counts + 1) - torch.lgamma(rows - counts + 1)
    chance = probability.to(torch.float64)[:, None]
    return (ways + counts * chance.log() + (rows - counts) * (-chance).log1p()).exp().cumsum(1).clamp(max=1)
