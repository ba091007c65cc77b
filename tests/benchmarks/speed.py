"""Training step and inverse of the same Glow, contender by contender in turn: best times, and ratios to condflows.

    python tests/benchmarks/speed.py --sizes 3x8:64:32:1 3x8:512:64:1      (levels x steps : width : side : batch)
"""

from __future__ import annotations

import statistics
import time
import warnings
from functools import partial

import torch
import tyro
from glows import CONTENDERS, condflows, condflows_compiled, condflows_compiled_whole
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")


def matmul_rate(size: int = 2048) -> float:
    """Floating-point operations a second of one large matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    start = time.perf_counter()
    a @ b
    return 2 * size**3 / (time.perf_counter() - start)


def main(sizes: tuple[str, ...] = ("3x8:64:32:1", "3x8:64:64:8", "3x8:512:64:1", "4x16:64:128:1"),
         contenders: tuple[str, ...] = tuple(CONTENDERS), compile: bool = False, checkpoint: bool = False,
         rounds: int = 7, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    builders = {name: CONTENDERS[name] for name in contenders}
    if compile:
        builders |= {"condflows, compiled": condflows_compiled, "condflows, one graph": condflows_compiled_whole}
    if checkpoint:
        builders["condflows, checkpoint"] = partial(condflows, checkpoint=True)
        builders["condflows, grouped"] = partial(condflows, checkpoint=True, grouped=True)
    print(f"torch {torch.__version__}, {threads} threads, {rounds} rounds in turn")
    for size in sizes:
        torch._dynamo.reset()  # what it compiled for other sizes counts toward its limit
        levels_steps, width, side, batch = size.split(":")
        levels, steps = map(int, levels_steps.split("x"))
        width, side, batch = int(width), int(side), int(batch)
        x = torch.rand(batch, 3, side, side)
        runs = {}
        for name, build in builders.items():
            torch.manual_seed(0)
            glow = build((steps,) * levels, width, batch, side)
            optimizer = torch.optim.Adam(glow.module.parameters(), lr=1e-5, fused=True)

            def forward(glow=glow, x=x):
                with torch.no_grad():
                    glow.loss(x)

            def train(glow=glow, optimizer=optimizer, x=x):
                optimizer.zero_grad()
                glow.loss(x).backward()
                optimizer.step()

            def inverse(glow=glow):
                with torch.no_grad():
                    glow.inverse()

            runs[name] = {"forward": forward, "train": train, "inverse": inverse}
        with FlopCounterMode(display=False) as counter:
            runs["condflows"]["train"]()
        flops, rates = counter.get_total_flops(), []
        times = {(name, kind): [] for name in runs for kind in runs[name]}
        for round_ in range(rounds + 1):  # the first warms up
            for name, kinds in runs.items():
                for kind, run in kinds.items():
                    start = time.perf_counter()
                    run()
                    if round_:
                        times[name, kind].append(time.perf_counter() - start)
            rates.append(matmul_rate())
        print(f"\n{levels} levels x {steps} steps, width {width}, {side}x{side}, batch {batch}: "
              f"{flops / 1e9:.1f} GFLOP a training step, {max(rates) / 1e9:.0f} GFLOP/s, "
              f"limit {1e3 * flops / max(rates):.1f} ms")
        for name in runs:
            cells = []
            for kind in ("forward", "train", "inverse"):
                mine, theirs = times["condflows", kind], times[name, kind]
                paired = statistics.median(t / m for t, m in zip(theirs, mine, strict=True))
                cells.append(f"{kind} {1e3 * min(theirs):8.1f} ms {min(theirs) / min(mine):5.2f}x ({paired:4.2f})")
            print(f"  {name:22}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
