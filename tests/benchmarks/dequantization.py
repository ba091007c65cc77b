"""The gain of learned noise in dequantization: a trained run goes on with uniform and with learned noise.

    OMP_NUM_THREADS=1 python tests/benchmarks/dequantization.py runs/glow --data ../shared/data/camvid64

Both begin with the weights of the run, see the same batches and noise, and make as many steps; the learning rate falls
to 0. Of each the bits per dimension are printed, of one draw of the noise and importance-weighted over several, and the
difference to uniform noise with its standard error over the photos. Without ``--data`` a few drawn scenes are used, to
see that all runs.
"""

from __future__ import annotations

import copy
import math
import sys
import time
import warnings
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader

from condflows import VariationalDequantization

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "cityscapes"))
from streets.config.training import Config
from streets.data.datasets import open_dataset
from streets.data.loading import Order
from streets.judging.bits import bits_of_each
from streets.runs.run import Run
from streets.training.likelihood import Likelihood

warnings.filterwarnings("ignore", "a context was passed")


def trained(run: Run, kind: str, data: Path | None, epochs: int, learning_rate: float, seed: int) -> tuple[Any, float]:
    """Train a copy of the run's model for some epochs more; returns it and the seconds of processor time."""
    torch.manual_seed(seed)
    model = copy.deepcopy(run.model).train()
    if kind == "variational":
        model.dequantization = VariationalDequantization(3)
    config: Any = Namespace(**asdict(Config()) | run.config | {"learning_rate": learning_rate})
    objective, pairs = Likelihood(model, config), run.pairs(seed)
    dataset = open_dataset(data, "train", run.image_size, 8)
    order = Order(len(dataset), config.batch_size, seed, 1)
    started, total = time.process_time(), order.steps(epochs)
    for step, batch in enumerate(DataLoader(dataset, batch_sampler=order.batches(0, total))):
        objective.optimizers[0].param_groups[0]["lr"] = learning_rate * (1 - step / total)
        objective.update([pairs(batch, config.flip, draw=step)])
    return model.eval(), time.process_time() - started


def main(run: Annotated[Path, tyro.conf.Positional], data: Path | None = None, epochs: int = 6,
         learning_rate: float = 3e-4, draws: int = 8, seeds: int = 3) -> None:
    torch.set_num_threads(1)
    before = Run(run)
    print(f"| seed | noise | split | one draw | {draws} draws | one draw, less than uniform | {draws} draws, less | "
          "time |\n|" + "---|" * 8)
    for seed in range(seeds):
        uniform: dict[str, Tensor] = {}
        for kind in ("uniform", "variational"):
            model, seconds = trained(before, kind, data, epochs, learning_rate, seed)
            if kind == "uniform":
                least = seconds
            for split in ("val", "test"):
                dataset = open_dataset(data, split, before.image_size, 8)
                each = bits_of_each(model, before.pairs(), dataset, draws, 8)
                gain = uniform.setdefault(split, each) - each
                error = gain.std(1) / math.sqrt(gain.shape[1])
                cells = [f"{a:.4f} ± {b:.4f}" for a, b in zip(gain.mean(1), error, strict=True)]
                print(f"| {seed} | {kind} | {split} | {each[0].mean():.4f} | {each[1].mean():.4f} | {cells[0]} | "
                      f"{cells[1]} | {seconds / least:.2f} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
