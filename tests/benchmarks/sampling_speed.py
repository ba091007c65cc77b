"""The time of samples of Full-Glow and of log-densities of equal size, and of several samples of a condition.

    python tests/benchmarks/sampling_speed.py --width 64 --side 64 128
"""

from __future__ import annotations

import torch
import tyro
from glows import full_glow
from timing import in_turn, ratio

from condflows.testing import perturb


@torch.no_grad()
def main(steps: tuple[int, ...] = (8, 8, 8), width: int = 64, side: tuple[int, int] = (64, 128), samples: int = 8,
         rounds: int = 7, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pair = perturb(full_glow(3, steps, width), 0.02)
    x_a, x_b = torch.rand(2, samples, 3, *side)
    one = x_a[:1]
    runs = {
        "log_prob of 1 pair": lambda: pair.log_prob(x_b[:1], one),
        "1 sample of 1 condition": lambda: pair.sample(1, one),
        f"log_prob of {samples} pairs": lambda: pair.log_prob(x_b, x_a),
        f"1 sample of each of {samples} conditions": lambda: pair.sample(1, x_a),
        f"{samples} samples of 1 condition": lambda: pair.sample(samples, one),
        f"{samples} samples of 1 condition, 1 at a time": lambda: pair.sample(samples, one, batch_size=1),
        f"{samples} calls for 1 sample of 1 condition": lambda: [pair.sample(1, one) for _ in range(samples)],
    }
    times = in_turn(runs, rounds)
    print(f"{len(steps)} levels x {steps[0]} steps, width {width}, {side[0]}x{side[1]}, {threads} threads")
    alone, several = "log_prob of 1 pair", f"log_prob of {samples} pairs"
    for i, name in enumerate(runs):
        base = alone if i < 2 else several
        paired = ratio(times[name], times[base])
        best = min(times[name]) / min(times[base])
        print(f"  {name:44} {1e3 * min(times[name]):8.1f} ms  {best:.2f}x ({paired:.2f}) of {base}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
