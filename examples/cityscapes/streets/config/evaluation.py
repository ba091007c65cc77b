"""Options of ``evaluate.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass
class Config:
    """Runs to measure, and the way to measure them."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Directories of runs of train.py, all of one direction."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; generated street scenes if it is left out."""
    split: str = "val"
    """The split that is judged; the mean colours of classes come from train."""
    out: Path = Path("evaluation")
    """Directory of the results."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace files of the same names."""
    keep: bool = False
    """Take from --out what was measured with the same settings and weights, and add the rest; other measurements there
    are refused, or with --overwrite made anew."""
    judge: str | None = None
    """espnet-camvid, pspnet, or colors, which is for photo2label and its default."""
    judge_weights: Path | None = None
    """Weights of the judge."""
    temperatures: tuple[float, ...] = ()
    """Temperatures at which is sampled; 1 if left out."""
    sweep: bool = False
    """Temperatures 0.0 to 1.0 in steps of 0.1, as in the paper's Table 2."""
    repeats: int = 3
    """Samples of each scene: the scores are means over as many syntheses of the split."""
    draws: int = 1
    """Draws of dequantization noise for the bits per dimension; several give the importance-weighted bound."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; those of the training if left out, which must be the same for all runs."""
    scenes: int = 4
    """Scenes in samples.png, spread over the split."""
    picture_temperature: float = 0.7
    """Temperature of samples.png."""
    weights: Literal["best", "last"] = "best"
    """The weights of the best validation, or the last."""
    generated: int = 80
    """Number of scenes where there is no --data."""
    batch_size: int = 8
    """Scenes at a time."""
    seed: int = 0
    """Seed of the noise."""
    device: str | None = None
    """Device, for example cuda:0; a GPU if there is one, else the CPU."""
