"""What sample.py and transfer.py do once torch is there: scenes, reproducible samples, files."""

import hashlib
import json
import os
import secrets
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

import cli
import processes
import runs
from data import Item, open_dataset, read_label_map, read_photo
from pairs import to_bytes
from runs import Run

if TYPE_CHECKING:
    import transfer
    from sample import Config

SCENES = 4
"""Scenes of a grid where nothing is said of them."""
MOST_SAMPLES = 1000
"""Of a scene in a data set: three digits of its name number them."""
PARTIAL = ".partial-"
"""Between the name of a file and that of its writer, until the file is whole."""


def open_run(config: "Config | transfer.Config") -> tuple[Run, tuple[int, int]]:
    """The run of a command line, its model without gradients, and the size of the images."""
    run = Run(config.run, config.weights, runs.choose_device(config.device))
    run.model.requires_grad_(False)
    size = config.image_size or run.image_size
    run.check_size(size)
    return run, size


def open_scenes(run: Run, config: "Config | transfer.Config", size: Sequence[int]) -> Any:
    """A split of the data set, or of generated scenes, as many as in training."""
    length, seed = run.config.get("generated", 640), run.config.get("seed", 0)
    return open_dataset(config.data, config.split, size, length if config.split == "train" else max(1, length // 8),
                        seed)


def find(dataset: Any, scenes: Sequence[str]) -> list[int]:
    """The indices of scenes that are given by index or by name."""
    numbers = {name: i for i, name in enumerate(dataset.names)}
    for scene in scenes:
        if scene not in numbers and not (scene.isdecimal() and int(scene) < len(dataset)):
            raise ValueError(f"no scene {scene} among the {len(dataset)}: give an index from 0 to {len(dataset) - 1}, "
                             f"or a name such as {dataset.names[0]}")
    return [numbers[scene] if scene in numbers else int(scene) for scene in scenes]


def tensors(run: Run, item: Item, seed: int) -> tuple[Any, Any]:
    """Context and x_b of one scene, in a batch of one; x_b is None where the item lacks it."""
    pairs, batch = run.pairs(_hash(seed, item["name"])), default_collate([item])
    return pairs.context(batch), pairs.modelled(batch) if pairs.target in batch else None


def draw(run: Run, item: Item, number: int, temperature: float, seed: int) -> Tensor:
    """A sample, uint8 ``(3, H, W)``; its noise depends on ``seed``, the scene's name and the sample's number alone."""
    noise = torch.Generator().manual_seed(_hash(seed, item["name"], number))
    image = run.model.sample(1, tensors(run, item, seed)[0], temperature, noise)[0, 0]
    return to_bytes(image, f"sample {number} of {item['name']} at temperature {temperature:g}").cpu()


def save_grid(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Write rows of uint8 images as one picture."""
    runs.save_picture(runs.grid([torch.stack(column) / 255 for column in zip(*rows, strict=True)]), path)


def sample(config: "Config") -> None:
    """Do what the command line of sample.py says."""
    cli.check_counts(config, samples=1, scenes=1, num_shards=1)
    if (config.out is None) == (config.augment is None):
        raise ValueError("give either --out DIR, for pictures, or --augment DIR, for a data set")
    shard, count = config.shard, config.num_shards
    if processes.world() > 1:
        if config.augment is None:
            raise ValueError(f"--out: {processes.world()} processes were started, but pictures are made by one; start "
                             "it without torchrun")
        if (shard, count) != (0, 1):
            raise ValueError(f"--shard and --num-shards: {processes.world()} processes were started, and they are the "
                             "shards; leave them out")
        shard, count = processes.rank(), processes.world()
    run, size = open_run(config)
    temperatures = {f"{t:g}": t for t in config.temperature or (0.8 if run.is_flow else 1.0,)}
    for temperature in temperatures.values():
        runs.check_temperature(temperature, run.name)
    if config.augment is None and (shard, count) != (0, 1):
        raise ValueError("--shard and --num-shards are parts of --augment; leave them out")
    if config.augment is not None:
        check_augment(run, config, temperatures)
        (temperature,) = temperatures.values()
        augment(run, *choose(run, config, size), config, temperature, config.augment, shard, count)
    elif config.out is not None:
        dataset, scenes = choose(run, config, size)
        pictures(run, [dataset[i] for i in scenes.values()], config, temperatures, config.out)


def choose(run: Run, config: "Config", size: Sequence[int]) -> tuple[Any, dict[str, int]]:
    """Items, and where among them the scenes are that were asked for, by name."""
    label2photo = run.direction == "label2photo"
    option, files = ("--label-maps", config.label_maps) if label2photo else ("--photos", config.photos)
    if config.photos if label2photo else config.label_maps:
        raise ValueError(f"{run.path} is a {run.direction} model: give it {option}")
    if files:
        if config.data or config.indices or config.scenes is not None:
            raise ValueError(f"{option} are the scenes: leave out --data, --indices and --scenes")
        read = read_label_map if label2photo else read_photo
        dataset: Any = [read(file, size) for file in files]
        places, names = list(range(len(files))), [item["name"] for item in dataset]
    else:
        dataset = open_scenes(run, config, size)
        places, names = find(dataset, config.indices), dataset.names
        if not places:
            every = len(dataset)
            count = config.scenes if config.scenes is not None else every if config.augment else SCENES
            count = min(count, every)
            places = [round(i * (every - 1) / max(1, count - 1)) for i in range(count)]
        names = [names[place] for place in places]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} scenes are named {name}, and so would be their files: leave all but one of them out")
    return dataset, dict(zip(names, places, strict=True))


def pictures(run: Run, items: Sequence[Item], config: "Config", temperatures: Mapping[str, float],
             out: Path) -> None:
    """Write what is given, every sample, and a grid with a row for each scene."""
    runs.check_free(out, config.overwrite)
    out.mkdir(parents=True, exist_ok=True)
    pairs = run.pairs()
    for item in items:
        runs.save_picture(item[pairs.source], out / f"{item['name']}_condition.png")
    rows = []
    for item in tqdm(items, desc="scenes", dynamic_ncols=True):
        row = [item[key] for key in (pairs.source, pairs.target) if key in item]
        for name, temperature in temperatures.items():
            stem = item["name"] + (f"_temperature_{name}" if len(temperatures) > 1 else "")
            for number in range(config.samples):
                row.append(draw(run, item, number, temperature, config.seed))
                runs.save_picture(row[-1], out / f"{stem}_sample_{number}.png")
        rows.append(row)
    save_grid(rows, out / "grid.png")
    print(f"{len(items)} scenes, {config.samples} samples of each at temperature {', '.join(temperatures)}: "
          f"{out}/grid.png, and each in a file of its own beside it")


def check_augment(run: Run, config: "Config", temperatures: Mapping[str, float]) -> None:
    """Refuse what makes no data set."""
    if run.direction != "label2photo" or run.name == "glow":
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


def augment(run: Run, dataset: Any, scenes: Mapping[str, int], config: "Config", temperature: float,
            root: Path, shard: int, count: int) -> None:
    """Write the shard's part of a data set in the Cityscapes layout, as far as it is not there."""
    claim(root, settings(run, config, temperature))
    # A data set has instances for all of its label maps or for none.
    with_instances = not isinstance(dataset, list) or all("instances" in item for item in dataset)
    written = there = 0
    names = tqdm(list(scenes)[shard::count], desc=f"scenes of shard {shard} of {count}" if count > 1 else "scenes",
                 dynamic_ncols=True, disable=processes.rank() > 0)
    for name in names:
        photos, maps = (root / kind / config.split / name.split("_")[0] for kind in ("leftImg8bit", "gtFine"))
        for folder in (photos, maps):
            folder.mkdir(parents=True, exist_ok=True)
        item: Item = {}
        for number in range(config.samples):
            # The official tools look for files by the beginning of their names: so that no frame begins with
            # another's, all have the same length, and a first digit that no real one has.
            head, underscore, frame = name.rpartition("_")
            stem = f"{head}{underscore}9{number:03d}{frame}"
            photo = photos / f"{stem}_leftImg8bit.png"
            if photo.exists():
                there += 1
                continue
            item = item or dataset[scenes[name]]
            image = draw(run, item, number, temperature, config.seed)
            save_once(item["label"], maps / f"{stem}_gtFine_labelIds.png")
            if with_instances and "instances" in item:
                save_once(item["instances"].to(torch.uint16), maps / f"{stem}_gtFine_instanceIds.png")
            save_once(image, photo)  # last: a pair is complete if its photo is there
            written += 1
    tidy(root, config.split)
    print(f"{root}: {written} pairs written, {there} were there (shard {shard} of {count})")


def save_once(picture: Tensor, path: Path) -> None:
    """Write a picture that is not there; others may do the same at the same moment, with the same bytes.

    They do where a job begins again while a process of the old one still lives. Therefore the name is its own until
    the picture is whole: nobody writes into the file of another, or puts it in place half-written.
    """
    if path.exists():
        return
    own = _own_name(path)
    try:
        runs.save_picture(picture, own)
        os.replace(own, path)
    except FileNotFoundError:
        if not path.exists():  # else another was first, and has tidied up
            raise


def tidy(root: Path, split: str) -> None:
    """Remove what killed processes left of files that are there by now."""
    for pattern in ("augment.json", f"*/{split}/*/*.png"):
        for left in root.glob(f"{pattern}{PARTIAL}*"):
            if left.with_name(left.name.rpartition(PARTIAL)[0]).exists():
                left.unlink(missing_ok=True)


def settings(run: Run, config: "Config", temperature: float) -> dict[str, Any]:
    """All that the bytes of a synthetic data set depend on."""
    weights = run.weights
    return json.loads(json.dumps({
        "run": run.path, "weights": config.weights, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "device": run.device.type, "image_size": config.image_size or run.image_size, "temperature": temperature,
        "samples": config.samples, "seed": config.seed, "data": config.data, "split": config.split,
        "label_maps": config.label_maps,
    }, default=str))


def claim(root: Path, own: dict[str, Any]) -> None:
    """Record the settings in a directory that is new, or see that it was filled with the same; the first one wins."""
    file = root / "augment.json"
    # In this order: the settings are older than all else, so who sees something else sees them afterwards.
    used = root.exists() and any(not path.name.startswith(file.name) for path in root.iterdir())
    if not file.exists():
        if used:
            raise ValueError(f"--augment {root} is in use for something else: give another directory")
        root.mkdir(parents=True, exist_ok=True)
        partial = _own_name(file)
        runs.write_json(partial, own)
        try:
            os.link(partial, file)  # unlike a renaming it replaces nothing
        except OSError:
            if not file.exists():  # a file system without links
                os.replace(partial, file)
        partial.unlink(missing_ok=True)
    try:
        other = json.loads(file.read_text())
        different = [key for key in own if other.get(key) != own[key]]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error}): remove {root} to begin anew") from error
    if different:
        was, now = (", ".join(f"{key} {of.get(key)}" for key in different) for of in (other, own))
        raise ValueError(f"{file}: made with {was}, asked for now: {now}; continue with the same settings or give "
                         "another --augment")


def _own_name(path: Path) -> Path:
    return path.with_name(f"{path.name}{PARTIAL}{secrets.token_hex(4)}")


def _hash(*parts: object) -> int:
    return zlib.crc32(" ".join(map(str, parts)).encode())
