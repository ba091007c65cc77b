"""Log-likelihoods of affine, spline and mixture couplings on photos: the middle of a window, given what is around it.

    python tests/benchmarks/gains.py --data ROOT                 a table of the photos in ROOT/leftImg8bit/test
    python tests/benchmarks/gains.py --data ROOT --split val     the same of those on which the options were chosen

ROOT has the layout of Cityscapes. Windows of 8x8 grey pixels are drawn from the photos of train, their middle 4x4
dequantized. Each kind of coupling gets the same processor time on one thread, and the one that has had least goes next.
The linear regression of the middle on what is around it is subtracted first, which leaves the density as it is; "one
normal" is the normal distribution of the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor
from torch.distributions import MultivariateNormal

import condflows as cf
from condflows.conditioners import MLPConditioner

SIDE, FEATURES, RING = 8, 16, 48
BATCH = 256
TURN = 20  # steps


class Kind(NamedTuple):
    """A kind of coupling, the values that its net returns for each number, and the options that suit it."""

    coupling: Callable[..., cf.Bijector]
    outputs: int
    layers: int
    width: int
    learning_rate: float


KINDS = {
    "affine": Kind(cf.AffineCoupling, 2, 6, 128, 5e-3),
    "spline": Kind(partial(cf.SplineCoupling, bins=4, bound=8.0), 3 * 4 - 1, 4, 128, 5e-3),
    "mixture": Kind(partial(cf.MixtureCoupling, components=4), 3 * 4 + 2, 4, 128, 5e-3),
}


class Windows(NamedTuple):
    """Grey photos ``(count, height, width)``, and the linear regression of a window's middle on the pixels around."""

    photos: Tensor
    weights: Tensor

    @classmethod
    def of(cls, photos: Tensor) -> Windows:
        middle, ring = middle_and_ring(grid(photos).flatten(0, 1))
        return cls(photos, torch.linalg.lstsq(with_one(ring).double(), middle.double()).solution.float())

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw windows anywhere in the photos, as inputs and contexts of a flow."""
        photos, height, width = self.photos.shape
        photo, row, column = (
            torch.randint(n, (count, 1, 1)) for n in (photos, height - SIDE + 1, width - SIDE + 1))
        side = torch.arange(SIDE)
        return self.parts(self.photos[photo, row + side[:, None], column + side])

    def parts(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the regression leaves of the middles, which has their density, and the pixels around them."""
        middle, ring = middle_and_ring(windows)
        mean = ring.mean(1, keepdim=True)
        context = torch.cat([(ring - mean) / 8, mean / 128 - 1], dim=1)
        return middle - with_one(ring) @ self.weights, context


def middle_and_ring(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle 4x4 of windows, dequantized, and the pixels around it, in grey levels."""
    is_middle = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    is_middle[2:-2, 2:-2] = True
    middle = windows[:, is_middle].float()
    return middle + torch.rand(middle.shape), windows[:, ~is_middle].float()


def with_one(ring: Tensor) -> Tensor:
    return torch.cat([ring, torch.ones(len(ring), 1)], dim=1)


def grid(photos: Tensor) -> Tensor:
    """Return the windows ``(count, n, 8, 8)`` that cover each photo once."""
    return photos.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE).flatten(1, 2)


def read(root: Path, split: str) -> Tensor:
    paths = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    if not paths:
        raise SystemExit(f"gains.py: error: expected photos in {root}/leftImg8bit/{split}/*/, got none")
    return torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("L")) for path in paths]))


def build(kind: Kind) -> cf.Flow:
    """Build a flow of which the couplings and the first actnorm read the context."""
    def step(actnorm: MLPConditioner | None = None) -> cf.Chain:
        net = MLPConditioner(FEATURES // 2, kind.outputs * FEATURES // 2, RING + 1, (kind.width, kind.width))
        return cf.glow_step(FEATURES, net, actnorm, kind=kind.coupling)

    first = step(MLPConditioner(RING + 1, 2 * FEATURES, hidden=(64,)))
    return cf.Flow(cf.Chain([first, *(step() for _ in range(kind.layers - 1))]), (FEATURES,))


class Training:
    """A flow in training, the processor time that it has had, and its steps."""

    def __init__(self, kind: Kind, windows: Windows):
        self.kind = kind
        self.flow = cf.initialize(build(kind), *windows.draw(4 * BATCH))
        self.optimizer = torch.optim.Adam(self.flow.parameters(), fused=True)
        self.spent, self.steps = 0.0, 0

    def take_turn(self, windows: Windows, seconds: float) -> None:
        batches = [windows.draw(BATCH) for _ in range(TURN)]
        began, share = time.process_time(), self.spent / seconds
        self.optimizer.param_groups[0]["lr"] = (
            self.kind.learning_rate * min(1.0, 20 * share + 0.05) * (1 + math.cos(math.pi * share)) / 2)
        for batch in batches:
            self.optimizer.zero_grad()
            (-self.flow.log_prob(*batch).mean()).backward()
            self.optimizer.step()
        self.spent += time.process_time() - began
        self.steps += TURN


def train(windows: Windows, seconds: float) -> dict[str, Training]:
    trainings = {name: Training(kind, windows) for name, kind in KINDS.items()}
    while (next_one := min(trainings.values(), key=lambda training: training.spent)).spent < seconds:
        next_one.take_turn(windows, seconds)
    return trainings


@torch.no_grad()
def by_photo(log_prob: Callable[[Tensor, Tensor], Tensor], windows: Windows, photos: Tensor) -> Tensor:
    """Return the mean log-likelihood of the windows of each photo, with the same noise at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([log_prob(*windows.parts(of_one)).mean() for of_one in grid(photos)])


def main(data: Path, seconds: float = 100.0, seeds: int = 3, split: Literal["test", "val"] = "test") -> None:
    """Train and print a table.

    Args:
        data: the folder that holds leftImg8bit.
        seconds: processor time of training for each kind and seed.
        seeds: how often everything is trained.
        split: the photos whose log-likelihoods are printed.
    """
    if seconds <= 0 or seeds <= 0:
        raise SystemExit("gains.py: error: --seconds and --seeds must be positive")
    torch.set_num_threads(1)
    photos, others = read(data, "train"), read(data, split)
    values: dict[str, list[Tensor]] = {name: [] for name in ("one normal", *KINDS)}
    cells = {"one normal": f"0 | {FEATURES * (FEATURES + 3) // 2} | 0"}
    for seed in range(seeds):
        torch.manual_seed(seed)
        windows = Windows.of(photos)
        left, _ = windows.draw(20_000)
        normal = MultivariateNormal(left.mean(0), left.T.cov())
        values["one normal"].append(by_photo(lambda x, _, normal=normal: normal.log_prob(x), windows, others))
        for name, training in train(windows, seconds).items():
            values[name].append(by_photo(training.flow.eval().log_prob, windows, others))
            parameters = sum(p.numel() for p in training.flow.parameters())
            cells[name] = f"{training.kind.layers} of width {training.kind.width} | {parameters:,} | {training.steps:,}"
    print(f"{len(others)} photos of {split}, {seconds:g} s for each of {seeds} seeds, errors are standard errors over "
          "photos\n\n| couplings | layers | parameters | last seed's steps | nats | seed by seed | "
          "more than affine |")
    print("|---" * 7 + "|")
    for name, of_seeds in values.items():
        nats, affine = torch.stack(of_seeds), torch.stack(values["affine"])  # (seeds, photos)
        gain = (nats - affine).mean(0)
        print(f"| {name} | {cells[name]} | {nats.mean():.2f} | {', '.join(f'{one:.2f}' for one in nats.mean(1))} "
              f"| {gain.mean():+.2f} ± {gain.std() / len(others) ** 0.5:.2f} |")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
