"""Options of ``sample.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from streets.config.data import DataOptions
from streets.config.temperatures import Temperature


@dataclass
class Config(DataOptions):
    """Scenes to sample, number and temperature of the samples, and the directory for them."""

    run: tyro.conf.Positional[Path]
    """Directory of a run of train.py, or of an exported model."""
    out: Path | None = None
    """Directory for pictures of the samples."""
    augment: Path | None = None
    """Directory for a data set in the Cityscapes layout, with the label map and --samples photos of each scene; or for
    one of folders A and B, where the model is of pairs of images. Without a choice of scenes it has all of --split."""
    data: Path | None = None
    """Folder or .csv file of the data as in train.py, or generated for drawn scenes; without it that of training."""
    split: str = "val"
    """Split of the data set."""
    cities: tuple[str, ...] = ()
    """Cities of the split, its folders, to sample; all of them without this option."""
    indices: tuple[str, ...] = ()
    """Scenes of the split to sample, by index or by name."""
    scenes: int | None = None
    """Number of scenes, spread over the split, if no --indices are given; 4 without this option."""
    label_maps: tuple[Path, ...] = ()
    """PNG files of label maps, or folders of them, instead of a data set: ids in one grey channel, or colours, of the
    labels of the run."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps; without it those of the training for --data, and each single file tells."""
    photos: tuple[Path, ...] = ()
    """Files of photos, or folders of them, instead of a data set, for a run of --direction photo2label."""
    given: tuple[Path, ...] = ()
    """Files of given images, or folders of them, instead of a data set, for a run on pairs of images."""
    samples: int = 5
    """Number of samples of each scene at each temperature."""
    temperature: tuple[Temperature, ...] = ()
    """Standard deviation of the noise, one or several; 0.8 without this option. Numbers joined by commas are of one
    sample, for each level of the model, finest first: 1.2,0.9,0.8. pix2pix has no temperature."""
    guidance: float | None = None
    """Weight by which samples are moved away from photos without labels, of a run that was trained with
    --label-dropout: 0 for none; that of the pictures of the training without this option."""
    seed: int = 0
    """Seed of the noise."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 2 ** levels; without it those of the run."""
    weights: Literal["best", "last"] = "best"
    """Weights to load: those of the best validation, or the last ones."""
    device: str | None = None
    """Device, for example cuda:0; without it a GPU if there is one, else the CPU. With several processes cuda is a
    different GPU in each."""
    overwrite: bool = False
    """Write pictures into a directory that is not empty, and replace files of the same names there."""
    shard: int = 0
    """Number of the shard of --augment to make, from 0 to --num-shards - 1: every num-shards-th scene from this one on.
    The processes of torchrun make one shard each, without this option."""
    num_shards: int = 1
    """Number of shards of --augment, which may be made at the same time and in the same directory."""
