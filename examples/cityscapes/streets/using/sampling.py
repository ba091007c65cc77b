"""Samples of a trained model: pictures of scenes, or a synthetic data set."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from streets.config.checks import check_counts, check_finite
from streets.config.sampling import Config
from streets.config.temperatures import check_temperature, text
from streets.data.items import Item
from streets.runs.directory import writing
from streets.runs.pictures import save_image
from streets.runs.run import Run
from streets.system import processes, progress
from streets.using.augmenting import augment, check_augment
from streets.using.drawing import draw, save_grid
from streets.using.scenes import choose, files_of, open_run, with_data


def sample(config: Config) -> None:
    """Write pictures or a data set, as the options say."""
    check_counts(config, samples=1, scenes=1, num_shards=1)
    if (config.out is None) == (config.augment is None):
        raise ValueError("give either --out DIR, for pictures, or --augment DIR, for a data set")
    shard, count = shards(config)
    run, size = open_run(config)
    temperatures = {text(t): t for t in config.temperature or (0.8 if run.has_temperature else 1.0,)}
    config = dataclasses.replace(config, guidance=guidance_of(run, config))
    if not files_of(run, config):
        config = with_data(run, config)
    for temperature in temperatures.values():
        check_temperature(temperature, run.name, run.levels)
    if config.augment is None and (shard, count) != (0, 1):
        raise ValueError("--shard and --num-shards are parts of --augment; leave them out")
    if config.augment is not None:
        check_augment(run, config, temperatures)
        (temperature,) = temperatures.values()
        augment(run, *choose(run, config, size), config, temperature, config.augment, shard, count)
    elif config.out is not None:
        dataset, scenes = choose(run, config, size)
        with writing(config.out, config.overwrite):
            pictures(run, [dataset[i] for i in scenes.values()], config, temperatures, config.out)


def guidance_of(run: Run, config: Config) -> float:
    """Return the weight of guidance, by default that of the training's pictures; refuse it where it is not possible."""
    check_finite(config, "guidance", zero=True)
    if config.guidance is None:
        return run.guidance(run.config.get("guidance", 0.0))
    if config.guidance != run.guidance(config.guidance):
        raise ValueError(f"--guidance {config.guidance:g}: {run.path} was not trained with --label-dropout, so it does "
                         "not know photos without labels; leave it out")
    return config.guidance


def shards(config: Config) -> tuple[int, int]:
    """Return the number of the shard that this process makes, and the number of shards."""
    if processes.world() == 1:
        return config.shard, config.num_shards
    if config.augment is None:
        raise ValueError(f"--out: {processes.world()} processes were started, but pictures are made by one; start it "
                         "without torchrun")
    if (config.shard, config.num_shards) != (0, 1):
        raise ValueError(f"--shard and --num-shards: {processes.world()} processes were started, and they are the "
                         "shards; leave them out")
    return processes.rank(), processes.world()


def pictures(run: Run, items: Sequence[Item], config: Config, temperatures: Mapping[str, float | Sequence[float]],
             out: Path) -> None:
    """Write the given images, every sample, and a grid with a row for each scene."""
    pairs = run.pairs()
    for item in items:
        save_image(item[pairs.source], out / f"{item['name']}_condition")
    rows = []
    for item in progress.bar(items, desc="scenes"):
        row = [item[key] for key in (pairs.source, pairs.target) if key in item]
        for name, temperature in temperatures.items():
            stem = item["name"] + (f"_temperature_{name}" if len(temperatures) > 1 else "")
            for number in range(config.samples):
                row.append(draw(run, item, number, temperature, config.seed, config.guidance or 0.0))
                save_image(row[-1], out / f"{stem}_sample_{number}")
        rows.append(row)
    save_grid(rows, out / "grid.png")
    print(f"{len(items)} scenes, {config.samples} samples of each at temperature {', '.join(temperatures)}: "
          f"{out}/grid.png, and each in a file of its own beside it")
