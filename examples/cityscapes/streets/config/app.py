"""Options of ``app.py``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro


def cache() -> Path:
    """Return the folder for caches of condflows, in the user's own one."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "condflows"


@dataclass
class Config:
    """Runs to choose from, scenes to begin with, and the place of the page."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Directories of runs of train.py, or of exported models; they may still be in training. Without any, a small model
    of generated scenes is trained beside the page at the first start."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout, whose scenes the page offers beside generated ones. For runs of
    pairs of images their data, by default those of the first run."""
    split: str = "val"
    """Split of the data set."""
    port: int | None = None
    """Port of the page on this machine; without it the first free one from 7860 on."""
    weights: Literal["best", "last"] = "best"
    """Weights to load: those of the best validation, or the last ones."""
    device: str | None = None
    """Device, for example cuda:0; without it a GPU if there is one, else the CPU."""
    cache: Path = field(default_factory=cache)
    """Folder in which the model of the first start is kept."""
    open: bool = False
    """Open the page in the browser of this machine."""
