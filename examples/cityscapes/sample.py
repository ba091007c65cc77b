"""Samples of a trained model: pictures of scenes, or a synthetic data set with exact labels.

    python examples/cityscapes/sample.py RUN --out DIR                                    scenes as in training
    python examples/cityscapes/sample.py RUN --data ROOT --indices 0 5 9 --out DIR        scenes of your data
    python examples/cityscapes/sample.py RUN --label-maps painted.png --out DIR           any label map
    python examples/cityscapes/sample.py RUN --data ROOT --temperature 0 0.5 0.8 1 --out DIR
    python examples/cityscapes/sample.py RUN --data ROOT --split train --samples 2 --augment DIR
    torchrun --nproc_per_node 2 examples/cityscapes/sample.py RUN --data ROOT --split train --samples 2 --augment DIR

DIR gets every sample at full resolution, and grid.png: a row for each scene, with what was given, the real image
where there is one, and the samples. --augment makes a data set in the Cityscapes layout, in one process or several,
each on a GPU of its own where there are GPUs; stopped, the same command continues it, with any number of processes.
The same --seed gives the same bytes, whichever other scenes, samples or shards are made; on a CPU OMP_NUM_THREADS has
to be the same too, which is 1 where torchrun starts several processes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

import cli


@dataclass
class Config:
    """What is sampled, and where it goes."""

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
    """Of the noise."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 2 ** levels; the run's if it is left out."""
    weights: Literal["best", "last"] = "best"
    """Those of the best validation or the last ones."""
    device: str | None = None
    """For example cuda:0; a GPU if there is one, else the CPU. For several processes cuda is the own GPU of each."""
    overwrite: bool = False
    """Write pictures into a directory that is not empty, and replace files of the same names."""
    shard: int = 0
    """Which part of --augment to make, from 0 to --num-shards - 1: every num-shards-th scene from this one on. The
    processes of torchrun share the parts out among themselves."""
    num_shards: int = 1
    """Parts of --augment, which may be made at once and into one directory."""


def main(arguments: list[str]) -> None:
    """Sample as the command line says; a mistake of the user's ends in one line and exit status 2."""
    cli.run("sample.py", work, cli.parse("sample.py", Config, arguments, description=__doc__))


def work(config: Config) -> None:
    from sampling import sample  # torch takes seconds to import: not before --help is answered

    sample(config)


if __name__ == "__main__":
    main(sys.argv[1:])
