"""The precision that autocast to bfloat16 costs: round trips and log-determinants of one Glow, trained a little.

    python tests/benchmarks/rounding.py
"""

from __future__ import annotations

import warnings

import torch
import tyro
from glows import CONTENDERS

warnings.filterwarnings("ignore")
MAPS = {  # a module's map from data to noise, and back
    "condflows": lambda flow: (flow.transform, flow.transform.inverse),
    "normflows": lambda flow: (flow.inverse_and_log_det, flow.forward_and_log_det),
    "nflows": lambda flow: (flow, flow.inverse),
}


def main(steps: tuple[int, ...] = (8, 8, 8), width: int = 128, side: int = 32, batch: int = 4,
         updates: int = 30) -> None:
    torch.set_num_threads(1)
    for name, maps in MAPS.items():
        torch.manual_seed(0)
        glow = CONTENDERS[name](steps, width, batch, side)
        x = torch.rand(batch, 3, side, side)
        optimizer = torch.optim.Adam(glow.module.parameters(), lr=1e-3)
        for _ in range(updates):
            optimizer.zero_grad()
            glow.loss(x).backward()
            optimizer.step()
        to_noise, to_data = maps(glow.module.eval())
        for low in (False, True):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low):
                noise, logabsdet = to_noise(x)
                data, opposite = to_data(noise)
            print(f"{name:10} {'bfloat16' if low else 'float32':9} round trip {float((data - x).abs().max()):.1e}, "
                  f"log-determinants of both directions add up to {float((logabsdet + opposite).abs().max()):.1e} nats")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
