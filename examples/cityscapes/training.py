"""The training loop: objective (11) of the Full-Glow paper on pairs of label map and photo."""

import dataclasses
import math
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Subset
from torchmetrics.aggregation import MeanMetric
from tqdm import tqdm

import condflows
from condflows import bits_per_dim, dequantize

import runs
from data import open_dataset
from models import MODELS

if TYPE_CHECKING:
    from train import Config

GRID_ROWS, GRID_SAMPLES = 4, 3


def train(config: "Config") -> Path:
    """Train as the configuration says and return the directory of the run."""
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(config.seed)
    height, width = config.image_size
    for option in ("epochs", "batch_size", "init_pairs", "validate_every"):
        if getattr(config, option) < 1:
            raise ValueError(f"--{option.replace('_', '-')} {getattr(config, option)}: at least 1 is needed")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise ValueError(f"--clip-norm {config.clip_norm}: a positive number is needed; leave it out for no clipping")
    out = config.out or Path("runs") / f"{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    runs.check_free(out, config.overwrite)
    unit = 2 ** len(config.steps)
    if height % unit or width % unit:
        raise ValueError(f"--image-size {height} {width}: {len(config.steps)} levels expect multiples of {unit}")

    train_set = open_dataset(config.data, "train", config.image_size, config.generated, config.seed)
    val_set = open_dataset(config.data, "val", config.image_size, max(1, config.generated // 8), config.seed)
    order = torch.Generator().manual_seed(config.seed)
    train_loader = DataLoader(train_set, config.batch_size, shuffle=True, generator=order, num_workers=config.workers,
                              drop_last=len(train_set) >= config.batch_size, persistent_workers=config.workers > 0)
    val_loader = DataLoader(val_set, config.batch_size, num_workers=config.workers)

    arguments = {"steps": config.steps, "width": config.width, "context_width": config.context_width,
                 "checkpoint": config.checkpoint_activations}
    model: Any = MODELS[config.model](**arguments).to(device)
    model = model.to(memory_format=torch.channels_last)
    noise = torch.Generator(device).manual_seed(config.seed)
    pairs = Pairs(device, noise)
    first = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(config.seed))[: config.init_pairs]
    for batch in DataLoader(Subset(train_set, first.tolist()), len(first)):
        x_a, x_b = pairs(batch)
        condflows.initialize(model, x_b, context=x_a)

    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    total_steps = config.epochs * len(train_loader)
    schedule = LambdaLR(optimizer, learning_rate_factor(config.warmup_steps, total_steps, config.linear_decay))

    runs.create(out, dataclasses.asdict(config) | {"out": out, "model_arguments": arguments})
    log = runs.Logger(out)
    dims = x_b.shape[1:].numel()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{config.model}: {parameters:,} parameters, {len(train_set)} training and {len(val_set)} validation pairs "
          f"of {height}x{width} on {device}\nrun directory: {out}")
    best, step, epoch = float("inf"), 0, 0
    try:
        for epoch in range(1, config.epochs + 1):
            model.train()
            averages = {name: MeanMetric() for name in ("loss", "bits_per_dim", "source_bits_per_dim")}
            bar = tqdm(train_loader, desc=f"epoch {epoch}/{config.epochs}", dynamic_ncols=True)
            started = time.perf_counter()
            for batch in bar:
                x_a, x_b = pairs(batch, config.flip)
                log_p_a, log_p_b = model(x_a, x_b)
                loss = -(config.source_weight * log_p_a + log_p_b).mean() / dims
                figures = torch.stack([loss, bits_per_dim(log_p_b, dims).mean(),
                                       bits_per_dim(log_p_a, x_a.shape[1:]).mean()]).detach().cpu()
                optimizer.zero_grad()
                loss.backward()
                limit = float("inf") if config.clip_norm is None else config.clip_norm
                norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))
                if not (torch.isfinite(figures[0]) and math.isfinite(norm)):
                    raise ValueError(f"at step {step} the loss is {figures[0].item()} and its gradient's norm {norm}, "
                                     f"on {batch['name']}; the weights of earlier validations stay in {out}: lower "
                                     "--learning-rate or set --clip-norm")
                optimizer.step()
                schedule.step()
                step += 1
                means = dict(zip(averages, figures.tolist(), strict=True))
                for name, value in means.items():
                    averages[name].update(value, weight=len(x_a))
                bar.set_postfix(loss=f"{means['loss']:.3f}", bpd=f"{means['bits_per_dim']:.3f}")
                log.write("step", step, epoch, **means, gradient_norm=norm,
                          learning_rate=optimizer.param_groups[0]["lr"])
            speed = len(bar) * config.batch_size / (time.perf_counter() - started)
            log.write("train", step, epoch, **{name: float(m.compute()) for name, m in averages.items()},
                      images_per_second=speed)
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                value = validate(model, val_loader, device)
                log.write("val", step, epoch, bits_per_dim=value)
                picture = sample_grid(model, val_set, device, config.temperature)
                runs.save_picture(picture, out / "samples" / f"epoch_{epoch:04d}.png")
                log.picture(picture, step)
                runs.save_curves(out)
                runs.save_weights(model, out / "model.safetensors")
                if value < best:
                    best = value
                    runs.save_weights(model, out / "best.safetensors")
                print(f"epoch {epoch}: conditional bits per dimension {float(averages['bits_per_dim'].compute()):.4f} "
                      f"train, {value:.4f} validation (best {best:.4f}), {speed:.1f} images/s")
    except KeyboardInterrupt:
        runs.save_weights(model, out / "model.safetensors")
        print(f"\nstopped in epoch {epoch} after step {step}; the weights of this moment are saved")
        raise
    finally:
        log.close()
        print(f"weights: {out}/model.safetensors (last) and best.safetensors (best on validation, once there was one)\n"
              f"samples: {out}/samples\ncurves:  {out}/curves.png and metrics.csv, or tensorboard --logdir {out}")
    return out


def learning_rate_factor(warmup: int, total: int, decay: bool) -> Callable[[int], float]:
    """Linear from 0 over ``warmup`` steps, then constant or linear to 0 at step ``total``."""
    return lambda step: min((step + 1) / (warmup + 1), (total - step) / max(1, total - warmup) if decay else 1.0)


class Pairs:
    """Batches of the data set as dequantized (condition, photo) on a device."""

    def __init__(self, device: torch.device, noise: torch.Generator):
        self.device, self.noise = device, noise

    def __call__(self, batch: dict[str, Any], flip: bool = False) -> tuple[Tensor, Tensor]:
        images = torch.stack([batch["condition"], batch["photo"]]).to(self.device)
        if flip:
            mirrored = torch.rand(images.shape[1], generator=self.noise, device=self.device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        x_a, x_b = dequantize(images, generator=self.noise)
        return tuple(x.contiguous(memory_format=torch.channels_last) for x in (x_a, x_b))  # type: ignore[return-value]


@torch.no_grad()
def validate(model: Any, loader: DataLoader, device: torch.device) -> float:
    """Mean conditional bits per dimension of a split; the noise is the same at every call."""
    model.eval()
    pairs = Pairs(device, torch.Generator(device).manual_seed(0))
    mean = MeanMetric()
    for batch in loader:
        x_a, x_b = pairs(batch)
        mean.update(bits_per_dim(model.log_prob(x_b, context=x_a), x_b.shape[1:]).cpu())
    return float(mean.compute())


@torch.no_grad()
def sample_grid(model: Any, dataset: Any, device: torch.device, temperature: float) -> Tensor:
    """Rows of condition, real photo and samples, for scenes spread over the split; the same ones at every call."""
    model.eval()
    rows = min(GRID_ROWS, len(dataset))
    items = [dataset[round(i * (len(dataset) - 1) / max(1, rows - 1))] for i in range(rows)]
    condition, photo = (torch.stack([item[key] for item in items]) for key in ("condition", "photo"))
    noise = torch.Generator(device).manual_seed(0)
    x_a, _ = Pairs(device, noise)({"condition": condition, "photo": photo})
    # One condition at a time, for the memory that large images need.
    samples = torch.cat([model.sample(GRID_SAMPLES, x[None], temperature, noise).cpu() for x in x_a])
    return runs.grid([condition / 255, photo / 255, *samples.unbind(1)])
