"""What evaluate.py does: every run measured, and its results beside the ceiling and the floors."""

import copy
import dataclasses
import hashlib
import json
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import cli
import report
import runs
from classifiers import load_judge
from data import open_dataset
from judging import bits, judge_samples, references
from objectives import Adversarial, Likelihood
from pairs import to_bytes
from train import Config as Options

if TYPE_CHECKING:
    from evaluate import Config

SWEEP = tuple(i / 10 for i in range(11))


def evaluate(config: "Config") -> dict[str, Any]:
    """Measure every run, write all results into one directory, and return them."""
    device = runs.choose_device(config.device)
    config = checked(config)
    models = [runs.Run(path, config.weights, device) for path in config.runs]
    direction, size = models[0].direction, config.image_size or models[0].image_size
    for run in models:
        if run.direction != direction:
            raise ValueError(f"{run.path} is {run.direction} and {models[0].path} is {direction}: evaluate them apart")
        if config.image_size is None and run.image_size != size:
            raise ValueError(f"{run.path} was trained at {run.image_size} and {models[0].path} at {size}: choose an "
                             "--image-size")
        run.check_size(size)
    name = config.judge or ("colors" if direction == "photo2label" else None)
    if name is None or (name == "colors") != (direction == "photo2label"):
        raise ValueError(f"--judge {name}: photos need one of espnet-camvid, pspnet, and label maps colors; these runs "
                         f"are {direction}")
    names = unique_names(models)
    judge = load_judge(name, config.judge_weights, device)
    train_set = open_dataset(config.data, "train", size, config.generated)
    dataset = open_dataset(config.data, config.split, size, config.generated)
    runs.check_free(config.out, config.overwrite or config.keep)
    config.out.mkdir(parents=True, exist_ok=True)

    settings = {
        "data": str(config.data), "split": config.split, "image_size": list(size), "pairs": len(dataset),
        "judge": name, "judge_weights": digest(config.judge_weights), "repeats": config.repeats, "draws": config.draws,
        "batch_size": config.batch_size, "seed": config.seed,
    }
    results: dict[str, Any] = {"settings": settings, "runs": {}}
    kept = Kept(config.out / "references.json", settings, config.keep, config.overwrite)
    results["references"] = kept.get("scores", lambda: references(
        dataset, train_set, judge, direction, config.batch_size))
    for key, run in tqdm(zip(names, models, strict=True), total=len(models), desc="runs"):
        weights = digest(run.weights)
        kept = Kept(config.out / f"{key}.json", settings | {"weights": weights}, config.keep, config.overwrite)
        results["runs"][key] = measure(run, dataset, judge, config, kept)

    runs.write_json(config.out / "results.json", results)
    (config.out / "results.md").write_text(report.markdown(results))
    report.plot_temperatures(results, config.out / "temperatures.png")
    report.plot_classes(results, config.out / "classes.png")
    report.plot_confusion(results, config.out / "confusion.png")
    report.plot_curves({key: run.metrics() for key, run in zip(names, models, strict=True)}, config.out / "curves.png")
    report.plot_samples(*pictures(models, names, dataset, config), config.out / "samples.png")
    print((config.out / "results.md").read_text())
    return results


def checked(config: "Config") -> "Config":
    """The configuration with its temperatures; what cannot be measured is refused before any work is done."""
    if not config.runs:
        raise ValueError("there is nothing to evaluate: give the directories of one or several runs of train.py")
    cli.check_counts(config, repeats=1, draws=1, scenes=1, batch_size=1, generated=1, seed=0)
    if config.sweep and config.temperatures:
        raise ValueError("--sweep is temperatures 0.0 to 1.0: leave out --temperatures")
    temperatures = SWEEP if config.sweep else config.temperatures or (1.0,)
    for temperature in (*temperatures, config.picture_temperature):
        runs.check_temperature(temperature, "flow")
    return dataclasses.replace(config, temperatures=temperatures)


class Kept:
    """Figures in a file, written one by one; those of the same settings that are there are taken if ``keep``."""

    def __init__(self, path: Path, settings: dict[str, Any], keep: bool, overwrite: bool):
        self.path, self.values = path, {"settings": settings}
        if keep and path.exists():
            try:
                there = json.loads(path.read_text())
                before = there["settings"]
                different = [name for name in settings if before.get(name) != settings[name]]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is no file of measurements ({error!r}): remove it") from error
            if not different:
                self.values = there
            elif not overwrite:
                name = different[0]
                raise ValueError(f"{path} was measured with {name} {before.get(name)}, asked for is {settings[name]}: "
                                 "give another --out, or --overwrite to replace it")

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        if key not in self.values:
            self.values[key] = measure()
            runs.write_json(self.path, self.values)
        return self.values[key]


def measure(run: runs.Run, dataset: Any, judge: Any, config: "Config", kept: Kept) -> dict[str, Any]:
    """All figures of one run."""
    options = {"repeats": config.repeats, "batch_size": config.batch_size, "seed": config.seed}
    log_prob = (dataset, config.draws, config.batch_size, config.seed)
    scores = []
    for temperature in tqdm(config.temperatures if run.is_flow else [None], desc=str(run.path), leave=False):
        judged = partial(judge_samples, run, dataset, judge, temperature, **options)
        scores.append(kept.get(f"scores at {temperature}", judged))
    return {
        "run": str(run.path),
        "model": run.name,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "training": training_cost(run, dataset[0]),
        "bits_per_dim": kept.get("bits_per_dim", lambda: bits(run, *log_prob)) if run.is_flow else None,
        "scores": scores,
    }


def training_cost(run: runs.Run, item: dict[str, Any]) -> dict[str, float] | None:
    """Training images seen, hours, and floating-point operations of a training step for one image of this size.

    None of a model that was not trained by train.py.
    """
    epochs = [row for row in run.metrics() if row["split"] == "train"]
    if not epochs:
        return None
    options = Namespace(**dataclasses.asdict(Options()) | run.config)  # runs of older versions have fewer
    size, ends = options.batch_size, [0, *(int(row["step"]) for row in epochs)]
    seconds = sum(size * (end - begin) / float(row["images_per_second"])
                  for begin, end, row in zip(ends, ends[1:], epochs, strict=False) if row["images_per_second"])
    objective = (Likelihood if run.is_flow else Adversarial)(copy.deepcopy(run.model).train(), options)  # type: ignore
    with FlopCounterMode(display=False) as counter:
        objective.update([run.pairs()(default_collate([item]))])
    return {"images": size * ends[-1], "hours": seconds / 3600,
            "gflop_per_image": counter.get_total_flops() / 1e9}


@torch.no_grad()
def pictures(models: list[runs.Run], names: list[str], dataset: Any, config: "Config") -> tuple[list, list[str]]:
    """Columns of images (rows, 3, H, W) and their titles: what is given, what is real, a sample of each model."""
    count = min(config.scenes, len(dataset))
    batch = default_collate([dataset[round(i * (len(dataset) - 1) / max(1, count - 1))] for i in range(count)])
    pairs = models[0].pairs(config.seed)
    columns, titles = [batch[pairs.source], batch[pairs.target]], ["condition", "real"]
    for name, run in zip(names, models, strict=True):
        pairs = run.pairs(config.seed)
        temperature = config.picture_temperature if run.is_flow else 1.0
        columns.append(to_bytes(run.model.sample(1, pairs.context(batch), temperature, pairs.noise)[:, 0]).cpu())
        titles.append(name)
    return columns, titles


def unique_names(models: list[runs.Run]) -> list[str]:
    """The model's name for each run, or the directory's where two runs are of one model."""
    of_models = [run.name for run in models]
    names = [run.name if of_models.count(run.name) == 1 else run.path.resolve().name for run in models]
    if len(set(names)) < len(names):
        raise ValueError(f"two of the runs have the name {max(names, key=names.count)}: rename a directory")
    return names


def digest(path: Path | None) -> str | None:
    """Of a file, or of the weights and the configuration in a directory."""
    if path is None:
        return None
    files = [path] if path.is_file() else [path / "model.safetensors", path / "config.json"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
