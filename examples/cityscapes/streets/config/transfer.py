"""Options of ``transfer.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from streets.config.data import DataOptions


@dataclass
class Config(DataOptions):
    """Contents, the structures to put them on, and the directory for the results."""

    run: tyro.conf.Positional[Path]
    """Directory of a run of train.py, or of an exported model."""
    out: Path
    """Directory for the pictures."""
    content: tuple[str, ...] = ()
    """Scenes of the split whose photos give the content, by index or by name."""
    structure: tuple[str, ...] = ()
    """Scenes of the split whose label maps give the structure, as many as in --content."""
    content_photo: Path | None = None
    """File of a photo, instead of --content, or of an image B of pairs of images."""
    content_label: Path | None = None
    """PNG file of the label map of --content-photo, as large as it: ids in one grey channel, or colours, of the labels
    of the run. Of pairs of images it is the file of A, of any size."""
    structure_label: Path | None = None
    """PNG file of a label map, instead of --structure, or file of an image A of pairs of images."""
    data: Path | None = None
    """Folder or .csv file of the data as in train.py, or generated for drawn scenes; without it that of training."""
    split: str = "val"
    """Split of the data set."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps; without it those of the training for --data, and each single file tells."""
    seed: int = 0
    """Seed of the noise that makes 8-bit images continuous."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 2 ** levels; without it those of the run."""
    weights: Literal["best", "last"] = "best"
    """Weights to load: those of the best validation, or the last ones."""
    device: str | None = None
    """Device, for example cuda:0; without it a GPU if there is one, else the CPU."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace files of the same names there."""
