"""What a run leaves on disk: its configuration, its weights, its curves and pictures of its samples."""

import csv
import inspect
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from packaging.version import InvalidVersion, Version
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

import condflows

import checkpoints
import cli
import files
import processes
from models import MODELS
from pairs import Pairs
from train import Config
from weights import load_exactly, read_state

FIGURES = {"bits_per_dim": "conditional bits per dimension", "l1": "L1 distance"}
"""What a validation looks at, by objective."""
WEIGHTS = {"best": "best.safetensors", "last": "model.safetensors"}


def choose_device(name: str | None) -> torch.device:
    """The device of that name; if None a GPU if there is one, else the CPU; cuda is each process's own GPU."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name is None else name)
        if device == torch.device("cuda") and processes.world() > 1:
            device = torch.device("cuda", processes.local_rank())
            if device.index >= torch.cuda.device_count():
                raise ValueError(f"no GPU for process {processes.rank()}, number {device.index} of a machine with "
                                 f"{torch.cuda.device_count()} GPUs: start one for each GPU, or name a --device")
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise ValueError(f"--device {name}: {reason}: give cpu, or cuda:0 where torch finds a GPU") from error
    return device


def check_temperature(temperature: float, model: str) -> None:
    """Refuse a temperature that is none, or that a model cannot have."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"--temperature {temperature:g}: a finite number of at least 0 is needed")
    if model == "pix2pix" and temperature != 1:
        raise ValueError(f"--temperature {temperature:g}: pix2pix has none, its only noise is dropout; leave it out")


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse a directory that is in use or cannot be, before any work is done for it."""
    there = next(path for path in (out, *out.parents) if os.path.lexists(path) or path == path.parent)
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is no directory: give another")
    if not overwrite and out.exists() and any(out.iterdir()):
        raise ValueError(f"--out {out} is in use: give another, or --overwrite to replace files of the same names")


def create(out: Path, config: dict[str, Any]) -> None:
    """Make the directory of a run, without what an earlier run left there, and write its configuration."""
    out.mkdir(parents=True, exist_ok=True)
    # In this order, so that whatever is left if the process is killed is not taken for a run to go on with.
    for pattern in ("config.json", f"checkpoints/{checkpoints.PATTERN}", "checkpoints/*.partial", "metrics.csv",
                    *WEIGHTS.values(), "curves.png", "events.out.tfevents.*", "samples/epoch_*.png"):
        for file in out.glob(pattern):
            file.unlink()
    write_json(out / "config.json", config | {"versions": versions()})
    (out / "samples").mkdir(exist_ok=True)


def update(out: Path, config: dict[str, Any]) -> None:
    """Write the configuration that a run goes on with."""
    write_json(out / "config.json", read_config(out) | config)


def versions() -> dict[str, str]:
    return {"condflows": condflows.__version__, "torch": torch.__version__}


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part of it."""
    with files.written(path) as partial:
        partial.write_text(json.dumps(value, indent=1, default=str) + "\n")


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights so that a reader sees the old file or the new one, never a part of it."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with files.written(path) as partial:
        partial.write_bytes(save(state))  # save_file makes a file that its owner alone can read


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run directory or of an exported model.

    Raises:
        ValueError: there is none, it is damaged or of something else, or a newer condflows wrote it.
    """
    path = run / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a run of train.py in {run}, with a readable config.json, got {error}: give the "
                         "directory that train.py named") from error
    check_config(config, path)
    return config


def check_config(config: Any, where: object) -> None:
    """Refuse what is no configuration of a model that this condflows has; ``where`` is what the message calls it."""
    writer = other_version(config)
    if writer is not None and writer > Version(condflows.__version__):
        raise ValueError(f"{where}: {_install(writer)}")
    kinds = {"model": str, "model_arguments": dict, "image_size": list}
    wrong = [key for key, kind in kinds.items() if not (isinstance(config, dict) and isinstance(config.get(key), kind))]
    if wrong:
        reason = f"no {', '.join(wrong)}"
    elif config["model"] not in MODELS:
        reason = f"the model {config['model']!r}"
    elif unknown := config["model_arguments"].keys() - (  # affine is a function, which no file holds
            inspect.signature(MODELS[config["model"]]).parameters.keys() - {"affine"}):
        reason = f"the model {config['model']!r} with {', '.join(sorted(unknown))}"
    elif misfits := cli.misfits(Config, config):
        reason = f"the {misfits[0].replace('_', ' ')} {config[misfits[0]]!r}"
    else:
        return
    raise ValueError(f"{where}: expected a model of {', '.join(MODELS)} and its arguments, got {reason}: "
                     f"{_install(writer) if writer is not None else 'give a run of train.py'}")


def other_version(config: Any) -> Version | None:
    """The version of condflows that wrote a configuration, where it says so and is not this one."""
    try:
        writer = Version(config["versions"]["condflows"])
    except (LookupError, TypeError, InvalidVersion):
        return None
    return None if writer == Version(condflows.__version__) else writer


def _install(writer: Version) -> str:
    return f"condflows {writer} wrote it, and this is {condflows.__version__}: pip install condflows=={writer}"


def build_model(config: Mapping[str, Any], where: object) -> Any:
    """The model of a configuration, with the weights of a start."""
    try:
        return MODELS[config["model"]](**config["model_arguments"])
    except Exception as error:  # what a model's builder raises for arguments of another kind
        writer = other_version(config)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{where}: {config['model']} cannot be built with {config['model_arguments']}, {reason}: "
                         f"{_install(writer) if writer is not None else 'give a run of train.py'}") from error


def load_weights(model: nn.Module, path: Path, config: Mapping[str, Any]) -> None:
    """Load weights into the model that the configuration is of.

    Raises:
        ValueError: they are not there, damaged, or of another model; where another condflows wrote them, its version.
    """
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in path.parent.glob("*.safetensors"))) or "no weights"
        raise ValueError(f"expected {path}, found {found}: wait for the run's first validation; other formats are "
                         "not read")
    writer = other_version(config)
    load_exactly(model, read_state(path), path, _install(writer) if writer is not None else
                 f"the file belongs to another model than the {config['model']} of config.json")


def load_model(run: Path, weights: str = "model.safetensors") -> Any:
    """The trained model of a run directory, ready to sample from."""
    config = read_config(run)
    model = build_model(config, run / "config.json")
    load_weights(model, run / weights, config)
    return model.eval()


def has_training(directory: Path) -> bool:
    """Whether a training left its files there; an exported model is a configuration and weights alone."""
    return any((directory / name).exists() for name in (WEIGHTS["best"], "metrics.csv", "checkpoints"))


def weights_file(run: Path, weights: str = "best") -> Path:
    """The best or the last weights of a run; of an exported model, its only ones."""
    return run / WEIGHTS[weights if has_training(run) else "last"]


class Run:
    """A trained model and how it was trained: what ``evaluate.py``, ``sample.py`` and ``transfer.py`` work with."""

    def __init__(self, path: Path, weights: str = "best", device: str | torch.device = "cpu"):
        self.path, self.config, self.device = path, read_config(path), torch.device(device)
        self.weights = weights_file(path, weights)
        self.model = load_model(path, self.weights.name).to(self.device)
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
        return read_curves(curves) if curves.exists() else []

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse images that the model's levels do not divide, or that are no images."""
        arguments = self.config["model_arguments"]
        levels = arguments.get("depth") or len(
            arguments.get("steps") or inspect.signature(MODELS[self.name]).parameters["steps"].default)
        if any(side < 1 or side % 2**levels for side in size):
            raise ValueError(f"image size {size[0]}x{size[1]}: {self.name} of {self.path} has {levels} levels and "
                             f"expects multiples of {2**levels}")


class Logger:
    """The curves of a run, in ``metrics.csv`` and for TensorBoard; or their continuation.

    Args:
        out: directory of the run.
        step: after which step the run goes on; what was logged later is dropped.
        length: of ``metrics.csv`` at that step, in bytes; None begins anew.
    """

    columns: Sequence[str] = ("step", "epoch", "split", "loss", *FIGURES, "source_bits_per_dim", "adversarial",
                              "discriminator", "gradient_norm", "learning_rate", "images_per_second")

    def __init__(self, out: Path, step: int = 0, length: int | None = None):
        self.path = out / "metrics.csv"
        if length is not None and self.path.exists():
            read_curves(self.path, length)  # refuses what is damaged before it is touched
            os.truncate(self.path, min(length, self.path.stat().st_size))
        if length is not None and (not self.path.exists() or self.path.stat().st_size < length):
            print(f"{self.path} is shorter than it was at the checkpoint: the curves have a gap", flush=True)
        self.file = self.path.open("w" if length is None else "a", newline="", buffering=1)
        self.csv = csv.DictWriter(self.file, self.columns)
        if not self.path.stat().st_size:
            self.csv.writeheader()
        # TensorBoard drops what an earlier process logged from this step on, the step itself included. It reads
        # its files by their names, which begin with the second of their making: this one needs a later second.
        seconds = [path.name.split(".")[3] for path in out.glob("events.out.tfevents.*")]
        newest = max((int(second) for second in seconds if second.isdigit()), default=0)
        time.sleep(min(max(0.0, newest + 1 - time.time()), 1))
        self.tensorboard = SummaryWriter(str(out), purge_step=None if length is None else step)
        for row in self.rows() if length is not None else ():
            if row["step"] == str(step):
                self._plot(row["split"], step, {name: float(row[name]) for name in self.columns[3:] if row[name]})

    def write(self, split: str, step: int, epoch: int, **values: float) -> None:
        try:
            self.csv.writerow({"step": step, "epoch": epoch, "split": split}
                              | {k: f"{v:.6g}" for k, v in values.items()})
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error}") from error
        self._plot(split, step, values)

    def _plot(self, split: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.tensorboard.add_scalar(f"{name}/{split}", value, step)

    def picture(self, image: Tensor, step: int) -> None:
        self.tensorboard.add_image("samples", image, step)

    def rows(self) -> list[dict[str, str]]:
        """What was written, as text."""
        return read_curves(self.path)

    def means(self, epoch: int) -> dict[str, float]:
        """The figures of an epoch, means over its steps."""
        steps = [row for row in self.rows() if row["split"] == "step" and row["epoch"] == str(epoch)]
        names = [name for name in self.columns[3:] if steps and steps[0][name] and name != "learning_rate"]
        return {name: sum(float(row[name]) for row in steps) / len(steps) for name in names}

    def length(self) -> int:
        """The length of ``metrics.csv`` in bytes, all of which are on the disk then."""
        self.tensorboard.flush()
        self.file.flush()
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        try:
            self.file.close()
        finally:
            self.tensorboard.close()


def read_curves(path: Path, length: int | None = None) -> list[dict[str, str]]:
    """The rows of a ``metrics.csv``, or of its first bytes, as text; ValueError if they are damaged."""
    try:
        whole = path.read_bytes()[:length].rpartition(b"\n")[0]  # without a row that is still being written
        rows = list(csv.DictReader(whole.decode().splitlines()))
        for row in rows:
            if missing := {"step", "epoch", "split"} - row.keys():
                raise ValueError(f"without {', '.join(sorted(missing))}")
            for name, value in row.items():
                if name != "split" and value:
                    float(value)
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of a training ({error!r}): restore it, or remove it") from error
    return rows


def save_curves(out: Path, figure: str = "bits_per_dim") -> None:
    """Plot ``metrics.csv``: the loss of every step, and the figure of training and validation."""
    rows = read_curves(out / "metrics.csv")
    plot = Figure(figsize=(10, 3.5), layout="constrained")
    left, right = plot.subplots(1, 2)
    for axes, column, splits in ((left, "loss", ("step",)), (right, figure, ("train", "val"))):
        for split in splits:
            points = [(int(row["step"]), float(row[column])) for row in rows
                      if row["split"] == split and row.get(column)]
            axes.plot(*np.array(points or [(0, math.nan)]).T, label=split, linewidth=1)
        axes.set_xlabel("step")
    left.set_ylabel("loss, nats per dimension" if figure == "bits_per_dim" else "loss of the generator")
    right.set_ylabel(FIGURES[figure])
    right.legend()
    with files.written(out / "curves.png") as partial:
        plot.savefig(partial, dpi=110, format="png")


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
    pixels = picture.permute(1, 2, 0) if picture.ndim == 3 else picture
    with files.written(path) as partial:
        Image.fromarray(pixels.contiguous().numpy()).save(partial, "PNG")
