"""Bits per dimension of street photos with an encoder of the condition, and deeper nets, at equal processor time.

    OMP_NUM_THREADS=1 python tests/benchmarks/conditions.py --data ../shared/data/camvid64 --seconds 600

A Glow of photos given label maps is trained four times: each coupling reads the map's colours, resized; a pyramid that
an encoder makes of the colours, or of the one-hot labels, which actnorms read too; and with the latter, gated residual
nets. All nets run in bfloat16. Bits per dimension of one draw are of the moving average of the weights.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, default_collate

import condflows as cf
from condflows.conditioners import (
    ConvConditioner,
    CouplingConditioner,
    GatedConditioner,
    MapConditioner,
    PyramidEncoder,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "cityscapes"))
from streets.data.datasets import open_dataset, spread

CLASSES = 34  # official ids are 0 to 33, and 255 is nothing known
FEATURES = 32, 48, 64
LEVEL = {12: 0, 24: 1, 48: 2}
Built = tuple[cf.Flow, str]


def colours(steps: tuple[int, ...], width: int, gated_width: int) -> Built:
    """Build the Glow each of whose couplings reads the colours."""
    return flow(steps, lambda c: cf.glow_step(c, CouplingConditioner(c, width, 3, context_width=64))), "condition"


def colours_encoded(steps: tuple[int, ...], width: int, gated_width: int) -> Built:
    """Build the Glow that reads a pyramid of the colours."""
    return flow(steps, encoded(width), PyramidEncoder(3, FEATURES)), "condition"


def labels_encoded(steps: tuple[int, ...], width: int, gated_width: int) -> Built:
    """Build the Glow that reads a pyramid of the labels."""
    return flow(steps, encoded(width), PyramidEncoder(1, FEATURES, classes=CLASSES)), "label"


def labels_gated(steps: tuple[int, ...], width: int, gated_width: int) -> Built:
    """Build the Glow that reads a pyramid of the labels, with gated residual nets."""
    def step(c: int) -> cf.Chain:
        f = FEATURES[LEVEL[c]]
        return cf.glow_step(c, GatedConditioner(c, gated_width, f), MapConditioner(f, 2 * c, 64, kernel=1))

    return flow(steps, step, PyramidEncoder(1, FEATURES, classes=CLASSES)), "label"


KINDS = {"label colours": colours, "pyramid of colours": colours_encoded, "pyramid of labels": labels_encoded,
         "the same, gated nets": labels_gated}


def encoded(width: int) -> Callable[[int], cf.Chain]:
    """Return the builder of a step whose coupling and actnorm read the map of their level."""
    def step(c: int) -> cf.Chain:
        f = FEATURES[LEVEL[c]]
        return cf.glow_step(c, CouplingConditioner(c, width, f, context_width=0),
                            MapConditioner(f, 2 * c, 64, kernel=1))

    return step


def flow(steps: tuple[int, ...], step: Callable[[int], Any], encoder: nn.Module | None = None) -> cf.Flow:
    def prior(c: int) -> cf.AffineCoupling:
        return cf.AffineCoupling(c, ConvConditioner(c))

    return cf.Flow(cf.multiscale(3, steps, step, prior, cf.ActNorm), embedding_net=encoder)


class Training:
    """A flow in training, and the processor time that it has had."""

    def __init__(self, name: str, photos: Any, steps: tuple[int, ...], width: int, gated_width: int):
        torch.manual_seed(0)
        flow, self.reads = KINDS[name](steps, width, gated_width)
        self.flow = cf.bfloat16_nets(flow).to(memory_format=torch.channels_last)
        cf.initialize(self.flow, *self.pair(default_collate([photos[i] for i in spread(len(photos), 32)])))
        self.average = AveragedModel(self.flow, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=False)
        self.optimizer = torch.optim.Adam(self.flow.parameters(), fused=True)
        self.spent, self.steps = 0.0, 0

    def pair(self, batch: dict[str, Any], mirrored: bool = False) -> tuple[Tensor, Tensor]:
        """Return the photos, dequantized, and their conditions."""
        x, context = cf.dequantize(batch["photo"]), batch[self.reads]
        if self.reads == "condition":
            context = context / 255
        return (x.flip(-1), context.flip(-1)) if mirrored else (x, context)

    def step(self, batch: dict[str, Any], share: float) -> None:
        began = time.process_time()
        self.optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (self.steps + 1) / 100) * (1 - share)
        x, context = self.pair(batch, mirrored=self.steps % 2 == 1)
        self.optimizer.zero_grad()
        (-self.flow.log_prob(x, context).mean() / x[0].numel()).backward()
        nn.utils.clip_grad_norm_(self.flow.parameters(), 50.0)
        self.optimizer.step()
        self.average.update_parameters(self.flow)
        self.spent, self.steps = self.spent + time.process_time() - began, self.steps + 1


@torch.no_grad()
def bits(training: Training, photos: Any) -> Tensor:
    """Return the bits per dimension of each photo, with the same noise at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pairs = (training.pair(batch) for batch in DataLoader(photos, 8))
        model: Any = training.average.module
        return torch.cat([cf.bits_per_dim(model.log_prob(x, context), x.shape[1:]) for x, context in pairs])


def main(data: Path | None = None, seconds: float = 600.0, steps: tuple[int, int, int] = (8, 8, 8), width: int = 128,
         gated_width: int = 64, kinds: tuple[str, ...] = tuple(KINDS)) -> None:
    """Train and print a table.

    Args:
        data: a data set in the Cityscapes layout; without it a few drawn scenes, to see that all runs.
        seconds: processor time of training for each kind.
        steps: steps of each level.
        width: hidden channels of the couplings' nets.
        gated_width: hidden channels of gated nets.
        kinds: what to train.
    """
    torch.set_num_threads(1)
    photos, val, test = (open_dataset(data, split, (64, 128), 8) for split in ("train", "val", "test"))
    print("| couplings read | parameters | steps | bits, val | bits, test |\n|" + "---|" * 5)
    for name in kinds:
        training = Training(name, photos, steps, width, gated_width)
        while training.spent < seconds:
            for batch in DataLoader(photos, 4, shuffle=True, drop_last=True):
                training.step(batch, training.spent / seconds)
                if training.spent >= seconds:
                    break
        cells = []
        for split in (val, test):
            each = bits(training, split)
            cells.append(f"{each.mean():.3f} ± {each.std() / math.sqrt(len(each)):.3f}")
        count = sum(parameter.numel() for parameter in training.flow.parameters())
        print(f"| {name} | {count:,} | {training.steps:,} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
