"""The time of a training step and an inverse of the same Glow in each library: best times, ratios to the first.

    python tests/benchmarks/speed.py --sizes 3x8:64:32:1 3x8:512:64:1      (levels x steps : width : side : batch)
"""

from __future__ import annotations

import itertools
import time
import warnings
from functools import partial

import torch
import tyro
from glows import BUILDERS, CONTENDERS
from timing import in_turn, ratio
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")


def matmul_rate(size: int = 2048) -> float:
    """Measure the floating-point operations a second of one large matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    start = time.perf_counter()
    a @ b
    return 2 * size**3 / (time.perf_counter() - start)


def main(sizes: tuple[str, ...] = ("3x8:64:32:1", "3x8:64:64:8", "3x8:512:64:1", "4x16:64:128:1"),
         contenders: tuple[str, ...] = tuple(CONTENDERS), bf16: bool = False, rounds: int = 7,
         threads: int = 1) -> None:
    """Time the contenders of glows.BUILDERS by name, and compare the others with the first.

    Args:
        sizes: levels x steps : width : side : batch.
        bf16: also time each under autocast to bfloat16.
    """
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} threads, {rounds} rounds in turn")
    for size in sizes:
        torch._dynamo.reset()  # what it compiled for other sizes counts toward its limit
        levels_steps, width, side, batch = size.split(":")
        levels, steps = map(int, levels_steps.split("x"))
        width, side, batch = int(width), int(side), int(batch)
        x = torch.rand(batch, 3, side, side)
        runs = {}
        for name, low in itertools.product(contenders, (False, True) if bf16 else (False,)):
            torch.manual_seed(0)
            glow = BUILDERS[name]((steps,) * levels, width, batch, side)
            precision = partial(torch.autocast, "cpu", torch.bfloat16, enabled=low)
            optimizer = torch.optim.Adam(glow.module.parameters(), lr=1e-5, fused=True)

            def forward(glow=glow, x=x, precision=precision):
                with torch.no_grad(), precision():
                    glow.loss(x)

            def train(glow=glow, optimizer=optimizer, x=x, precision=precision):
                optimizer.zero_grad()
                with precision():
                    loss = glow.loss(x)
                loss.backward()
                optimizer.step()

            def inverse(glow=glow, precision=precision):
                with torch.no_grad(), precision():
                    glow.inverse()

            runs[f"{name}, bf16" if low else name] = {"forward": forward, "train": train, "inverse": inverse}
        with FlopCounterMode(display=False) as counter:
            runs[contenders[0]]["train"]()
        flops, rates = counter.get_total_flops(), [matmul_rate() for _ in range(rounds)]
        times = {}
        for kind in ("forward", "train", "inverse"):
            of_all = in_turn({name: kinds[kind] for name, kinds in runs.items()}, rounds, least=0.02)
            times |= {(name, kind): seconds for name, seconds in of_all.items()}
        print(f"\n{levels} levels x {steps} steps, width {width}, {side}x{side}, batch {batch}: "
              f"{flops / 1e9:.1f} GFLOP a training step, {max(rates) / 1e9:.0f} GFLOP/s, "
              f"limit {1e3 * flops / max(rates):.1f} ms")
        for name in runs:
            cells = []
            for kind in ("forward", "train", "inverse"):
                mine, theirs = times[contenders[0], kind], times[name, kind]
                cells.append(f"{kind} {1e3 * min(theirs):8.1f} ms {min(theirs) / min(mine):5.2f}x "
                             f"({ratio(theirs, mine):4.2f})")
            print(f"  {name:27}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
