"""The share of the machine's matrix-multiplication rate that a training step of Full-Glow reaches.

The limit is the floating-point operations of the step's convolutions and matrix products, divided by the rate of one
large matrix product, which is measured before and after each step.

    python tests/benchmarks/limit.py --profile
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import torch
import tyro
from glows import full_glow, full_glow_step
from speed import matmul_rate
from torch import nn
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from condflows import Chain, Inverse, Split


def main(steps: tuple[int, ...] = (16, 16, 16, 16), width: int = 512, side: int = 128, batch: int = 1, rounds: int = 7,
         threads: int = 1, bf16: bool = False, profile: bool = False) -> None:
    """Time training steps of Full-Glow, with ``bf16`` under autocast, against the rate of products in float32."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pair = full_glow(3, steps, width)
    x_a, x_b = torch.rand(2, batch, 3, side, side)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-5, fused=True)

    step = partial(full_glow_step, pair, optimizer, x_a, x_b, bf16)

    with FlopCounterMode(display=False) as counter:
        step()
    flops, shares = counter.get_total_flops(), []
    for _ in range(rounds):
        rates = [matmul_rate() for _ in range(3)]
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        rate = statistics.median(rates + [matmul_rate() for _ in range(3)])
        shares.append(flops / rate / seconds)
        print(f"{seconds:.2f} s, {rate / 1e9:.0f} GFLOP/s: {shares[-1]:.0%}", flush=True)
    parameters = sum(p.numel() for p in pair.parameters())
    print(f"{parameters / 1e6:.0f} million parameters, {flops / 1e9:.0f} GFLOP a step, {threads} threads: "
          f"{statistics.median(shares):.0%} of the matrix-multiplication rate of float32 (best {max(shares):.0%})")
    if profile:
        ranges: list[record_function] = []

        def enter(module: nn.Module, _: object) -> None:
            ranges.append(record_function(f"condflows {type(module).__name__}").__enter__())

        for module in pair.modules():
            if type(module).__module__.startswith("condflows.") and not isinstance(module, (Chain, Split, Inverse)):
                module.register_forward_pre_hook(enter)
                module.register_forward_hook(lambda *_: ranges.pop().__exit__(None, None, None))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            step()
        events = record.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        print("\nForward pass by operation (what is within another counts in both), share of the step:")
        for event in sorted(events, key=lambda event: -event.cpu_time_total):
            if event.key.startswith("condflows "):
                print(f"  {event.key.split()[1]:24} {event.cpu_time_total / total:6.1%}  {event.count:5} calls")
        print("\nThe whole step by torch's operations, time of their own:")
        for event in sorted(events, key=lambda event: -event.self_cpu_time_total)[:14]:
            print(f"  {event.key:40} {event.self_cpu_time_total / total:6.1%}  {event.count:5} calls")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
