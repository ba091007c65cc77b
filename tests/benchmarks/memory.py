"""Peak memory that a training step allocates against depth, without parameters and gradients.

The figures are what torch's allocator hands out, not the memory of the process; each is from a separate process.

    python tests/benchmarks/memory.py --steps 4 16 64 --side 128 --plot memory.png
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import torch
import tyro
from glows import BUILDERS
from matplotlib.figure import Figure

warnings.filterwarnings("ignore")


def measure(name: str, steps: int, levels: int, width: int, side: int, batch: int) -> float:
    """Measure the peak of one forward and backward pass in MiB, less what was there before and the gradients."""
    torch.set_num_threads(1)
    glow = BUILDERS[name]((steps,) * levels, width, batch, side)
    x = torch.rand(batch, 3, side, side)
    with torch.no_grad():
        glow.loss(x)  # what libraries initialize in their first pass
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
        glow.loss(x).backward()
    now = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    gradients = sum(p.numel() * p.element_size() for p in glow.module.parameters() if p.requires_grad)
    return (peak - gradients) / 2**20


def main(
    contenders: tuple[str, ...] = ("condflows, checkpoint", "condflows", "normflows", "nflows", "FrEIA (Householder)",
                                   "Full-Glow, checkpoint", "Full-Glow"),
    steps: tuple[int, ...] = (4, 8, 16, 32, 64), levels: int = 3, width: int = 512, side: int = 64, batch: int = 1,
    plot: Path | None = None,
) -> None:
    print(f"{levels} levels, width {width}, {side}x{side}, batch {batch}: MiB at {', '.join(map(str, steps))} steps a "
          "level")
    figures = {}
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in contenders:
            figures[name] = [pool.apply(measure, (name, n, levels, width, side, batch)) for n in steps]
            print(f"  {name:22}", *(f"{figure:8.0f}" for figure in figures[name]),
                  f"  last to first {figures[name][-1] / figures[name][0]:.2f}", flush=True)
    if plot:
        draw(figures, steps, plot)


def draw(figures: dict[str, list[float]], steps: Sequence[int], path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for i, (name, values) in enumerate(figures.items()):
        axes.plot(steps, values, "o-" if i % 2 else "s--", markersize=4 + i % 2 * 2, label=name)
    axes.set(xlabel="steps a level", ylabel="MiB of a training step", xscale="log", yscale="log")
    axes.set_xticks(steps, labels=map(str, steps))
    axes.minorticks_off()
    figure.legend(loc="outside right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
