"""What evaluate.py does: every run measured, and its results beside the ceiling and the floors."""

import copy
import csv
import hashlib
import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import report
import runs
from classifiers import load_judge
from data import open_dataset
from judging import bits, judge_samples, references
from objectives import Adversarial, Likelihood
from pairs import to_bytes

if TYPE_CHECKING:
    from evaluate import Config


def evaluate(config: "Config") -> dict[str, Any]:
    """Measure every run, write all results into one directory, and return them."""
    device = runs.choose_device(config.device)
    check(config)
    models = [runs.Run(path, config.weights, device) for path in config.runs]
    direction, size = models[0].direction, config.image_size or models[0].image_size
    for run in models:
        if run.direction != direction:
            raise ValueError(f"{run.path} is {run.direction} and {models[0].path} is {direction}: evaluate them apart")
        run.check_size(size)
    name = config.judge or ("colors" if direction == "photo2label" else None)
    if name is None:
        raise ValueError("--judge: photos need one of espnet-camvid, pspnet; see --help")
    judge = load_judge(name, config.judge_weights, device)
    train_set = open_dataset(config.data, "train", size, config.generated)
    dataset = open_dataset(config.data, config.split, size, config.generated)
    prepare(config.out, config.overwrite or config.keep)

    settings = {
        "data": str(config.data), "split": config.split, "image_size": list(size), "pairs": len(dataset),
        "judge": name, "judge_weights": digest(config.judge_weights), "temperatures": list(config.temperatures),
        "repeats": config.repeats, "draws": config.draws, "batch_size": config.batch_size, "seed": config.seed,
    }
    results: dict[str, Any] = {"settings": settings, "references": None, "runs": {}}
    names = unique_names(models)
    for key, run in tqdm(zip(names, models, strict=True), total=len(models), desc="runs"):
        identity = settings | {"weights": digest(run.path / runs.WEIGHTS[config.weights])}
        file = config.out / f"{key}.json"
        kept = json.loads(file.read_text()) if config.keep and file.exists() else {}
        if kept.get("identity") != identity:
            kept = {"identity": identity} | measure(run, dataset, judge, config)
            write_json(file, kept)
        results["runs"][key] = kept
    results["references"] = references(dataset, train_set, judge, direction, config.batch_size)

    write_json(config.out / "results.json", results)
    (config.out / "results.md").write_text(report.markdown(results))
    report.plot_temperatures(results, config.out / "temperatures.png")
    report.plot_classes(results, config.out / "classes.png")
    report.plot_confusion(results, config.out / "confusion.png")
    report.plot_samples(*pictures(models, names, dataset, config), config.out / "samples.png")
    print((config.out / "results.md").read_text())
    return results


def check(config: "Config") -> None:
    """Refuse what cannot be measured, before any work is done."""
    for option in ("repeats", "draws", "scenes", "batch_size", "generated"):
        if getattr(config, option) < 1:
            raise ValueError(f"--{option.replace('_', '-')} {getattr(config, option)}: at least 1 is needed")
    if not config.temperatures or min(config.temperatures) < 0:
        raise ValueError(f"--temperatures {config.temperatures}: one or more of at least 0 are needed")
    if (config.out / "results.json").exists() and not (config.overwrite or config.keep):
        raise ValueError(f"{config.out} already holds results: give another --out, --keep to add to them, or "
                         "--overwrite to replace them")


def prepare(out: Path, used: bool) -> None:
    """Make the directory and see that it can be written to."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("*.json")) and not used:
        raise ValueError(f"{out} already holds results: give another --out, --keep to add to them, or --overwrite")
    (out / ".write-test").touch()
    (out / ".write-test").unlink()


def measure(run: runs.Run, dataset: Any, judge: Any, config: "Config") -> dict[str, Any]:
    """All figures of one run."""
    temperatures: Sequence[float | None] = config.temperatures if run.is_flow else [None]
    options = {"repeats": config.repeats, "batch_size": config.batch_size, "seed": config.seed}
    return {
        "run": str(run.path),
        "model": run.name,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "training": training_cost(run, dataset[0]),
        "bits_per_dim": bits(run, dataset, config.draws, config.batch_size, config.seed) if run.is_flow else None,
        "scores": [judge_samples(run, dataset, judge, temperature, **options)
                   for temperature in tqdm(temperatures, desc=str(run.path), leave=False)],
    }


def training_cost(run: runs.Run, item: dict[str, Any]) -> dict[str, float]:
    """Training images seen, hours, and floating-point operations of a training step for one image."""
    curves = run.path / "metrics.csv"
    lines = curves.read_text().splitlines() if curves.exists() else []
    epochs = [row for row in csv.DictReader(lines) if row["split"] == "train"]
    per_epoch = int(epochs[0]["step"]) * run.config["batch_size"] if epochs else 0
    seconds = sum(per_epoch / float(row["images_per_second"]) for row in epochs)
    objective = (Likelihood if run.is_flow else Adversarial)(
        copy.deepcopy(run.model).train(), Namespace(**run.config), 1)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter:
        objective.step(*run.pairs()(default_collate([item])))
    return {"images": per_epoch * len(epochs), "hours": seconds / 3600,
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
    return None if path is None or not path.is_file() else hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)
