"""Curves of a run: ``metrics.csv``, the events of TensorBoard, and their plot."""

import csv
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from streets.system import files

FIGURES = {"bits_per_dim": "conditional bits per dimension", "l1": "L1 distance",
           "velocity_error": "mean square error of the velocity"}
"""Figures that a validation looks at, by objective."""
COLUMNS = ("step", "epoch", "split", "loss", *FIGURES, "source_bits_per_dim", "adversarial", "discriminator",
           "gradient_norm", "learning_rate", "images_per_second")
"""Columns of ``metrics.csv``; of all but the first three a row has those that its split has."""

Row = dict[str, str]


class Logger:
    """Log the curves of a run, in ``metrics.csv`` and for TensorBoard, from the beginning or from a checkpoint on.

    Args:
        out: directory of the run.
        step: after which step the run goes on; what was logged later is dropped.
        length: of ``metrics.csv`` at that step, in bytes; None begins anew.
    """

    def __init__(self, out: Path, step: int = 0, length: int | None = None):
        self.path = out / "metrics.csv"
        rows = [] if length is None else cut(self.path, length)
        self.file = self.path.open("w" if length is None else "a", newline="", buffering=1)
        with self.path.open(newline="") as written:
            header = next(csv.reader(written), None)
        self.csv = csv.DictWriter(self.file, header or COLUMNS)  # runs of older versions have fewer columns
        if not header:
            self.csv.writeheader()
        # TensorBoard drops what an earlier process logged from this step on, the step itself included. It reads
        # its files by their names, which begin with the second of their making: this one needs a later second.
        seconds = [path.name.split(".")[3] for path in out.glob("events.out.tfevents.*")]
        newest = max((int(second) for second in seconds if second.isdigit()), default=0)
        time.sleep(min(max(0.0, newest + 1 - time.time()), 1))
        self.tensorboard = SummaryWriter(str(out), purge_step=None if length is None else step)
        for row in rows:
            if row["step"] == str(step):
                self._plot(row["split"], step, {name: float(row[name]) for name in COLUMNS[3:] if row.get(name)})

    def write(self, split: str, step: int, epoch: int, **values: float) -> None:
        """Log the values of a step, or of an epoch."""
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
        """Log a picture of samples for TensorBoard."""
        self.tensorboard.add_image("samples", image, step)

    def means(self, epoch: int) -> dict[str, float]:
        """Return the figures of an epoch, means over its steps."""
        steps = [row for row in read_curves(self.path) if row["split"] == "step" and row["epoch"] == str(epoch)]
        names = [name for name in COLUMNS[3:] if steps and steps[0].get(name) and name != "learning_rate"]
        return {name: sum(float(row[name]) for row in steps) / len(steps) for name in names}

    def length(self) -> int:
        """Return the length of ``metrics.csv`` in bytes, all of which are on the disk then."""
        self.tensorboard.flush()
        self.file.flush()
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Close both files."""
        try:
            self.file.close()
        finally:
            self.tensorboard.close()


def read_curves(path: Path) -> list[Row]:
    """Read the whole rows of a ``metrics.csv`` as text; prints where it is damaged, if it is.

    Raises:
        ValueError: the file has no header of a table of a training.
    """
    content = path.read_bytes()
    rows, whole = whole_rows(content, path)
    if content[whole:].count(b"\n"):  # else a row is being written
        print(f"{path} is damaged after {len(rows)} rows, from byte {whole} on: the rest is not read", flush=True)
    return rows


def cut(path: Path, length: int) -> list[Row]:
    """Cut a ``metrics.csv`` to so many bytes, or to its last whole row where it is damaged before; returns its rows.

    A damaged file is kept under another name beside it, and that is printed.
    """
    content = path.read_bytes()[:length] if path.exists() else b""
    rows, whole = whole_rows(content, path)
    if whole < len(content):
        kept = path.with_name(f"{path.name}.damaged")
        kept.write_bytes(path.read_bytes())
        print(f"{path} is damaged from byte {whole} on: it is cut after its last whole row, "
              f"{'of step ' + rows[-1]['step'] if rows else 'the header'}, and kept as {kept.name}", flush=True)
    if path.exists():
        os.truncate(path, whole)
    if whole < length:
        print(f"{path} is shorter than it was at the checkpoint: the curves have a gap", flush=True)
    return rows


def whole_rows(content: bytes, path: Path) -> tuple[list[Row], int]:
    """Return the rows of a table up to the first that is damaged, and their length in bytes with that of the header.

    Raises:
        ValueError: the content does not begin with the header of such a table; the message names ``path``.
    """
    *lines, _ = content.split(b"\n")  # the last one is still being written
    names = (lines[0] if lines else content).decode(errors="replace").strip().split(",")
    if content and missing(names):
        raise ValueError(f"{path} is no table of a training, without {', '.join(missing(names))}: restore it, or "
                         "remove it")
    rows: list[Row] = []
    place = len(lines[0]) + 1 if lines else 0
    for line in lines[1:]:
        cells = line.decode(errors="replace").rstrip("\r").split(",")
        row = dict(zip(names, cells, strict=False))
        if len(cells) != len(names) or not is_whole(row):
            break
        rows.append(row)
        place += len(line) + 1
    return rows, place


def missing(names: Sequence[str]) -> list[str]:
    """Return the columns that a table of a training needs and does not have."""
    return [name for name in ("step", "epoch", "split") if name not in names]


def is_whole(row: Row) -> bool:
    """Tell if a row has its step, epoch and split, and numbers, if anything, in all other columns."""
    figures = [value for name, value in row.items() if name not in ("step", "epoch", "split")]
    return (row["step"].isdecimal() and row["epoch"].isdecimal() and row["split"].isalpha()
            and all(is_number(figure) for figure in figures if figure))


def is_number(text: str) -> bool:
    """Tell if a text is a number, NaN and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def plot_curves(rows: Sequence[Row], figure: str = "bits_per_dim") -> Figure:
    """Plot rows of ``metrics.csv``: the loss of every step, and the figure of training and validation."""
    plot = Figure(figsize=(10, 3.5), layout="constrained")
    left, right = plot.subplots(1, 2)
    for axes, column, splits in ((left, "loss", ("step",)), (right, figure, ("train", "val"))):
        for split in splits:
            points = [(int(row["step"]), float(row[column])) for row in rows
                      if row["split"] == split and row.get(column)]
            axes.plot(*np.array(points or [(0, math.nan)]).T, label=split, linewidth=1)
        axes.set_xlabel("step")
    left.set_ylabel({"bits_per_dim": "loss, nats per dimension", "l1": "loss of the generator"}.get(figure, "loss"))
    right.set_ylabel(FIGURES[figure])
    right.legend()
    return plot


def save_curves(out: Path, figure: str = "bits_per_dim") -> None:
    """Plot ``metrics.csv`` into ``curves.png``."""
    plot = plot_curves(read_curves(out / "metrics.csv"), figure)
    with files.written(out / "curves.png") as partial:
        plot.savefig(partial, dpi=110, format="png")
