"""Options of ``evaluate.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from streets.config.data import DataOptions
from streets.config.temperatures import Temperature, check_temperature


@dataclass
class Config(DataOptions):
    """Runs to measure, and settings of the measurements."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Directories of runs of train.py, all of the same direction."""
    data: Path | None = None
    """Folder or .csv file of the data as in train.py, or generated for drawn scenes; without it that of training."""
    split: str = "val"
    """Split of the data set to measure on."""
    cities: tuple[str, ...] = ()
    """Cities of the split, its folders, to measure on; all of them without this option. The mean colours of the classes
    are those of the cities that the first run was trained on."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps; without it those of the first run's training."""
    out: Path = Path("evaluation")
    """Directory of the results."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace files of the same names there."""
    keep: bool = False
    """Keep the measurements in --out that were made with the same settings and weights, and add the missing ones. Other
    measurements there are refused, or with --overwrite made again."""
    judge: str | None = None
    """Judge of the samples: espnet-camvid or pspnet, or for photo2label colors, which is the default there. Photos
    without a judge have no scores, but bits per dimension, diversity and reconstruction."""
    judge_weights: Path | None = None
    """File or directory with the weights of the judge: of train_classifier.py, or of the authors of the network."""
    temperatures: tuple[Temperature, ...] = ()
    """Temperatures of the samples to judge; 1 without this option. Numbers joined by commas are of one synthesis, for
    each level of the models, finest first: 1.2,0.9,0.8."""
    guidance: float = 0.0
    """Weight by which samples are moved away from photos without labels, of the runs that were trained with
    --label-dropout; bits per dimension are without it."""
    sweep: bool = False
    """Judge samples at temperatures 0.0 to 1.0 in steps of 0.1, as in the paper's Table 2."""
    repeats: int = 3
    """Number of samples of each scene; the scores are means over as many syntheses of the split."""
    draws: int = 1
    """Draws of the dequantization noise for the bits per dimension; several give the importance-weighted bound, beside
    which the tables then show the bound of one."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; without it those of the training, which must then be the same for all runs."""
    scenes: int = 4
    """Number of scenes in samples.png, spread over the split."""
    picture_temperature: Temperature = 0.7
    """Temperature of the samples in samples.png."""
    weights: Literal["best", "last"] = "best"
    """Weights to load: those of the best validation, or the last ones."""
    generated: int = 80
    """Number of scenes to draw, where scenes are drawn."""
    batch_size: int = 8
    """Number of scenes that are computed at a time."""
    seed: int = 0
    """Seed of the noise."""
    device: str | None = None
    """Device, for example cuda:0; without it a GPU if there is one, else the CPU."""


def check_temperatures(config: Config, model: str, levels: int | None = None) -> None:
    """Refuse temperatures that no model has, or that one of so many levels has not."""
    check_temperature(config.picture_temperature, model, levels, "--picture-temperature")
    for temperature in config.temperatures:
        check_temperature(temperature, model, levels, "--temperatures")
