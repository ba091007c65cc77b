"""Bits per dimension of small photos with plain and with gated residual nets in the couplings of a Glow.

    OMP_NUM_THREADS=1 python tests/benchmarks/gated.py --data ../shared/data/camvid64

An unconditional Glow of 3 levels of 4 steps is trained on photos that are averaged to 32x64, with the same batches for
every kind. Widths are chosen so that the first two take as long a step; the third takes less.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

import condflows as cf
from condflows.conditioners import ConvConditioner, CouplingConditioner, GatedConditioner

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "cityscapes"))
from streets.data.datasets import open_dataset

Net = Callable[[int], nn.Module]
KINDS: dict[str, Net] = {
    "CouplingConditioner, width 152": partial(CouplingConditioner, width=152),
    "GatedConditioner, width 48, 2 blocks": partial(GatedConditioner, width=48),
    "CouplingConditioner, width 96": partial(CouplingConditioner, width=96),
    "GatedConditioner, 4 heads at the coarsest level": lambda c: GatedConditioner(c, 48, heads=4 if c == 48 else 0),
}


def trained(net: Net, photos: Tensor, steps: int, seed: int) -> tuple[cf.Flow, float]:
    """Train a Glow and return it, with the processor time of a step in seconds."""
    def prior(c: int) -> cf.AffineCoupling:
        return cf.AffineCoupling(c, ConvConditioner(c))

    torch.manual_seed(seed)
    flow = cf.Flow(cf.multiscale(3, (4, 4, 4), lambda c: cf.glow_step(c, net(c)), prior))
    draws = torch.Generator().manual_seed(seed + 1)
    cf.initialize(flow, cf.dequantize(photos[:32], generator=draws))
    optimizer = torch.optim.Adam(flow.parameters(), fused=True)
    began = time.process_time()
    for step in range(steps):
        batch = photos[torch.randint(len(photos), (8,), generator=draws)]
        batch = torch.where(torch.rand(8, 1, 1, 1, generator=draws) < 0.5, batch.flip(3), batch)
        optimizer.param_groups[0]["lr"] = 1e-3 * min((step + 1) / 100, (steps - step) / steps)
        optimizer.zero_grad()
        (-flow.log_prob(cf.dequantize(batch, generator=draws)).mean() / batch[0].numel()).backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
        optimizer.step()
    return flow, (time.process_time() - began) / steps


@torch.no_grad()
def bits(flow: cf.Flow, photos: Tensor) -> float:
    """Return the mean bits per dimension, over four draws of the noise, the same at every call."""
    draws = torch.Generator().manual_seed(0)
    parts = [cf.dequantize(part, generator=draws) for _ in range(4) for part in photos.split(32)]
    return float(torch.cat([cf.bits_per_dim(flow.log_prob(x), x.shape[1:]) for x in parts]).mean())


def main(data: Path | None = None, steps: int = 1500, seeds: int = 2) -> None:
    """Train and print a table.

    Args:
        data: a data set in the Cityscapes layout of photos of 64x128; without it a few drawn scenes.
        steps: steps of training, with batches of 8.
        seeds: how often each kind is trained.
    """
    torch.set_num_threads(1)
    splits = {}
    for split in ("train", "val", "test"):
        dataset = open_dataset(data, split, (64, 128), 8)
        photos = torch.stack([dataset[i]["photo"] for i in range(len(dataset))])
        splits[split] = F.avg_pool2d(photos.float(), 2).round().to(torch.uint8)
    print("| nets of the couplings | seed | parameters | ms a step | test | val | train |\n|" + "---|" * 7)
    for seed in range(seeds):
        for name, net in KINDS.items():
            flow, seconds = trained(net, splits["train"], steps, seed)
            cells = [f"{bits(flow, splits[split]):.4f}" for split in ("test", "val", "train")]
            count = sum(parameter.numel() for parameter in flow.parameters())
            print(f"| {name} | {seed} | {count:,} | {1e3 * seconds:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
