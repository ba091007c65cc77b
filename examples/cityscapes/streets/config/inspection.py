"""Options of ``inspect_data.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from streets.config.data import DataOptions


@dataclass
class Config(DataOptions):
    """Data to look at, the labels of its label maps, and the picture to write."""

    data: tyro.conf.Positional[Path | None] = None
    """Folder or .csv file of the data, as for train.py; none with --dataset."""
    labels: str = "cityscapes"
    """Labels of the label maps: a name in streets/data/label_sets, or a .csv or .json file with a table of name, id,
    colour and training id."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps; without it each file tells, which is refused where it cannot."""
    out: Path = Path("contact_sheet.png")
    """PNG file of the contact sheet: photos, and their label maps in the colours of the labels; or images B and A."""
    overwrite: bool = False
    """Replace a file that is there."""
    pairs: int = 32
    """Number of pairs of each split to read, spread over it; 0 for all of them."""
    scenes: int = 8
    """Number of pairs in the contact sheet, spread over the splits."""
    height: int = 128
    """Height in pixels of the images in the contact sheet."""
