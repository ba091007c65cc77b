"""A trained model and its run directory, to judge or to use."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch

from models import MODELS
from streets.config.training import given_labels
from streets.data.pairs import Pairs
from streets.runs.configuration import read_config
from streets.runs.curves import Row, read_curves
from streets.runs.weights import load_model, weights_file


class Run:
    """A trained model and its configuration, for ``evaluate.py``, ``sample.py`` and ``transfer.py``."""

    def __init__(self, path: Path, weights: str = "best", device: str | torch.device = "cpu"):
        self.path, self.config, self.device = path, read_config(path), torch.device(device)
        self.weights = weights_file(path, weights)
        self.model = load_model(path, self.weights.name).to(self.device)
        self.name: str = self.config["model"]
        self.image_size: tuple[int, int] = tuple(self.config["image_size"])
        self.is_flow = self.name != "pix2pix"
        self.direction: str = self.config.get("direction", "label2photo")

    def pairs(self, seed: int = 0) -> Pairs:
        """Return the conversion of a data set's batches into inputs of the model."""
        return Pairs(self.device, self.direction, self.config.get("boundaries", False), seed,
                     given_labels(self.name, self.direction))

    def cities(self, data: Path | None) -> tuple[str, ...]:
        """Return the cities of this data set that the model was trained on; none stands for all of them."""
        same = data is not None and str(data.resolve()) == self.config.get("data")
        return tuple(self.config.get("cities", ())) if same else ()

    def metrics(self) -> list[Row]:
        """Read the rows of metrics.csv; an exported model has none."""
        curves = self.path / "metrics.csv"
        return read_curves(curves) if curves.exists() else []

    @property
    def levels(self) -> int:
        """The number of levels of the model."""
        arguments = self.config["model_arguments"]
        return arguments.get("depth") or len(
            arguments.get("steps") or inspect.signature(MODELS[self.name]).parameters["steps"].default)

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse an image size that is not positive, or that the model's levels do not divide."""
        levels = self.levels
        if any(side < 1 or side % 2**levels for side in size):
            raise ValueError(f"image size {size[0]}x{size[1]}: {self.name} of {self.path} has {levels} levels and "
                             f"expects multiples of {2**levels}")
