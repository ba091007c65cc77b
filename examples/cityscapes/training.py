"""The training loop: pairs of label map and photo, a step of the model's objective, validation, pictures."""

import dataclasses
import inspect
import math
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchmetrics.aggregation import MeanMetric
from tqdm import tqdm

import condflows
from condflows.trace import map_context

import runs
from data import open_dataset
from models import MODELS
from objectives import Adversarial, Likelihood
from pairs import Pairs

if TYPE_CHECKING:
    from train import Config

GRID_ROWS, GRID_SAMPLES = 4, 3


def train(config: "Config") -> Path:
    """Train as the configuration says and return the directory of the run."""
    device = runs.choose_device(config.device)
    torch.manual_seed(config.seed)
    height, width = config.image_size
    for option in ("epochs", "batch_size", "init_pairs", "validate_every"):
        if getattr(config, option) < 1:
            raise ValueError(f"--{option.replace('_', '-')} {getattr(config, option)}: at least 1 is needed")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise ValueError(f"--clip-norm {config.clip_norm}: a positive number is needed; leave it out for no clipping")
    runs.check_temperature(config.temperature, config.model)
    out = config.out or Path("runs") / f"{config.model}-{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    runs.check_free(out, config.overwrite)
    arguments = model_arguments(config)
    pairs = Pairs(device, config.direction, config.boundaries, config.seed)

    train_set = open_dataset(config.data, "train", config.image_size, config.generated, config.seed)
    val_set = open_dataset(config.data, "val", config.image_size, max(1, config.generated // 8), config.seed)
    order = torch.Generator().manual_seed(config.seed)
    train_loader = DataLoader(train_set, config.batch_size, shuffle=True, generator=order, num_workers=config.workers,
                              drop_last=len(train_set) >= config.batch_size, persistent_workers=config.workers > 0)
    val_loader = DataLoader(val_set, config.batch_size, num_workers=config.workers)

    model: Any = MODELS[config.model](**arguments).to(device)
    model = model.to(memory_format=torch.channels_last)
    objective = (Adversarial if config.model == "pix2pix" else Likelihood)(
        model, config, config.epochs * len(train_loader))
    first = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(config.seed))[: config.init_pairs]
    if isinstance(objective, Likelihood):
        for batch in DataLoader(Subset(train_set, first.tolist()), len(first)):
            context, x_b = pairs(batch)
            condflows.initialize(model, x_b, context=context)

    runs.create(out, dataclasses.asdict(config) | {"out": out, "model_arguments": arguments})
    log = runs.Logger(out)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{config.model}: {parameters:,} parameters, {len(train_set)} training and {len(val_set)} validation pairs "
          f"of {height}x{width} on {device}\nrun directory: {out}")
    name = objective.figure
    best, step, epoch = float("inf"), 0, 0
    try:
        for epoch in range(1, config.epochs + 1):
            model.train()
            averages: dict[str, MeanMetric] = {}
            bar = tqdm(train_loader, desc=f"epoch {epoch}/{config.epochs}", dynamic_ncols=True)
            started = time.perf_counter()
            for batch in bar:
                rate = objective.optimizers[0].param_groups[0]["lr"]
                try:
                    figures = objective.step(*pairs(batch, config.flip))
                except FloatingPointError as error:
                    raise ValueError(f"at step {step} {error}, on {batch['name']}; the weights of earlier validations "
                                     f"stay in {out}: lower --learning-rate or set --clip-norm") from error
                step += 1
                for key, value in figures.items():
                    averages.setdefault(key, MeanMetric()).update(value, weight=len(batch["name"]))
                bar.set_postfix({key: f"{figures[key]:.3f}" for key in ("loss", name)})
                log.write("step", step, epoch, **figures, learning_rate=rate)
            speed = len(bar) * config.batch_size / (time.perf_counter() - started)
            means = {key: float(mean.compute()) for key, mean in averages.items()}
            log.write("train", step, epoch, **means, images_per_second=speed)
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                value = validate(objective, val_loader, config)
                log.write("val", step, epoch, **{name: value})
                runs.save_weights(model, out / "model.safetensors")
                if value < best:
                    best = value
                    runs.save_weights(model, out / "best.safetensors")
                picture = sample_grid(model, val_set, config)
                runs.save_picture(picture, out / "samples" / f"epoch_{epoch:04d}.png")
                log.picture(picture, step)
                runs.save_curves(out, name)
                print(f"epoch {epoch}: {runs.FIGURES[name]} {means[name]:.4f} train, {value:.4f} validation "
                      f"(best {best:.4f}), {speed:.1f} images/s")
    except KeyboardInterrupt:
        runs.save_weights(model, out / "model.safetensors")
        print(f"\nstopped in epoch {epoch} after step {step}; the weights of this moment are saved")
        raise
    finally:
        log.close()
        print(f"weights: {out}/model.safetensors (last) and best.safetensors (best on validation, once there was one)\n"
              f"samples: {out}/samples\ncurves:  {out}/curves.png and metrics.csv, or tensorboard --logdir {out}")
    return out


def model_arguments(config: "Config") -> dict[str, Any]:
    """What the model's builder is called with; an option that the model lacks, or a wrong size, is an error."""
    accepted = inspect.signature(MODELS[config.model]).parameters
    given = {"steps": config.steps, "width": config.width, "context_width": config.context_width,
             "checkpoint": config.checkpoint_activations or None, "side_channels": 1 if config.boundaries else None}
    options = {"checkpoint": "checkpoint_activations", "side_channels": "boundaries"}
    arguments = {name: value for name, value in given.items() if value is not None}
    for name in arguments:
        if name not in accepted:
            raise ValueError(f"--{options.get(name, name).replace('_', '-')}: {config.model} has no such option; "
                             "leave it out")
    height, width = config.image_size
    if "depth" in accepted:  # as many levels as the size allows
        divisor = math.gcd(height, width)
        arguments["depth"] = min(accepted["depth"].default, (divisor & -divisor).bit_length() - 1)
        if arguments["depth"] < 5:
            raise ValueError(f"--image-size {height} {width}: {config.model} expects multiples of 32")
    else:
        levels = len(arguments.get("steps", accepted["steps"].default))
        if height % 2**levels or width % 2**levels:
            raise ValueError(f"--image-size {height} {width}: {levels} levels expect multiples of {2**levels}")
    return arguments


@torch.no_grad()
def validate(objective: Likelihood | Adversarial, loader: DataLoader, config: "Config") -> float:
    """Mean figure of a split; the noise is the same at every call."""
    objective.model.eval()
    pairs = Pairs(next(objective.model.parameters()).device, config.direction, config.boundaries)
    mean = MeanMetric()
    for batch in loader:
        mean.update(objective.validate(*pairs(batch)).cpu())
    return float(mean.compute())


@torch.no_grad()
def sample_grid(model: Any, dataset: Any, config: "Config") -> Tensor:
    """Rows of what is given, what is real and samples, for scenes spread over the split; the same at every call."""
    model.eval()
    rows = min(GRID_ROWS, len(dataset))
    items = [dataset[round(i * (len(dataset) - 1) / max(1, rows - 1))] for i in range(rows)]
    pairs = Pairs(next(model.parameters()).device, config.direction, config.boundaries)
    batch = torch.utils.data.default_collate(items)
    context, _ = pairs(batch)
    # One sample at a time, for the memory that large images need.
    contexts = [map_context(lambda x, i=i: x[i:i + 1], context) for i in range(rows)]
    samples = [torch.cat([model.sample(1, x, config.temperature, pairs.noise)[:, 0].cpu() for x in contexts])
               for _ in range(GRID_SAMPLES)]
    return runs.grid([batch[pairs.source] / 255, batch[pairs.target] / 255, *samples])
