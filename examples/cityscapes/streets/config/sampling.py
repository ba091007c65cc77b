"""Options of ``sample.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Config:
    """Scenes and samples, and the place that they are written to."""

    run: tyro.conf.Positional[Path]
    """Directory of a run of train.py."""
    out: Path | None = None
    """Directory for pictures."""
    augment: Path | None = None
    """Directory for a data set in the Cityscapes layout: of each scene the label map, and --samples photos. All scenes
    of --split if none are chosen."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; scenes are generated as in training if it is left out."""
    split: str = "val"
    """Split of the data set."""
    indices: tuple[str, ...] = ()
    """Scenes of the split, by index or by name."""
    scenes: int | None = None
    """Number of scenes, spread over the split, where no --indices are given; 4 if it is left out."""
    label_maps: tuple[Path, ...] = ()
    """Label maps as PNG files instead of a data set: official ids in one grey channel, or the official colours."""
    photos: tuple[Path, ...] = ()
    """Photos as PNG files, for a run of --direction photo2label."""
    samples: int = 5
    """Samples of each scene, and of each temperature."""
    temperature: tuple[float, ...] = ()
    """Deviation of the noise, one or several; 0.8 if it is left out. pix2pix has none."""
    seed: int = 0
    """Seed of the noise."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 2 ** levels; the run's if it is left out."""
    weights: Literal["best", "last"] = "best"
    """Weights of the best validation, or the last ones."""
    device: str | None = None
    """Device, for example cuda:0; a GPU if there is one, else the CPU. Of several processes each has its own cuda."""
    overwrite: bool = False
    """Write pictures into a directory that is not empty, and replace files of the same names."""
    shard: int = 0
    """Number of the part of --augment to make, from 0 to --num-shards - 1: every num-shards-th scene from this one on.
    The processes of torchrun share the parts out among themselves."""
    num_shards: int = 1
    """Parts of --augment, which may be made at once and into one directory."""
