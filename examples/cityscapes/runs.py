"""What a run leaves on disk: its configuration, its weights, its curves and pictures of its samples."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

import condflows

from models import MODELS


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse a directory that holds a run, before any work is done for another."""
    if (out / "config.json").exists() and not overwrite:
        raise ValueError(f"{out} already holds a run: give another --out, or --overwrite to replace it")


def create(out: Path, config: dict[str, Any]) -> None:
    """Make the directory of a run, without what an earlier one left there, and write its configuration."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    for file in (out / "metrics.csv", *out.glob("*.safetensors"), *out.glob("events.*"), *out.glob("samples/*.png")):
        file.unlink(missing_ok=True)
    versions = {"condflows": condflows.__version__, "torch": torch.__version__}
    (out / "config.json").write_text(json.dumps(config | {"versions": versions}, indent=2, default=str) + "\n")


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights so that a reader sees the old file or the new one, never a part of it."""
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    os.replace(partial, path)


def load_model(run: Path, weights: str = "model.safetensors") -> Any:
    """The trained model of a run directory, ready to sample from."""
    config = json.loads((run / "config.json").read_text())
    model = MODELS[config["model"]](**config["model_arguments"])
    model.load_state_dict(load_file(run / weights))
    return model.eval()


class Logger:
    """The curves of a run, in ``metrics.csv`` and for TensorBoard."""

    columns: Sequence[str] = ("step", "epoch", "split", "loss", "bits_per_dim", "source_bits_per_dim", "gradient_norm",
               "learning_rate", "images_per_second")

    def __init__(self, out: Path):
        self.tensorboard = SummaryWriter(str(out))
        self.file = (out / "metrics.csv").open("w", newline="", buffering=1)
        self.csv = csv.DictWriter(self.file, self.columns)
        self.csv.writeheader()

    def write(self, split: str, step: int, epoch: int, **values: float) -> None:
        self.csv.writerow({"step": step, "epoch": epoch, "split": split} | {k: f"{v:.6g}" for k, v in values.items()})
        for name, value in values.items():
            self.tensorboard.add_scalar(f"{name}/{split}", value, step)

    def picture(self, image: Tensor, step: int) -> None:
        self.tensorboard.add_image("samples", image, step)

    def close(self) -> None:
        self.tensorboard.close()
        self.file.close()


def save_curves(out: Path) -> None:
    """Plot ``metrics.csv``: the loss of every step, and conditional bits per dimension of training and validation."""
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, column, splits in ((left, "loss", ("step",)), (right, "bits_per_dim", ("train", "val"))):
        for split in splits:
            points = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split]
            axes.plot(*zip(*points, strict=True), label=split, linewidth=1)
        axes.set_xlabel("step")
    left.set_ylabel("loss, nats per dimension")
    right.set_ylabel("conditional bits per dimension")
    right.legend()
    figure.savefig(out / "curves.png", dpi=110)


def grid(columns: Sequence[Tensor], padding: int = 2, least: int = 96) -> Tensor:
    """Images in columns, ``(rows, 3, H, W)`` in [0, 1] each, as one picture ``(3, height, width)`` in uint8.

    Images of less than ``least`` pixels in height are enlarged by a whole factor.
    """
    cells = torch.stack([column.float().cpu().clamp(0, 1) for column in columns], dim=1)
    enlarge = -(-least // cells.shape[-2])
    cells = cells.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    cells = torch.nn.functional.pad(cells, (0, padding, 0, padding), value=1.0)
    rows, count, channels, height, width = cells.shape
    picture = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, count * width)
    return (255 * picture[:, :-padding, :-padding]).round().to(torch.uint8)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write ``(3, height, width)`` uint8 as PNG."""
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
