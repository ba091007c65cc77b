"""Scenes to use a trained model on: from a data set, drawn, or from single files."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

from streets.config.sampling import Config
from streets.config.transfer import Config as TransferConfig
from streets.data.datasets import open_split, say_notes, spread
from streets.data.folders import files_below, flat_name, is_picture
from streets.data.image_pairs import read_image
from streets.data.items import Item
from streets.data.reading import LabelMaps, read_label_map, read_photo
from streets.runs.run import Run
from streets.system import processes
from streets.system.devices import choose_device

SCENES = 4
"""Number of scenes in a grid if no option gives it."""
Options = TypeVar("Options", Config, TransferConfig)


def open_run(config: Config | TransferConfig) -> tuple[Run, tuple[int, int]]:
    """Open the run of a command line, its model without gradients; return it and the size of the images."""
    run = Run(config.run, config.weights, choose_device(config.device))
    run.model.requires_grad_(False)
    size = config.image_size or run.image_size
    run.check_size(size)
    return run, size


def with_data(run: Run, config: Options) -> Options:
    """Return the options with the folder of the data to use, by default those of the training, which is then said."""
    data = run.data(config.data, config.dataset)
    if config.data is None and data is not None and processes.rank() == 0:
        print(f"scenes of {data}, which {run.path} was trained on", flush=True)
    return dataclasses.replace(config, data=data)


def open_scenes(run: Run, config: Config | TransferConfig, size: Sequence[int]) -> Any:
    """Open a split of the data set, or of drawn scenes, as many as in training."""
    cities = config.cities if isinstance(config, Config) else ()
    dataset = open_split(config.data, config.split, size, run.config.get("generated", 640), run.config.get("seed", 0),
                         cities, run.maps(config.label_values, config.data), run.options(config, config.data))
    run.check_data(dataset)
    say_notes(dataset)
    return dataset


def read_side(run: Run, kind: str, path: Path, size: Sequence[int], values: str | None = None) -> Item:
    """Read a file as one side of an item: the ``condition`` (with its label map of such values) or the ``photo``."""
    if run.of_images:
        return read_image(path, kind, getattr(run.pixels, kind), size)
    return read_label_map(path, size, LabelMaps(run.labels, values)) if kind == "condition" else read_photo(path, size)


def files_of(run: Run, config: Config) -> list[tuple[Path, str]]:
    """Return the files of given images that options name, those of folders sorted; none for scenes of a data set.

    Each comes with its path as from the folder that was given.
    """
    wanted = "--given" if run.of_images else "--label-maps" if run.direction == "label2photo" else "--photos"
    by_option = {"--label-maps": config.label_maps, "--photos": config.photos, "--given": config.given}
    if any(paths for option, paths in by_option.items() if option != wanted):
        kind = "model of pairs of images" if run.of_images else f"{run.direction} model"
        raise ValueError(f"{run.path} is a {kind}: give it {wanted}")
    paths = by_option[wanted]
    if paths and (config.data or config.dataset or config.cities or config.indices or config.scenes is not None):
        raise ValueError(f"{wanted} are the scenes: leave out --data, --cities, --dataset, --indices and --scenes")
    if paths:
        check_no_options_of_data(run, config, wanted)
    return [(path / file, file) if path.is_dir() else (path, path.name)
            for path in paths for file in (pictures_in(path) if path.is_dir() else [path.name])]


def check_no_options_of_data(run: Run, config: Config | TransferConfig, files: str) -> None:
    """Refuse options that single files have no use for."""
    given = {"--side": config.side, "--skip-unpaired": config.skip_unpaired, "--dataset": config.dataset,
             "--label-values": run.of_images and config.label_values}
    if config.tile and config.image_size:
        raise ValueError("--tile reads single files at their own size: leave out --image-size, or --tile")
    if unused := [option for option, value in given.items() if value]:
        raise ValueError(f"{unused[0]} is for data of many files, and {files} are read as they are: leave it out")


def pictures_in(folder: Path) -> list[str]:
    """Return the paths of all files of a folder, which have to be pictures, as from the folder."""
    files = files_below(folder)
    if others := [file for file in files if not is_picture(file)] or ([] if files else ["no file"]):
        raise ValueError(f"expected pictures alone in {folder}, got {others[0]}: give the files themselves")
    return files


def find(dataset: Any, scenes: Sequence[str]) -> list[int]:
    """Return the indices of scenes that are given by index or by name."""
    numbers = {name: i for i, name in enumerate(dataset.names)}
    for scene in scenes:
        if scene not in numbers and not (scene.isdecimal() and int(scene) < len(dataset)):
            raise ValueError(f"no scene {scene} among the {len(dataset)}: give an index from 0 to {len(dataset) - 1}, "
                             f"or a name such as {dataset.names[0]}")
    return [numbers[scene] if scene in numbers else int(scene) for scene in scenes]


def choose(run: Run, config: Config, size: Sequence[int]) -> tuple[Any, dict[str, int]]:
    """Open the scenes and choose among them: return all items, and the indices of the chosen ones by name."""
    files = files_of(run, config)
    if files:
        sizes = [run.size_for(file, config.image_size, config.tile) for file, _ in files]
        if len({*sizes}) > 1:
            raise ValueError(f"the files are of {len({*sizes})} sizes, and a grid shows one: give files of one size, "
                             "or --image-size")
        run.check_size(sizes[0])
        dataset: Any = [read_side(run, run.pairs().source, file, sizes[0], config.label_values) for file, _ in files]
        if run.of_images:  # named as in a data set
            for item, (_, place) in zip(dataset, files, strict=True):
                item["name"] = flat_name(str(PurePath(place).with_suffix("")))
        places, names = list(range(len(files))), [item["name"] for item in dataset]
    else:
        dataset = open_scenes(run, config, size)
        count = config.scenes if config.scenes is not None else len(dataset) if config.augment else SCENES
        places = find(dataset, config.indices) or spread(len(dataset), count)
        names = [dataset.names[place] for place in places]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} scenes are named {name}, and so would be their files: leave all but one of them out")
    return dataset, dict(zip(names, places, strict=True))
