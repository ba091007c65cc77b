"""Options of ``transfer.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Config:
    """Contents, and the structures that they are put on."""

    run: tyro.conf.Positional[Path]
    """Directory of a run of train.py."""
    out: Path
    """Directory for the pictures."""
    content: tuple[str, ...] = ()
    """Scenes of the split whose photos give the content, by index or by name."""
    structure: tuple[str, ...] = ()
    """As many scenes whose label maps give the structure."""
    content_photo: Path | None = None
    """Instead of --content: a photo, a PNG file."""
    content_label: Path | None = None
    """Label map of --content-photo: official ids in one grey channel, or the official colours."""
    structure_label: Path | None = None
    """Instead of --structure: a label map."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; scenes are generated as in training if it is left out."""
    split: str = "val"
    """Split of the data set."""
    seed: int = 0
    """Seed of the noise that makes 8-bit images continuous."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 2 ** levels; the run's if it is left out."""
    weights: Literal["best", "last"] = "best"
    """Weights of the best validation, or the last ones."""
    device: str | None = None
    """Device, for example cuda:0; a GPU if there is one, else the CPU."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace files of the same names."""
