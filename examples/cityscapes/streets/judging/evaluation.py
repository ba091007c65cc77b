"""Evaluation of runs: measurements of each, beside those of real images (ceiling) and of two floors."""

import copy
import dataclasses
from argparse import Namespace
from functools import partial
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from streets.config import data as place
from streets.config.evaluation import Config, check_temperatures
from streets.config.training import Config as TrainingConfig
from streets.data.datasets import open_dataset, say_notes, spread
from streets.data.pairs import to_bytes
from streets.judging import plots
from streets.judging.bits import bits
from streets.judging.fitting import checked, chosen_judge, common, common_data
from streets.judging.judges import load_judge
from streets.judging.kept import Kept, digest
from streets.judging.reconstruction import reconstruction
from streets.judging.references import references
from streets.judging.scores import judge_samples
from streets.judging.tables import markdown
from streets.runs.directory import writing
from streets.runs.pictures import visible
from streets.runs.run import Run
from streets.system import files, progress
from streets.system.devices import choose_device
from streets.training.objectives import make_objective


def evaluate(config: Config) -> dict[str, Any]:
    """Measure every run, write all results into one directory, and return them."""
    config = checked(config)
    device = choose_device(config.device)
    with writing(config.out, config.overwrite or config.keep):
        models = [Run(path, config.weights, device) for path in config.runs]
        direction, size = common(models, config)
        for run in models:
            if run.has_temperature:
                check_temperatures(config, run.name, run.levels)
        if config.guidance and not any(run.guidance(config.guidance) for run in models):
            raise ValueError(f"--guidance {config.guidance:g}: none of the runs was trained with --label-dropout, so "
                             "none knows photos without labels; leave it out")
        names, judge_name = unique_names(models), chosen_judge(config, direction, models[0].of_images)
        judge = None if judge_name is None else load_judge(judge_name, config.judge_weights, device, models[0].labels)
        data = common_data(models, config)
        maps = models[0].maps(config.label_values, data)
        trained_on = models[0].cities(data)
        options = models[0].options(config, data)
        dataset = open_dataset(data, config.split, size, config.generated, cities=config.cities, maps=maps,
                               options=options)
        for run in models:
            run.check_data(dataset)
        say_notes(dataset)
        if judge is not None and not dataset.has_label_maps:
            raise ValueError(f"--judge {judge_name}: these data have no label maps to compare with: leave it out")
        settings: dict[str, Any] = {
            "data": config.dataset or place.name_of(data), "split": config.split, "cities": config.cities or None,
            "label_values": maps.values, "image_size": list(size), "pairs": len(dataset),
            "judge": judge_name, "judge_weights": digest(config.judge_weights), "repeats": config.repeats,
            "draws": config.draws, "batch_size": config.batch_size, "seed": config.seed,
            "mean_colours_of": trained_on or None,
        } | ({"tile": True} if options.tile else {}) | ({"side": options.side} if options.side else {})
        results: dict[str, Any] = {"settings": settings, "runs": {}, "references": {}}
        if judge is not None:
            train_set = open_dataset(data, "train", size, config.generated, cities=trained_on, maps=maps,
                                     options=options, hold_out=config.split == "val")
            kept = Kept(config.out / "references.json", settings, config.keep, config.overwrite)
            results["references"] = kept.get(
                "scores", lambda: references(dataset, train_set, judge, direction, config.batch_size))
        for name, run in progress.bar(zip(names, models, strict=True), total=len(models), desc="runs"):
            kept = Kept(config.out / f"{name}.json", settings | {"weights": digest(run.weights)}, config.keep,
                        config.overwrite)
            results["runs"][name] = measure(run, dataset, judge, config, kept)
        write(results, dict(zip(names, models, strict=True)), dataset, config)
    return results


def write(results: dict[str, Any], models: dict[str, Run], dataset: Any, config: Config) -> None:
    """Write the results, their tables and plots, and samples of all models; print the tables."""
    out, text = config.out, markdown(results)
    files.write_json(out / "results.json", results)
    with files.written(out / "results.md") as partial_file:
        partial_file.write_text(text)
    judged = {"temperatures": plots.plot_temperatures, "classes": plots.plot_classes, "confusion": plots.plot_confusion}
    for name, plot in judged.items():
        if results["references"]:
            plot(results, out / f"{name}.png")
        else:  # of an earlier evaluation, with a judge
            (out / f"{name}.png").unlink(missing_ok=True)
    plots.plot_curves({name: run.metrics() for name, run in models.items()}, out / "curves.png")
    plots.plot_samples(*pictures(models, dataset, config), out / "samples.png")
    print(text)


def measure(run: Run, dataset: Any, judge: Any, config: Config, kept: Kept) -> dict[str, Any]:
    """Measure all figures of one run."""
    options: dict[str, Any] = {"repeats": config.repeats, "batch_size": config.batch_size, "seed": config.seed,
                               "guidance": run.guidance(config.guidance)}
    log_prob = (dataset, config.draws, config.batch_size, config.seed)
    there_and_back = partial(reconstruction, run, dataset, config.batch_size, config.seed)
    scores = []
    temperatures = config.temperatures if run.has_temperature else [None]
    for temperature in progress.bar(temperatures, desc=str(run.path), leave=False):
        judged = partial(judge_samples, run, dataset, judge, temperature, **options)
        guided = f", guidance {options['guidance']:g}" if options["guidance"] else ""
        scores.append(kept.get(f"scores at {temperature}{guided}", judged))
    return {
        "run": str(run.path),
        "model": run.name,
        "noise": run.noise,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "training": training_cost(run, dataset[0]),
        "bits_per_dim": kept.get("bits_per_dim", lambda: bits(run, *log_prob)) if run.has_likelihood else None,
        "reconstruction": kept.get("reconstruction", there_and_back) if run.has_likelihood else None,
        "scores": scores,
    }


def training_cost(run: Run, item: dict[str, Any]) -> dict[str, float] | None:
    """Return training images seen, hours, and floating-point operations of a training step for one image of this size.

    None for a model without curves, such as an exported one.
    """
    epochs = [row for row in run.metrics() if row["split"] == "train"]
    if not epochs:
        return None
    options = Namespace(**dataclasses.asdict(TrainingConfig()) | run.config)  # runs of older versions have fewer
    size, ends = options.batch_size, [0, *(int(row["step"]) for row in epochs)]
    seconds = sum(size * (end - begin) / float(row["images_per_second"])
                  for begin, end, row in zip(ends, ends[1:], epochs, strict=False) if row["images_per_second"])
    objective = make_objective(copy.deepcopy(run.model).train(), options, run.pixels)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter:
        objective.update([run.pairs()(default_collate([item]))])
    return {"images": size * ends[-1], "hours": seconds / 3600,
            "gflop_per_image": counter.get_total_flops() / 1e9}


@torch.no_grad()
def pictures(models: dict[str, Run], dataset: Any, config: Config) -> tuple[list, list[str]]:
    """Return columns of images (rows, 3, H, W) and their titles: given images, real ones, a sample of each model."""
    batch = default_collate([dataset[i] for i in spread(len(dataset), config.scenes)])
    pairs = next(iter(models.values())).pairs(config.seed)
    columns = [visible(batch[pairs.source], pairs.given.bits), visible(batch[pairs.target], pairs.wanted.bits)]
    titles = ["condition", "real"]
    for name, run in models.items():
        pairs = run.pairs(config.seed)
        temperature = config.picture_temperature if run.has_temperature else 1.0
        samples = run.sample(1, pairs.context(batch), temperature, pairs.noise, run.guidance(config.guidance))
        columns.append(visible(to_bytes(samples[:, 0], bits=pairs.wanted.bits), pairs.wanted.bits).cpu())
        titles.append(name)
    return columns, titles


def unique_names(models: list[Run]) -> list[str]:
    """Name each run by its model, or by its directory where two runs are of one model."""
    of_models = [run.name for run in models]
    names = [run.name if of_models.count(run.name) == 1 else run.path.resolve().name for run in models]
    if len(set(names)) < len(names):
        raise ValueError(f"two of the runs have the name {max(names, key=names.count)}: rename a directory")
    return names
