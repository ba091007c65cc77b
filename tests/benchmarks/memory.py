"""Peak memory that a training step allocates against depth, without parameters and gradients.

What torch's allocator hands out is counted, not what the process holds; each figure is of a process of its own.

    python tests/benchmarks/memory.py --steps 4 16 64 --side 128 --plot memory.png
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")


def measure(name: str, steps: int, levels: int, width: int, side: int, batch: int) -> float:
    """MiB at the peak of one forward and backward pass, beyond what was there before and the gradients at its end."""
    import torch
    from glows import CONTENDERS, condflows, full_glow_pair

    torch.set_num_threads(1)
    builders = {**CONTENDERS, "Full-Glow": full_glow_pair,
                "condflows, checkpoint": lambda *a: condflows(*a, checkpoint=True),
                "Full-Glow, checkpoint": lambda *a: full_glow_pair(*a, checkpoint=True)}
    build = builders[name]
    glow = build((steps,) * levels, width, batch, side)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", nargs="+", default=[
        "condflows, checkpoint", "condflows", "normflows", "nflows", "FrEIA (Householder)",
        "Full-Glow, checkpoint", "Full-Glow"])
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.levels, options.width, options.side, options.batch)
    if options.one:
        print(measure(options.one[0], int(options.one[1]), *sizes))
        return
    print(f"{options.levels} levels, width {options.width}, {options.side}x{options.side}, batch {options.batch}: "
          f"MiB at {', '.join(map(str, options.steps))} steps a level")
    figures = {}
    for name in options.contenders:
        figures[name] = [float(subprocess.run(
            [sys.executable, __file__, "--one", name, str(steps), "--levels", str(options.levels), "--width",
             str(options.width), "--side", str(options.side), "--batch", str(options.batch)],
            check=True, capture_output=True, text=True).stdout.split()[-1]) for steps in options.steps]
        print(f"  {name:22}", *(f"{figure:8.0f}" for figure in figures[name]),
              f"  last to first {figures[name][-1] / figures[name][0]:.2f}", flush=True)
    if options.plot:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for name, values in figures.items():
            axes.plot(options.steps, values, "o-", label=name)
        axes.set(xlabel="steps a level", ylabel="MiB of a training step", xscale="log", yscale="log",
                 xticks=options.steps, xticklabels=options.steps)
        axes.legend()
        figure.savefig(options.plot, dpi=120)


if __name__ == "__main__":
    main()
