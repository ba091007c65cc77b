"""Synthetic data sets, in the Cityscapes layout or in folders A and B.

Any number of processes write them, and continue after any stop.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from streets.config.sampling import Config
from streets.data.items import Item
from streets.runs.pictures import save_values, suffix_of
from streets.runs.run import Run
from streets.runs.settings import as_stored, check_same
from streets.system import files, processes, progress
from streets.using.drawing import draw

MOST_SAMPLES = 1000
"""Largest number of samples of a scene: three digits of its name number them."""
PARTIAL = ".partial-"
"""Text between the name of a file and that of its writer, until the file is whole."""


def check_augment(run: Run, config: Config, temperatures: Mapping[str, float | Sequence[float]]) -> None:
    """Refuse runs and options from which no data set can be made."""
    if run.name == "glow" or not (run.of_images or run.direction == "label2photo"):
        raise ValueError(f"--augment: {run.path} is a {run.direction} run of {run.name}, which makes no photos of "
                         "label maps: give another run")
    if len(temperatures) > 1 or config.samples > MOST_SAMPLES:
        raise ValueError(f"--augment takes one --temperature and at most {MOST_SAMPLES} --samples, got "
                         f"{', '.join(temperatures)} and {config.samples}")
    if not 0 <= config.shard < config.num_shards:
        raise ValueError(f"--shard {config.shard} --num-shards {config.num_shards}: shards are numbered from 0 to "
                         "--num-shards - 1")
    if config.overwrite:
        raise ValueError(f"--overwrite: --augment continues what is there and replaces nothing; remove "
                         f"{config.augment} to begin anew")


def augment(run: Run, dataset: Any, scenes: Mapping[str, int], config: Config,
            temperature: float | Sequence[float], root: Path, shard: int, count: int) -> None:
    """Write a shard of a data set, in the layout of the training's, without the pairs that are already there."""
    claim(root, settings(run, config, temperature))
    # A data set has instances for all of its label maps or for none.
    with_instances = not isinstance(dataset, list) or all("instances" in item for item in dataset)
    written, there, target = 0, 0, run.pairs().target
    names = progress.bar(list(scenes)[shard::count], disable=processes.rank() > 0,
                         desc=f"scenes of shard {shard} of {count}" if count > 1 else "scenes")
    for name in names:
        item: Item = {}
        for number in range(config.samples):
            stems = (stems_of_images if run.of_images else stems_of_cityscapes)(root, config.split, name, number)
            if any(stems[target].with_name(stems[target].name + suffix).exists() for suffix in (".png", ".npy")):
                there += 1
                continue
            item = item or dataset[scenes[name]]
            image = draw(run, item, number, temperature, config.seed, config.guidance or 0.0)
            for kind, stem in stems.items():
                stem.parent.mkdir(parents=True, exist_ok=True)
                if kind in item and kind != target and (kind != "instances" or with_instances):
                    save_once(item[kind], stem.with_name(stem.name + suffix_of(item[kind])))
            target_file = stems[target].with_name(stems[target].name + suffix_of(image))
            save_once(image, target_file)  # last: a pair is complete if its sample is there
            written += 1
    tidy(root, config.split)
    print(f"{root}: {written} pairs written, {there} were there (shard {shard} of {count})")


def stems_of_cityscapes(root: Path, split: str, name: str, number: int) -> dict[str, Path]:
    """Return the paths, without endings, of the photo and the maps of a sample in the Cityscapes layout."""
    # The official tools look for files by the beginning of their names: so that no frame begins with another's, all
    # have the same length, and a first digit that no real one has.
    head, underscore, frame = name.rpartition("_")
    stem = f"{head}{underscore}9{number:03d}{frame}"
    photos, maps = (root / kind / split / name.split("_")[0] for kind in ("leftImg8bit", "gtFine"))
    return {"label": maps / f"{stem}_gtFine_labelIds", "instances": maps / f"{stem}_gtFine_instanceIds",
            "photo": photos / f"{stem}_leftImg8bit"}


def stems_of_images(root: Path, split: str, name: str, number: int) -> dict[str, Path]:
    """Return the paths, without endings, of the images A and B of a sample in folders A and B."""
    return {kind: root / side / split / f"{name}_{number:03d}" for kind, side in (("condition", "A"), ("photo", "B"))}


def save_once(image: Tensor, path: Path) -> None:
    """Write an image if it is not there; another process may be writing the same one, with the same bytes.

    That happens if a job starts again while a process of the old one is still alive. Therefore each process writes to a
    file of a different name, and renames it when it is whole: no process sees or replaces a picture half-written.
    """
    if path.exists():
        return
    own = own_name(path)
    try:
        save_values(image, own)
        os.replace(own, path)
    except FileNotFoundError:
        if not path.exists():  # else another process was first, and has tidied up
            raise


def tidy(root: Path, split: str) -> None:
    """Remove partial files that killed processes left, if the whole file is there by now."""
    for pattern in ("augment.json", f"*/{split}/*", f"*/{split}/*/*.png"):
        for left in root.glob(f"{pattern}{PARTIAL}*"):
            if left.with_name(left.name.rpartition(PARTIAL)[0]).exists():
                left.unlink(missing_ok=True)


def settings(run: Run, config: Config, temperature: float | Sequence[float]) -> dict[str, Any]:
    """Return all settings that the bytes of a synthetic data set depend on."""
    return as_stored({
        "run": run.path, "weights": config.weights, "sha256": files.sha256(run.weights),
        "device": run.device.type, "image_size": config.image_size or run.image_size, "temperature": temperature,
        "samples": config.samples, "seed": config.seed, "data": config.data, "split": config.split,
        "cities": config.cities or None, "guidance": config.guidance or None, "label_maps": config.label_maps,
        "label_values": config.label_values, "given": config.given or None, "dataset": config.dataset,
        "side": config.side, "tile": config.tile or None, "skip_unpaired": config.skip_unpaired or None,
    })


def claim(root: Path, own: dict[str, Any]) -> None:
    """Record the settings in a new directory; refuse a directory of other settings. The first process records them."""
    file = root / "augment.json"
    # In this order: the settings are written first, so a process that sees another file sees them afterwards.
    used = root.exists() and any(not path.name.startswith(file.name) for path in root.iterdir())
    if not file.exists():
        if used:
            raise ValueError(f"--augment {root} is in use for something else: give another directory")
        root.mkdir(parents=True, exist_ok=True)
        partial = own_name(file)
        files.write_json(partial, own)
        try:
            os.link(partial, file)  # unlike a renaming it replaces nothing
        except OSError:
            if not file.exists():  # a file system without links
                os.replace(partial, file)
        partial.unlink(missing_ok=True)
    try:
        before = dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): remove {root} to begin anew") from error
    check_same(file, before, own, "continue with the same settings, or give another --augment")


def own_name(path: Path) -> Path:
    """Return a name that no other process uses, for a file until it is whole."""
    return path.with_name(f"{path.name}{PARTIAL}{secrets.token_hex(4)}")
