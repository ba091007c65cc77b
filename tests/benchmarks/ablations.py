"""Bits per dimension of street photos under variants of Encoded Glow and its training, at equal processor time.

    OMP_NUM_THREADS=1 python tests/benchmarks/ablations.py --data ../shared/data/camvid64 --seconds 360

Every row differs from the first in what it says. All nets run in bfloat16, half of the pairs are mirrored, the learning
rate falls linearly to 0. Bits per dimension of one draw are of the moving average of the weights, with the standard
error over the pairs; the difference to the first row has the standard error of the differences. A variant is built into
the model if it needs 0.02 bits less on val, which is what two seeds of one variant differ by.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, one_hot
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, default_collate

import condflows as cf
from condflows.conditioners import CouplingConditioner, GatedConditioner, MapConditioner, PyramidEncoder

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "cityscapes"))
from streets.data.datasets import open_dataset, spread

CLASSES = 34  # official ids are 0 to 33, and 255 is nothing known
KINDS = {"affine": cf.AffineCoupling, "spline": partial(cf.SplineCoupling, bins=8, bound=8.0),
         "mixture": partial(cf.MixtureCoupling, components=4)}
NUMBERS = {"affine": 2, "spline": 23, "mixture": 14}  # for each value that a coupling changes


@dataclass(frozen=True)
class Variant:
    """A model and its training."""

    batch: int = 2
    rate: float = 2e-3
    width: int = 256
    prior_width: int = 64
    features: tuple[int, ...] = (32, 48, 64)
    given: str = "label"
    encoded: bool = True
    gated: bool = False
    heads: int = 0
    actnorms_read: bool = False
    kind: str = "affine"
    steps: tuple[int, int, int] | None = None
    smooth: bool = False


VARIANTS = {
    "Encoded Glow": Variant(),
    "batch 1, rate 1e-3": Variant(batch=1, rate=1e-3),
    "batch 1": Variant(batch=1),
    "batch 4": Variant(batch=4),
    "batch 4, rate 1e-3": Variant(batch=4, rate=1e-3),
    "rate 1e-3": Variant(rate=1e-3),
    "rate 4e-3": Variant(rate=4e-3),
    "width 128, rate 3e-3": Variant(width=128, rate=3e-3),
    "width 384": Variant(width=384),
    "actnorms read the maps too": Variant(actnorms_read=True),
    "priors of width 128": Variant(prior_width=128),
    "features of half the width": Variant(features=(16, 24, 32)),
    "6 steps a level, width 336": Variant(steps=(6, 6, 6), width=336),
    "12 steps a level, width 176": Variant(steps=(12, 12, 12), width=176),
    "gated nets of width 64": Variant(gated=True, width=64),
    "the same, attention at the coarsest level": Variant(gated=True, width=64, heads=4),
    "splines of 8 bins": Variant(kind="spline"),
    "mixtures of 4 logistics": Variant(kind="mixture"),
    "labels smoothed at edges": Variant(smooth=True),
    "colours instead of classes": Variant(given="condition"),
    "colours, resized, no encoder": Variant(given="condition", encoded=False),
}


def build(of: Variant, steps: tuple[int, int, int]) -> cf.Flow:
    """Build the flow of a variant; without an encoder each coupling has its own net of the colours."""
    features: dict[int, int] = dict(zip((12, 24, 48), of.features if of.encoded else (3, 3, 3), strict=True))

    def step(c: int) -> cf.Chain:
        outputs = c // 2 * NUMBERS[of.kind]
        if of.gated:
            net: nn.Module = GatedConditioner(c, of.width, features[c], heads=of.heads if c == 48 else 0)
        else:
            net = CouplingConditioner(c, of.width, features[c], context_width=0 if of.encoded else 64,
                                      num_outputs=outputs)
        actnorm = MapConditioner(features[c], 2 * c, 64, kernel=1) if of.actnorms_read else None
        return cf.glow_step(c, net, actnorm, kind=KINDS[of.kind])

    def prior(c: int) -> cf.AffineCoupling:
        return cf.AffineCoupling(c, CouplingConditioner(c, of.prior_width, features[c],
                                                        context_width=0 if of.encoded else 64))

    def top(c: int) -> cf.ActNorm:
        return cf.ActNorm(c, MapConditioner(features[c], 2 * c, 64) if of.encoded else None)

    classes = CLASSES if of.given == "label" and not of.smooth else None
    channels = CLASSES if of.smooth else 1 if classes else 3
    encoder = PyramidEncoder(channels, of.features, classes) if of.encoded else None
    return cf.Flow(cf.multiscale(3, of.steps or steps, step, prior, top), embedding_net=encoder)


class Training:
    """A flow in training, and the processor time that it has had."""

    def __init__(self, of: Variant, photos: Any, steps: tuple[int, int, int], seed: int):
        torch.manual_seed(seed)
        self.of, self.spent, self.steps = of, 0.0, 0
        self.flow = cf.bfloat16_nets(build(of, steps)).to(memory_format=torch.channels_last)
        cf.initialize(self.flow, *self.pair(default_collate([photos[i] for i in spread(len(photos), 64)])))
        self.average = AveragedModel(self.flow, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=False)
        self.optimizer = torch.optim.Adam(self.flow.parameters(), fused=True)

    def pair(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the photos, dequantized, and their conditions."""
        given = batch[self.of.given]
        if self.of.given == "condition":
            given = given / 255
        if self.of.smooth:
            given = avg_pool2d(one_hot(given.long(), CLASSES).movedim(-1, 1).float(), 3, stride=1, padding=1)
        return cf.dequantize(batch["photo"]), given

    def run(self, photos: Any, seconds: float) -> None:
        """Make steps for some seconds of processor time."""
        while self.spent < seconds:
            for batch in DataLoader(photos, self.of.batch, shuffle=True, drop_last=True):
                self.step(batch, self.spent / seconds)
                if self.spent >= seconds:
                    return

    def step(self, batch: dict[str, Any], share: float) -> None:
        x, context = self.pair(batch)
        mirrored = torch.rand(len(x)) < 0.5
        x[mirrored], context[mirrored] = x[mirrored].flip(-1), context[mirrored].flip(-1)
        began = time.process_time()
        self.optimizer.param_groups[0]["lr"] = self.of.rate * min(1.0, (self.steps + 1) / 100) * (1 - share)
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


def cell(values: Tensor) -> str:
    """Write a mean with its standard error."""
    return f"{values.mean():.3f} ± {values.std() / math.sqrt(len(values)):.3f}"


def main(data: Path | None = None, seconds: float = 360.0, steps: tuple[int, int, int] = (8, 8, 8),
         widest: int | None = None, variants: tuple[str, ...] = tuple(VARIANTS), seed: int = 0) -> None:
    """Train and print a table.

    Args:
        data: a data set in the Cityscapes layout; without it a few drawn scenes, to see that all runs.
        seconds: processor time of training for each variant.
        steps: steps of each level.
        widest: a limit of the nets' widths, for a quick look.
        variants: what to train; the differences are to the first of them.
        seed: the seed of weights, order and noise.
    """
    torch.set_num_threads(1)
    photos, val, test = (open_dataset(data, split, (64, 128), 8) for split in ("train", "val", "test"))
    print("| variant | parameters | steps | bits, val | difference | bits, test | difference |\n|" + "---|" * 7)
    first: list[Tensor] = []
    for name in variants:
        of = VARIANTS[name]
        if widest:
            of = replace(of, width=min(of.width, widest), prior_width=min(of.prior_width, widest))
        training = Training(of, photos, steps, seed)
        training.run(photos, seconds)
        each = [bits(training, split) for split in (val, test)]
        first = first or each
        cells = [text for own, other in zip(each, first, strict=True)
                 for text in (cell(own), "" if own is other else cell(own - other))]
        count = sum(parameter.numel() for parameter in training.flow.parameters())
        print(f"| {name} | {count:,} | {training.steps:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
