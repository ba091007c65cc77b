"""Process memory of whole training steps of Full-Glow with Adam at high resolution, activations recomputed.

    MALLOC_MMAP_THRESHOLD_=1000000 python tests/benchmarks/large.py --size 512 1024
"""

from __future__ import annotations

import resource
import time

import torch
import tyro
from glows import full_glow, full_glow_step


def main(size: tuple[int, int] = (512, 1024), steps: tuple[int, ...] = (8, 8, 8, 8), width: int = 512, updates: int = 2,
         threads: int = 1, bf16: bool = False) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)

    def peak() -> str:
        return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB"

    pair = full_glow(3, steps, width, checkpoint=True)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-5, fused=True)
    x_a, x_b = torch.rand(2, 1, 3, *size)
    print(f"{size[0]}x{size[1]}, {sum(p.numel() for p in pair.parameters()) / 1e6:.1f} million parameters: {peak()}")
    for update in range(updates):
        start = time.process_time()
        full_glow_step(pair, optimizer, x_a, x_b, bf16)
        print(f"  step {update + 1}: {time.process_time() - start:.0f} s of processor time, {peak()}", flush=True)
    with torch.no_grad():
        start = time.process_time()
        pair.sample(1, x_a)
    print(f"  a sample: {time.process_time() - start:.0f} s, {peak()}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
