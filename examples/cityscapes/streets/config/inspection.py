"""Options of ``inspect_data.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Config:
    """Data to look at, the labels of its label maps, and the picture to write."""

    data: tyro.conf.Positional[Path]
    """Root of a data set in the Cityscapes layout."""
    labels: str = "cityscapes"
    """Labels of the label maps: a name in streets/data/label_sets, or a .csv or .json file with a table of name, id,
    colour and training id."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps; without it each file tells, which is refused where it cannot."""
    out: Path = Path("contact_sheet.png")
    """PNG file of the contact sheet: photos, and their label maps in the colours of the labels."""
    overwrite: bool = False
    """Replace a file that is there."""
    pairs: int = 32
    """Number of pairs of each split to read, spread over it; 0 for all of them."""
    scenes: int = 8
    """Number of pairs in the contact sheet, spread over the splits."""
    height: int = 128
    """Height in pixels of the photos in the contact sheet."""
