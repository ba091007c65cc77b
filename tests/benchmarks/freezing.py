"""The time of samples of a frozen flow, as a share of that of the flow: vectors, one and 256 at a time, and an image.

    python tests/benchmarks/freezing.py
"""

from __future__ import annotations

from functools import partial

import torch
import tyro
import vectors
from glows import condflows as glow
from timing import in_turn, ratio

from condflows import freeze


@torch.no_grad()
def main(rounds: int = 9, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    flows = {f"{features} features, {rows} at a time": (
        vectors.condflows(features, 5, 128).module, {"context": torch.zeros(rows, 5)})
        for features in (10, 64) for rows in (1, 256)}
    flows["3 x 8, width 64, 32x32, 1 at a time"] = glow((8,) * 3, 64, 1, 32).module, {"size": (32, 32)}
    for name, (flow, options) in flows.items():
        runs = {"flow": partial(flow.sample, 1, **options), "frozen": partial(freeze(flow).sample, 1, **options)}
        times = in_turn(runs, rounds, least=0.05)
        print(f"{name}: {ratio(times['frozen'], times['flow']):.2f}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
