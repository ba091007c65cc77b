"""Runs and options of an evaluation that fit together; what does not is refused before anything is measured."""

import dataclasses
from pathlib import Path

from streets.config import data as place
from streets.config.checks import check_counts, check_finite
from streets.config.evaluation import Config, check_temperatures
from streets.runs.run import Run

SWEEP = tuple(i / 10 for i in range(11))
"""Temperatures of ``--sweep``."""


def common(models: list[Run], config: Config) -> tuple[str, tuple[int, int]]:
    """Return the direction and the image size that the runs have in common; ValueError if they differ."""
    first = models[0]
    for run in models:
        if run.of_images != first.of_images:
            raise ValueError(f"{run.path} and {first.path} are not both of pairs of images: evaluate them apart")
        if run.tile != first.tile:
            raise ValueError(f"{run.path} and {first.path} were not both trained on tiles: evaluate them apart")
        if run.direction != first.direction:
            raise ValueError(f"{run.path} is {run.direction} and {first.path} is {first.direction}: evaluate them "
                             "apart")
        if run.labels != first.labels:
            raise ValueError(f"{run.path} has the labels of {run.labels.name} and {first.path} those of "
                             f"{first.labels.name}: evaluate them apart")
        if config.image_size is None and run.image_size != first.image_size:
            raise ValueError(f"{run.path} was trained at {run.image_size} and {first.path} at {first.image_size}: "
                             "choose an --image-size")
        run.check_size(config.image_size or first.image_size)
    return first.direction, config.image_size or first.image_size


def common_data(models: list[Run], config: Config) -> Path | None:
    """Return the folder of the data to measure on, by default those of all trainings; None for drawn scenes."""
    first = models[0]
    for run in models[1:] if config.data is None else ():
        if run.data(None, config.dataset) != first.data(None, config.dataset):
            raise ValueError(f"{run.path} was trained on {place.name_of(run.data(None))} and {first.path} on "
                             f"{place.name_of(first.data(None))}: choose with --data")
    data = first.data(config.data, config.dataset)
    sides = {run.path: run.options(config, data).side for run in models}
    for path, side in sides.items():
        if side != sides[first.path]:
            raise ValueError(f"images side by side in {data}: {path} was trained with --side {side} and {first.path} "
                             f"with --side {sides[first.path]}: evaluate them apart, or choose with --side")
    return data


def chosen_judge(config: Config, direction: str, of_images: bool = False) -> str | None:
    """Return the name of the judge, None for no judge; ValueError if it cannot judge the images of this direction."""
    name = config.judge or ("colors" if direction == "photo2label" and not of_images else None)
    if name is None and config.judge_weights is not None:
        raise ValueError(f"--judge-weights {config.judge_weights}: give --judge too, espnet-camvid or pspnet")
    if name is not None and (name == "colors") != (direction == "photo2label"):
        raise ValueError(f"--judge {name}: photos need one of espnet-camvid, pspnet, and label maps colors; these runs "
                         f"are {direction}")
    return name


def checked(config: Config) -> Config:
    """Return the configuration with its temperatures; ValueError, before any work is done, if it is not valid."""
    if not config.runs:
        raise ValueError("there is nothing to evaluate: give the directories of one or several runs of train.py")
    check_finite(config, "guidance", zero=True)
    check_counts(config, repeats=1, draws=1, scenes=1, batch_size=1, generated=1, seed=0)
    if config.sweep and config.temperatures:
        raise ValueError("--sweep is temperatures 0.0 to 1.0: leave out --temperatures")
    temperatures = SWEEP if config.sweep else config.temperatures or (1.0,)
    check_temperatures(config, "flow")
    return dataclasses.replace(config, temperatures=temperatures)
