"""What a run leaves on disk: its configuration, its weights, its curves and pictures of its samples."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

import condflows

from models import MODELS


def create(out: Path, config: dict[str, Any], overwrite: bool = False) -> Path:
    """Make the directory of a run and write its configuration."""
    if (out / "config.json").exists() and not overwrite:
        raise ValueError(f"{out} already holds a run: give another --out, or --overwrite to replace it")
    (out / "samples").mkdir(parents=True, exist_ok=True)
    for file in (out / "metrics.csv", *out.glob("*.safetensors"), *out.glob("events.*"), *out.glob("samples/*.png")):
        file.unlink(missing_ok=True)
    versions = {"condflows": condflows.__version__, "torch": torch.__version__}
    (out / "config.json").write_text(json.dumps(config | {"versions": versions}, indent=2, default=str) + "\n")
    return out


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


def grid(columns: Sequence[Tensor], padding: int = 2) -> Tensor:
    """Images in columns, ``(rows, 3, H, W)`` in [0, 1] each, as one picture ``(3, height, width)`` in uint8."""
    cells = torch.stack([column.float().cpu().clamp(0, 1) for column in columns], dim=1)
    cells = torch.nn.functional.pad(cells, (0, padding, 0, padding), value=1.0)
    rows, count, channels, height, width = cells.shape
    picture = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, count * width)
    return (255 * picture[:, :-padding, :-padding]).round().to(torch.uint8)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write ``(3, height, width)`` uint8 as PNG."""
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
