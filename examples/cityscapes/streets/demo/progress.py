"""Progress of a run, read from its files: also of one that another process is training."""

import time
from pathlib import Path
from typing import NamedTuple

from streets.runs.configuration import read_config
from streets.runs.curves import FIGURES, Row, read_curves
from streets.runs.weights import has_training

SILENT = 120
"""Seconds without a new step after which a training is taken for stopped."""


class Progress(NamedTuple):
    """A training at some step."""

    step: int
    total: int | None
    """Number of the last step; None where the configuration does not say it."""
    epoch: int
    epochs: int
    validated: int
    """Epoch of the last validation; 0 before the first."""
    figure: str
    """Figure of the best validation, as text; empty before the first."""
    silent: float
    """Seconds since a step was logged."""

    @property
    def finished(self) -> bool:
        """Tell if the training came to its end."""
        return self.validated >= self.epochs

    def __str__(self) -> str:
        steps = f"step {self.step:,}" + (f" of {self.total:,}" if self.total else "")
        if self.finished:
            return f"trained to the end, {steps}, {self.figure}"
        how = "still being trained" if self.silent < SILENT else f"not finished, last step {ago(self.silent)} ago"
        return f"{how}: {steps}, epoch {self.epoch} of {self.epochs}" + (f", {self.figure}" if self.figure else "")


def ago(seconds: float) -> str:
    """Write a time in the largest unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def progress_of(run: Path) -> Progress | None:
    """Read how far a run is; None for an exported model, which has no training, and before the first step."""
    path = run / "metrics.csv"
    if not has_training(run) or not path.exists() or not (rows := read_curves(path)):
        return None
    config, validations = read_config(run), [row for row in rows if row["split"] == "val"]
    pairs, epochs = config.get("data_statistics", {}).get("training_pairs"), config.get("epochs", 0)
    total = -(-epochs * pairs // config["batch_size"]) if pairs and epochs else None
    return Progress(int(rows[-1]["step"]), total, int(rows[-1]["epoch"]), epochs,
                    int(validations[-1]["epoch"]) if validations else 0, best(validations),
                    time.time() - path.stat().st_mtime)


def best(validations: list[Row]) -> str:
    """Write the best figure of the validations; empty without any."""
    for column, name in FIGURES.items():
        values = [float(row[column]) for row in validations if row.get(column)]
        if values:
            return f"{name} {min(values):.3f} on validation"
    return ""
