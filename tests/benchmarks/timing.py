"""Timing of contenders in turn, on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import TypeVar

__all__ = ["in_turn", "median", "ratio"]

Name = TypeVar("Name", bound=Hashable)


def in_turn(runs: Mapping[Name, Callable[[], object]], rounds: int, least: float = 0.0) -> dict[Name, list[float]]:
    """Time every run once a round, in turn, and return the seconds of each; a first round warms up and is left out.

    A run that takes less than ``least`` seconds is repeated within a round, and the mean counts.
    """
    times: dict[Name, list[float]] = {name: [] for name in runs}
    repeats = {name: max(1, round(least / max(1e-9, min(_seconds(run), _seconds(run))))) for name, run in runs.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(_seconds(run, repeats[name]))
    return times


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Return the median over the rounds of their time divided by ours."""
    return median(t / o for t, o in zip(theirs, ours, strict=True))


def _seconds(run: Callable[[], object], repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats
