"""A trained model and its run directory, to judge or to use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condflows.trace import Context
from streets.config.data import DataOptions, folder, options_of
from streets.config.kinds import WITHOUT_LIKELIHOOD, WITHOUT_TEMPERATURE
from streets.data import label_sets
from streets.data.layouts import side_in
from streets.data.pairs import Pairs
from streets.data.pictures import size_of
from streets.data.pixels import PairPixels
from streets.data.reading import LabelMaps
from streets.runs import samples
from streets.runs.configuration import levels_of, read_config
from streets.runs.curves import Row, read_curves
from streets.runs.weights import has_training, load_model, weights_file


class Run:
    """A trained model and its configuration, for ``evaluate.py``, ``sample.py`` and ``transfer.py``."""

    def __init__(self, path: Path, weights: str = "best", device: str | torch.device = "cpu"):
        self.path, self.config, self.device = path, read_config(path), torch.device(device)
        self.weights = weights_file(path, weights)
        self.model = load_model(path, self.weights.name).to(self.device)
        self.name: str = self.config["model"]
        self.image_size: tuple[int, int] = tuple(self.config["image_size"])
        self.has_likelihood = self.name not in WITHOUT_LIKELIHOOD
        self.has_temperature = self.name not in WITHOUT_TEMPERATURE
        self.direction: str = self.config.get("direction", "label2photo")
        self.pixels = PairPixels.of_config(self.config)
        self.given, self.wanted = self.pixels.sides(self.direction)
        self.reads_labels = self.config["model_arguments"].get("classes") is not None
        self.noise: float = self.config.get("noise", 0.0)
        self.tile = options_of(self.config).tile
        self.of_images: bool = not self.config.get("has_label_maps", True)
        self.labels = label_sets.of_config(self.config)

    def pairs(self, seed: int = 0) -> Pairs:
        """Return the conversion of a data set's batches into inputs of the model."""
        return Pairs(self.device, self.direction, self.config.get("boundaries", False), seed, self.reads_labels,
                     self.pixels, self.noise)

    def options(self, given: DataOptions, data: Path | None) -> DataOptions:
        """Return the options to open ``data`` with: those that are given, else those of the training."""
        of_run, drawn = options_of(self.config), data is None and given.dataset is None
        return DataOptions(side=given.side or side_in(data and Path(data), of_run.side), dataset=given.dataset,
                           tile=given.tile or (self.tile and not drawn),
                           skip_unpaired=given.skip_unpaired or (of_run.skip_unpaired and data is not None))

    def check_data(self, dataset: Any) -> None:
        """Refuse data whose images are not of the kind that the model was trained on."""
        if dataset.pixels != self.pixels:
            raise ValueError(f"{self.path} was trained on pairs of {self.pixels}, got {dataset.pixels}: give data "
                             "of the same kind")
        if (self.reads_labels or self.config.get("boundaries")) and not dataset.has_label_maps:
            raise ValueError(f"{self.path} reads label maps, which these data do not have: give data in the Cityscapes "
                             "layout")

    def data(self, asked: Path | None, dataset: str | None = None) -> Path | None:
        """Return the folder of the data that an option asks for, else of those of the training; None for drawn scenes.

        None too where data are of a function, whose name is ``dataset``.

        Raises:
            ValueError: nothing is asked for, and the model was exported without the place of its data.
            FileNotFoundError: nothing is asked for, and the folder of the training has gone.
        """
        if asked is not None or dataset is not None:
            return folder(asked)
        if (trained_on := self.config.get("dataset")) is not None:
            raise ValueError(f"{self.path} was trained on --dataset {trained_on}: give it again, since no code is run "
                             "that a file names, or other data with --data")
        advice = "give --data with the folder to use, or --data generated for drawn scenes"
        if "data" not in self.config and not has_training(self.path):
            raise ValueError(f"{self.path} is an exported model, which does not say where its data are: {advice}")
        stored = self.config.get("data")
        if stored is not None and not Path(stored).exists():
            raise FileNotFoundError(f"{self.path} was trained on {stored}, and there is no such folder or file now: "
                                    f"{advice}")
        return stored and Path(stored)

    def maps(self, values: str | None, data: Path | None) -> LabelMaps:
        """Return how the label maps of a data set are read: with these values, by default as in the training."""
        return LabelMaps(self.labels, values or (None if data is None else self.config.get("label_values")))

    def cities(self, data: Path | None) -> tuple[str, ...]:
        """Return the cities of a data set that the model was trained on; none stands for all of them.

        They are those of its configuration, if the data set has cities of these names.
        """
        cities = tuple(self.config.get("cities", ()))
        there = data is not None and all((data / "leftImg8bit" / "train" / city).is_dir() for city in cities)
        return cities if there else ()

    def guidance(self, weight: float) -> float:
        """Return the weight of guidance for this model, 0 if it has not learned photos without labels."""
        return weight if self.config.get("label_dropout") else 0.0

    def sample(self, number: int, context: Context, temperature: float | Sequence[float],
               generator: torch.Generator | None = None, guidance: float = 0.0) -> Tensor:
        """Draw samples of the model, as :func:`streets.runs.samples.sample` does."""
        return samples.sample(self.model, number, context, temperature, generator, guidance, self.wanted.channels,
                              self.noise)

    def metrics(self) -> list[Row]:
        """Read the rows of metrics.csv; an exported model has none."""
        curves = self.path / "metrics.csv"
        return read_curves(curves) if curves.exists() else []

    @property
    def levels(self) -> int:
        """The number of levels of the model."""
        return levels_of(self.config)

    def size_for(self, file: Path, asked: tuple[int, int] | None = None, tile: bool = False) -> tuple[int, int]:
        """Return the size to read a single file at: what is asked, else that of the training.

        Of a model of tiles, or with ``tile``, it is the file's own, rounded down to what the levels divide.
        """
        if asked or not (self.tile or tile):
            return asked or self.image_size
        height, width = (side - side % 2**self.levels for side in size_of(file))
        return height, width

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse an image size that is not positive, or that the model's levels do not divide."""
        levels = self.levels
        if any(side < 1 or side % 2**levels for side in size):
            raise ValueError(f"image size {size[0]}x{size[1]}: {self.name} of {self.path} has {levels} levels and "
                             f"expects multiples of {2**levels}")
