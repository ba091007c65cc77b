"""What a run leaves on disk: its configuration, its weights, its curves and pictures of its samples."""

import csv
import inspect
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

import condflows

from models import MODELS
from models.full_glow import full_glow
from pairs import Pairs
from weights import load_exactly, read_state

FIGURES = {"bits_per_dim": "conditional bits per dimension", "l1": "L1 distance"}
"""What a validation looks at, by objective."""
WEIGHTS = {"best": "best.safetensors", "last": "model.safetensors"}


def choose_device(name: str | None) -> torch.device:
    """The device of that name; if None a GPU if there is one, else the CPU."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


def check_temperature(temperature: float, model: str) -> None:
    """Refuse a temperature that is none, or that a model cannot have."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"--temperature {temperature:g}: a finite number of at least 0 is needed")
    if model == "pix2pix" and temperature != 1:
        raise ValueError(f"--temperature {temperature:g}: pix2pix has none, its only noise is dropout; leave it out")


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse a directory that is in use, before any work is done for it."""
    if not overwrite and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is in use: give another, or --overwrite to replace files of the same names")


def create(out: Path, config: dict[str, Any]) -> None:
    """Make the directory of a run, without what an earlier run left there, and write its configuration."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    left = [out / name for name in ("metrics.csv", *WEIGHTS.values())]
    for file in (*left, *out.glob("events.out.tfevents.*"), *out.glob("samples/epoch_*.png")):
        file.unlink(missing_ok=True)
    write_json(out / "config.json", config | {"versions": versions()})


def versions() -> dict[str, str]:
    return {"condflows": condflows.__version__, "torch": torch.__version__}


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1, default=str) + "\n")
    os.replace(partial, path)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights so that a reader sees the old file or the new one, never a part of it."""
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    os.replace(partial, path)


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run directory."""
    try:
        config = json.loads((run / "config.json").read_text())
        missing = {"model", "model_arguments", "image_size"} - config.keys()
        unknown = missing or set(config["model_arguments"]) - set(
            inspect.signature(MODELS.get(config["model"], full_glow)).parameters)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"expected a run of train.py in {run}, with a readable config.json, got {error}: give the "
                         "directory that train.py named") from error
    if missing or config["model"] not in MODELS or unknown:
        reason = f"no {', '.join(sorted(missing))}" if missing else f"the model {config['model']!r}" + (
            f" with {', '.join(sorted(unknown))}" if unknown else "")
        raise ValueError(f"{run}/config.json: expected a model of {', '.join(MODELS)} and its arguments, got {reason}: "
                         "give a run of train.py")
    return config


def load_model(run: Path, weights: str = "model.safetensors") -> Any:
    """The trained model of a run directory, ready to sample from."""
    config = read_config(run)
    model = MODELS[config["model"]](**config["model_arguments"])
    path = run / weights
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in run.glob("*.safetensors"))) or "no weights"
        raise ValueError(f"expected {path}, found {found}: wait for the run's first validation")
    load_exactly(model, read_state(path), path, f"the file belongs to another model than the {config['model']} of "
                 "config.json")
    return model.eval()


class Run:
    """A trained model and how it was trained: what ``evaluate.py``, ``sample.py`` and ``transfer.py`` work with."""

    def __init__(self, path: Path, weights: str = "best", device: str | torch.device = "cpu"):
        self.path, self.config, self.device = path, read_config(path), torch.device(device)
        self.model = load_model(path, WEIGHTS[weights]).to(self.device)
        self.name: str = self.config["model"]
        self.image_size: tuple[int, int] = tuple(self.config["image_size"])
        self.is_flow = self.name != "pix2pix"
        self.direction: str = self.config.get("direction", "label2photo")

    def pairs(self, seed: int = 0) -> Pairs:
        """Batches of a data set as the model takes them."""
        return Pairs(self.device, self.direction, self.config.get("boundaries", False), seed)

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv; none where there is only a model."""
        curves = self.path / "metrics.csv"
        return list(csv.DictReader(curves.read_text().splitlines())) if curves.exists() else []

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse images that the model's levels do not divide, or that are no images."""
        arguments = self.config["model_arguments"]
        levels = arguments.get("depth") or len(
            arguments.get("steps") or inspect.signature(MODELS[self.name]).parameters["steps"].default)
        if any(side < 1 or side % 2**levels for side in size):
            raise ValueError(f"image size {size[0]}x{size[1]}: {self.name} of {self.path} has {levels} levels and "
                             f"expects multiples of {2**levels}")


class Logger:
    """The curves of a run, in ``metrics.csv`` and for TensorBoard."""

    columns: Sequence[str] = ("step", "epoch", "split", "loss", *FIGURES, "source_bits_per_dim", "adversarial",
                              "discriminator", "gradient_norm", "learning_rate", "images_per_second")

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


def save_curves(out: Path, figure: str = "bits_per_dim") -> None:
    """Plot ``metrics.csv``: the loss of every step, and the figure of training and validation."""
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    plot = Figure(figsize=(10, 3.5), layout="constrained")
    left, right = plot.subplots(1, 2)
    for axes, column, splits in ((left, "loss", ("step",)), (right, figure, ("train", "val"))):
        for split in splits:
            points = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split]
            axes.plot(*zip(*points, strict=True), label=split, linewidth=1)
        axes.set_xlabel("step")
    left.set_ylabel("loss, nats per dimension" if figure == "bits_per_dim" else "loss of the generator")
    right.set_ylabel(FIGURES[figure])
    right.legend()
    plot.savefig(out / "curves.png", dpi=110)


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
    """Write uint8 ``(3, height, width)`` or ``(height, width)`` as PNG so that a reader sees the whole file or none."""
    partial = path.with_suffix(".partial")
    pixels = picture.permute(1, 2, 0) if picture.ndim == 3 else picture
    Image.fromarray(pixels.contiguous().numpy()).save(partial, "PNG")
    os.replace(partial, path)
