"""The loop of a training: a step of the model's objective after the other, validation, pictures, checkpoints.

A step depends on the seed, on its number and on the checkpoint before it alone: so a run that was killed goes on as if
it had not been, and several processes compute what one does.
"""

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from streets.config.training import Config
from streets.runs import checkpoints
from streets.runs.curves import FIGURES, save_curves
from streets.runs.pictures import save_picture
from streets.runs.weights import WEIGHTS, save_weights
from streets.system import processes, progress
from streets.system.devices import choose_device
from streets.system.seeds import seed_of
from streets.system.stopping import INTERRUPTED, Stop
from streets.training.descent import Batch, learning_rate_factor
from streets.training.objectives import first_not_finite
from streets.training.opening import opened
from streets.training.options import check
from streets.training.state import Training
from streets.training.validation import sample_grid, validate


def train(config: Config, stop: Stop | None = None) -> Path:
    """Train as the configuration says and return the directory of the run."""
    check(config)
    device = choose_device(config.device)
    with processes.group(device):
        return train_connected(config, stop or Stop(), device)


def train_connected(config: Config, stop: Stop, device: torch.device) -> Path:
    """Train within a group of processes; nothing that uses the group is left when this returns."""
    with opened(config, stop, device) as training:
        announce(training)
        try:
            run(training)
        finally:
            conclude(training)
        return training.out


def run(training: Training) -> None:
    """Make all steps that are left; at the end of an epoch write a checkpoint, validate and draw."""
    config, order = training.config, training.order
    factor = learning_rate_factor(config.warmup_steps, training.total, config.linear_decay)
    # The time that is left is that of all epochs, from the mean over all steps, in which validations are counted.
    with progress.bar(total=training.total, initial=training.step, smoothing=0, disable=not training.main) as bar:
        for epoch in range(1, config.epochs + 1):
            first, last = training.step, order.steps(epoch)
            if first > last:  # if they are equal, the end of the epoch is still to be done
                continue
            started = time.perf_counter()
            bar.set_description_str(f"epoch {epoch}/{config.epochs}", refresh=False)
            while training.step < last:
                training.stop_if_asked()
                figures = one_step(training, epoch, config.learning_rate * factor(training.step))
                bar.set_postfix(figures, refresh=False)
                bar.update()
                if training.step % config.checkpoint_every == 0:
                    training.checkpoint()
            speed = (last - first) * config.batch_size / (time.perf_counter() - started)
            bar.refresh()
            training.checkpoint()
            end_epoch(training, epoch, speed)


def one_step(training: Training, epoch: int, learning_rate: float) -> dict[str, str]:
    """Make a step of the optimizers, or none if a figure is not finite; returns the text of the progress bar."""
    config, step = training.config, training.step
    batches = [next(training.stream) for _ in range(config.accumulate)]
    tensors = [training.pairs(batch, config.flip, step, config.label_dropout) for batch in batches]
    for optimizer in training.objective.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
    training.model.train()
    torch.manual_seed(seed_of(config.seed, "step", step))  # of dropout
    try:
        means = training.objective.update(tensors)
    except FloatingPointError as error:
        skip(training, epoch, str(error), batches, tensors)
        return {"loss": "not finite"}
    if training.average:
        training.average.update_parameters(training.model)
    training.step += 1
    figures = dict(zip(means, torch.stack([*means.values()]).tolist(), strict=True))
    if training.main:
        training.log.write("step", training.step, epoch, **figures, learning_rate=learning_rate)
    return {name: f"{figures[name]:.3f}" for name in ("loss", training.objective.figure)}


def skip(training: Training, epoch: int, reason: str, batches: Sequence[dict[str, Any]],
         tensors: Sequence[Batch]) -> None:
    """Leave out a step, and say its pairs and module; end the run if that has happened too often."""
    config = training.config
    torch.manual_seed(seed_of(config.seed, "step", training.step))
    where = first_not_finite(training.objective, tensors)
    names = ", ".join(name for batch in batches for name in batch["name"])
    own = f"{where or 'nothing'} was not finite, with the pairs {names}"
    found = [text for text in processes.texts(own if where else "", training.device) if text]
    # Gradients are those of all processes together: an output that one of them names says more.
    found = [text for text in found if text.startswith("the output")] or found
    training.step, training.skipped = training.step + 1, training.skipped + 1
    message = f"at step {training.step} {reason}: {'; '.join(found) or own}"
    if training.skipped > config.skip_bad_batches:
        kept = checkpoints.found(training.out / "checkpoints")
        raise ValueError(f"{message}. {f'The checkpoints before it stay in {training.out}: ' * bool(kept)}"
                         "lower --learning-rate, set --clip-norm, or leave out such steps with --skip-bad-batches")
    if training.main:
        progress.say(f"{message}. The step is left out, {training.skipped} of {config.skip_bad_batches} that may be")
        training.log.write("skipped", training.step, epoch, loss=math.nan)


def end_epoch(training: Training, epoch: int, speed: float) -> None:
    """Log the means of an epoch, and every few epochs validate, save weights, and draw samples and curves."""
    config, name, out = training.config, training.objective.figure, training.out
    means = training.log.means(epoch) if training.main else {}
    if training.main:
        training.log.write("train", training.step, epoch, **means, **({"images_per_second": speed} if speed else {}))
    if epoch % config.validate_every and epoch != config.epochs:
        return
    value = validate(training, training.result)
    if not training.main:
        return
    training.log.write("val", training.step, epoch, **{name: value})
    save_weights(training.result, out / WEIGHTS["last"])
    if value < training.best:
        training.best = value
        save_weights(training.result, out / WEIGHTS["best"])
    # A few samples are not worth compiling the inverse.
    with torch.compiler.set_stance("force_eager") if config.compile else contextlib.nullcontext():
        picture = sample_grid(training, training.result)
    save_picture(picture, out / "samples" / f"epoch_{epoch:04d}.png")
    training.log.picture(picture, training.step)
    save_curves(out, name)
    progress.say(f"epoch {epoch}: {FIGURES[name]} {means.get(name, math.nan):.4f} train, {value:.4f} validation "
                 f"(best {training.best:.4f}), {speed:.1f} images/s")


def announce(training: Training) -> None:
    """Print what is trained, and where the run is."""
    if training.main:
        if not training.config.has_label_maps:
            pairs = training.pairs
            print(f"pairs of images: given {pairs.given}, modelled {pairs.wanted}")
        config, (height, width) = training.config, training.config.image_size
        parameters = sum(p.numel() for p in training.model.parameters())
        print(f"{config.model}: {parameters:,} parameters, {len(training.train_set)} training and "
              f"{len(training.val_set)} validation pairs of {height}x{width} on {training.device}"
              + (f", {processes.world()} processes" if processes.world() > 1 else "")
              + f"\nrun directory: {training.out}" + (f", after step {training.step}" if training.step else ""),
              flush=True)


def conclude(training: Training) -> None:
    """Print where the weights, samples and curves are, as far as there are any, and if the run was stopped, how."""
    if not training.main:
        return
    out = training.out
    last, best, picture = ((out / name).exists() for name in (WEIGHTS["last"], WEIGHTS["best"], "curves.png"))
    if last:
        print(f"weights: {out}/{WEIGHTS['last']} (last)" + f" and {WEIGHTS['best']} (best on validation)" * best)
    elif checkpoints.found(out / "checkpoints"):
        print(f"weights: none yet; {out}/checkpoints is what --resume goes on from")
    if any((out / "samples").glob("*.png")):
        print(f"samples: {out}/samples")
    print(f"curves:  {out}/{'curves.png and ' * picture}metrics.csv, or tensorboard --logdir {out}", flush=True)
    if training.left:
        signal = "Ctrl-C" if training.stop.status == INTERRUPTED else "SIGTERM"
        print(f"stopped by {signal} after step {training.step}, of which there is a checkpoint: --out {out} --resume "
              "goes on", flush=True)
