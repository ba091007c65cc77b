"""The training loop: pairs of label map and photo, a step of the model's objective, validation, pictures, checkpoints.

What a step depends on is a function of the seed and of its number, or it is in the checkpoint before: so a run that was
killed goes on as if it had not been, and several processes compute what one does.
"""

import contextlib
import dataclasses
import inspect
import json
import math
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Subset, default_collate
from tqdm import tqdm

import condflows
from condflows.trace import map_context

import checkpoints
import cli
import loading
import processes
import runs
from data import open_dataset
from models import MODELS
from objectives import Adversarial, Batch, Likelihood, first_not_finite, learning_rate_factor
from pairs import Pairs, seed_of
from pictures import MOST_SIDE
from stopping import INTERRUPTED, Stop
from train import OF_A_START

if TYPE_CHECKING:
    from train import Config

GRID_ROWS, GRID_SAMPLES, MOST_STEPS = 4, 3, 1000
MAY_CHANGE = {"out", "data", "epochs", "accumulate", "compile", "validate_every", "checkpoint_every",
              "skip_bad_batches", "skip_bad_files", "workers"}
"""Options that may differ from those that a run was begun with, when it is resumed."""


def train(config: "Config", stop: Stop | None = None) -> Path:
    """Train as the configuration says and return the directory of the run."""
    check(config)
    device = runs.choose_device(config.device)
    config = dataclasses.replace(config, data=config.data and config.data.resolve())
    with processes.group(device):
        return Training(config, stop or Stop(), device).run()


def check(config: "Config") -> None:
    """Refuse values that no training can have."""
    cli.check_counts(config, epochs=1, batch_size=1, accumulate=1, init_pairs=1, generated=1, width=1, context_width=1,
                     validate_every=1, checkpoint_every=1, warmup_steps=0, skip_bad_batches=0, seed=0, workers=0)
    cli.check_finite(config, "learning_rate")
    cli.check_finite(config, "source_weight", zero=True)
    if config.steps is not None and not (config.steps and all(1 <= steps <= MOST_STEPS for steps in config.steps)):
        raise ValueError(f"--steps {' '.join(map(str, config.steps))}: every level needs 1 to {MOST_STEPS}")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise ValueError(f"--clip-norm {config.clip_norm}: a positive number is needed; leave it out for no clipping")
    if config.ema is not None and not 0 < config.ema < 1:
        raise ValueError(f"--ema {config.ema}: a number between 0 and 1 is needed, for example 0.999")
    if config.resume and (config.overwrite or config.out is None):
        raise ValueError("--resume goes on with the run in --out: give that directory, and leave out --overwrite")
    runs.check_temperature(config.temperature, config.model)


def check_resumed(out: Path, config: "Config") -> None:
    """Refuse to go on with a run in a way that would not continue it, or that would lose what is there."""
    if not (out / "config.json").exists():
        if not out.is_dir() or any(path.suffix != ".partial" for path in out.iterdir()):
            runs.check_free(out, overwrite=False)
        return  # new, or killed before it had begun
    begun, now = runs.read_config(out), json.loads(json.dumps(dataclasses.asdict(config), default=str))
    different = [name for name in now.keys() & begun.keys() - MAY_CHANGE - OF_A_START if now[name] != begun[name]]
    if different:
        name = min(different)
        raise ValueError(f"--{name.replace('_', '-')} {now[name]}: the run in {out} was begun with {begun[name]}; "
                         "leave it out, or begin another run")
    if (out / "model.safetensors").exists() and not checkpoints.found(out / "checkpoints"):
        raise ValueError(f"--resume: {out} holds a model but no checkpoint to go on from; begin another run")


class Training:
    """A run: its data, model and optimizers at some step, and its directory, which the first process alone writes."""

    def __init__(self, config: "Config", stop: Stop, device: torch.device):
        self.config, self.stop, self.device, self.main = config, stop, device, processes.rank() == 0
        self.out = config.out or Path("runs") / f"{config.model}-{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
        if self.main and not config.resume:
            runs.check_free(self.out, config.overwrite)
        elif self.main:
            check_resumed(self.out, config)
        arguments = model_arguments(config)
        self.pairs = Pairs(device, config.direction, config.boundaries, config.seed)

        self.train_set, self.val_set = (self.split(name) for name in ("train", "val"))
        self.order = loading.Order(len(self.train_set), config.batch_size, config.seed, config.accumulate)
        self.total = self.order.steps(config.epochs)
        self.factor = learning_rate_factor(config.warmup_steps, self.total, config.linear_decay)

        torch.manual_seed(config.seed)
        model: Any = MODELS[config.model](**arguments).to(device)
        self.model = model.to(memory_format=torch.channels_last)
        resumed = self.last_checkpoint() if config.resume else None
        statistics = self.initialize() if resumed is None and self.main else {}
        self.objective = (Adversarial if config.model == "pix2pix" else Likelihood)(self.model, config)
        average = None if config.ema is None else get_ema_multi_avg_fn(config.ema)
        self.average = average and AveragedModel(self.model, multi_avg_fn=average, use_buffers=False)
        self.step, self.best, self.skipped = 0, math.inf, 0
        log_length = None if resumed is None else self.load(*resumed)
        self.saved = None if resumed is None else self.step
        if self.total < self.step:
            raise ValueError(f"--epochs {config.epochs}: these are {self.total} steps, and the run in {self.out} has "
                             f"made {self.step} already; give more")
        if config.compile:
            condflows.compile_steps(self.model)
        if self.main:
            facts = dataclasses.asdict(config) | {"out": self.out, "model_arguments": arguments}
            facts = {name: value for name, value in facts.items() if name not in OF_A_START}
            if resumed is None:
                runs.create(self.out, facts | {"data_statistics": statistics})
            self.log = runs.Logger(self.out, self.step, log_length)
            if resumed is not None:
                runs.update(self.out, facts)

    def split(self, name: str) -> Any:
        """A split of the data, on request without what cannot be read."""
        config = self.config
        length = config.generated if name == "train" else max(1, config.generated // 8)
        dataset = open_dataset(config.data, name, config.image_size, length, config.seed)
        bad = loading.unreadable(dataset, config.workers, self.device, name) if config.skip_bad_files else {}
        if not bad:
            return dataset
        good = [i for i in range(len(dataset)) if i not in bad]
        if not good:
            raise ValueError(f"none of the {len(dataset)} pairs of {name} can be read: {next(iter(bad.values()))}")
        if self.main:
            print("\n".join(bad.values()), f"\n{len(bad)} of {len(dataset)} pairs of {name} cannot be read and are "
                  "left out", sep="")
        return Subset(dataset, good)

    def initialize(self) -> dict[str, Any]:
        """Initialize the actnorms from the first pairs of a random order; returns the statistics of these pairs."""
        generator = torch.Generator().manual_seed(self.config.seed)
        first = torch.randperm(len(self.train_set), generator=generator)[: self.config.init_pairs]
        (batch,) = loading.loader(Subset(self.train_set, first.tolist()), 0, batch_size=len(first))
        if self.config.model != "pix2pix":
            context, x_b = self.pairs(batch)
            condflows.initialize(self.model, x_b, context=context)
        channels = {kind: batch[kind].double().transpose(0, 1).flatten(1) / 255 for kind in ("condition", "photo")}
        sizes = {"training_pairs": len(self.train_set), "validation_pairs": len(self.val_set), "of_pairs": len(first)}
        return sizes | {
            kind: {"mean": values.mean(1).tolist(), "deviation": values.std(1, correction=0).tolist()}
            for kind, values in channels.items()}

    def run(self) -> Path:
        """All steps that are left."""
        config, order = self.config, self.order
        if self.main:
            parameters = sum(p.numel() for p in self.model.parameters())
            height, width = config.image_size
            print(f"{config.model}: {parameters:,} parameters, {len(self.train_set)} training and {len(self.val_set)} "
                  f"validation pairs of {height}x{width} on {self.device}"
                  + (f", {processes.world()} processes" if processes.world() > 1 else "")
                  + f"\nrun directory: {self.out}" + (f", after step {self.step}" if self.step else ""), flush=True)
        self.stream = loading.loader(self.train_set, config.workers,
                                     batch_sampler=order.batches(self.step, self.total))
        try:
            for epoch in range(1, config.epochs + 1):
                if self.step <= order.steps(epoch):  # if equal, the end of the epoch is still to be done
                    self.epoch(epoch)
        finally:
            if self.main:
                self.log.close()
                print(f"weights: {self.out}/model.safetensors (last) and best.safetensors (best on validation, once "
                      f"there was one)\nsamples: {self.out}/samples\n"
                      f"curves:  {self.out}/curves.png and metrics.csv, or tensorboard --logdir {self.out}", flush=True)
        return self.out

    def epoch(self, epoch: int) -> None:
        """The steps of an epoch that are left, and what is done at its end."""
        first, last, started = self.step, self.order.steps(epoch), time.perf_counter()
        begin = self.order.steps(epoch - 1)
        with tqdm(desc=f"epoch {epoch}/{self.config.epochs}", total=last - begin, initial=first - begin,
                  dynamic_ncols=True, disable=not self.main) as bar:
            while self.step < last:
                self.stop_if_asked()
                bar.set_postfix(self.one_step(epoch))
                bar.update()
                if self.step % self.config.checkpoint_every == 0:
                    self.checkpoint()
        speed = (last - first) * self.config.batch_size / (time.perf_counter() - started)
        self.checkpoint()
        self.end_of_epoch(epoch, speed)

    def one_step(self, epoch: int) -> dict[str, str]:
        """A step of the optimizers, or none if a figure is not finite; returns what the progress bar shows."""
        config = self.config
        batches = [next(self.stream) for _ in range(config.accumulate)]
        self.model.train()
        tensors = [self.pairs(batch, config.flip, draw=self.step) for batch in batches]
        rate = config.learning_rate * self.factor(self.step)
        for optimizer in self.objective.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        torch.manual_seed(seed_of(config.seed, "step", self.step))  # of dropout
        try:
            means = self.objective.update(tensors)
        except FloatingPointError as error:
            self.bad_step(epoch, str(error), batches, tensors)
            return {"loss": "not finite"}
        if self.average:
            self.average.update_parameters(self.model)
        figures = dict(zip(means, torch.stack([*means.values()]).tolist(), strict=True))
        self.step += 1
        if self.main:
            self.log.write("step", self.step, epoch, **figures, learning_rate=rate)
        return {name: f"{figures[name]:.3f}" for name in ("loss", self.objective.figure)}

    def bad_step(self, epoch: int, reason: str, batches: Sequence[dict[str, Any]], tensors: Sequence[Batch]) -> None:
        """Say which pairs and which module; end the run if that has happened too often."""
        torch.manual_seed(seed_of(self.config.seed, "step", self.step))
        where = first_not_finite(self.objective, tensors)
        names = ", ".join(name for batch in batches for name in batch["name"])
        own = f"{where or 'nothing'} was not finite, with the pairs {names}"
        found = [text for text in processes.texts(own if where else "", self.device) if text]
        # Gradients are those of all processes together: what one of them has put out says more.
        found = [text for text in found if text.startswith("the output")] or found
        self.step, self.skipped = self.step + 1, self.skipped + 1
        message = f"at step {self.step} {reason}: {'; '.join(found) or own}"
        if self.skipped > self.config.skip_bad_batches:
            raise ValueError(f"{message}. The checkpoints before it stay in {self.out}: lower --learning-rate, set "
                             "--clip-norm, or leave out such steps with --skip-bad-batches")
        if self.main:
            tqdm.write(f"{message}. The step is left out, {self.skipped} of {self.config.skip_bad_batches} that may be")
            self.log.write("skipped", self.step, epoch, loss=math.nan)

    def end_of_epoch(self, epoch: int, speed: float) -> None:
        """Means, and every few epochs validation, weights, samples and curves."""
        config, name = self.config, self.objective.figure
        means = self.log.means(epoch) if self.main else {}
        if self.main:
            self.log.write("train", self.step, epoch, **means, **({"images_per_second": speed} if speed else {}))
        if epoch % config.validate_every and epoch != config.epochs:
            return
        model = self.average.module if self.average else self.model
        value = self.validate(model)
        if not self.main:
            return
        self.log.write("val", self.step, epoch, **{name: value})
        runs.save_weights(model, self.out / "model.safetensors")
        if value < self.best:
            self.best = value
            runs.save_weights(model, self.out / "best.safetensors")
        # A few samples are not worth compiling the inverse.
        with torch.compiler.set_stance("force_eager") if config.compile else contextlib.nullcontext():
            picture = self.sample_grid(model)
        runs.save_picture(picture, self.out / "samples" / f"epoch_{epoch:04d}.png")
        self.log.picture(picture, self.step)
        runs.save_curves(self.out, name)
        print(f"epoch {epoch}: {runs.FIGURES[name]} {means.get(name, math.nan):.4f} train, {value:.4f} validation "
              f"(best {self.best:.4f}), {speed:.1f} images/s", flush=True)

    @torch.no_grad()
    def validate(self, model: Any) -> float:
        """Mean figure of the split; the noise is the same at every call, each process does its share of the pairs."""
        model.eval()
        pairs = Pairs(self.device, self.config.direction, self.config.boundaries)
        own = Subset(self.val_set, range(processes.rank(), len(self.val_set), processes.world()))
        size = max(1, self.config.batch_size // (processes.world() * self.config.accumulate))
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        for batch in loading.loader(own, self.config.workers, batch_size=size) if len(own) else ():
            self.leave_if_asked()
            figures = self.objective.validate(*pairs(batch), model).double()
            total += torch.stack([figures.sum(), figures.new_tensor(len(figures))])
        figure, count = processes.total(total).tolist()
        return figure / count

    @torch.no_grad()
    def sample_grid(self, model: Any) -> Tensor:
        """Rows of what is given, what is real and samples, for scenes spread over the split; the same at every call."""
        model.eval()
        rows = min(GRID_ROWS, len(self.val_set))
        batch = default_collate([self.val_set[round(i * (len(self.val_set) - 1) / max(1, rows - 1))]
                                 for i in range(rows)])
        pairs = Pairs(self.device, self.config.direction, self.config.boundaries)
        context = pairs.context(batch)
        # One sample at a time, for the memory that large images need.
        contexts = [map_context(lambda x, i=i: x[i:i + 1], context) for i in range(rows)]
        columns = []
        for _ in range(GRID_SAMPLES):
            self.leave_if_asked()
            columns.append(torch.cat([model.sample(1, x, self.config.temperature, pairs.noise)[:, 0].cpu()
                                      for x in contexts]))
        return runs.grid([batch[pairs.source] / 255, batch[pairs.target] / 255, *columns])

    def checkpoint(self) -> None:
        """Write all that the following steps depend on, unless that was done."""
        if self.main and self.saved != self.step:
            parts = {"model": self.model.state_dict(), "average": self.average.state_dict() if self.average else {},
                     "optimizer": checkpoints.optimizer_tensors(self.objective.optimizers)}
            tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
            checkpoints.write(self.out / "checkpoints", self.step, tensors, {
                "best": self.best if math.isfinite(self.best) else None, "skipped": self.skipped,
                "log_length": self.log.length(), "pairs": [len(self.train_set), len(self.val_set)],
                "versions": runs.versions()})
        self.saved = self.step

    def last_checkpoint(self) -> tuple[Path, checkpoints.Checkpoint] | None:
        """The last one that the first process can read."""
        found = checkpoints.last(self.out / "checkpoints") if self.main else None
        path = processes.texts(str(found[0]) if found else "", self.device)[0]
        return found or ((Path(path), checkpoints.read(Path(path))) if path else None)

    def load(self, path: Path, checkpoint: checkpoints.Checkpoint) -> int:
        """Put everything where it was at a checkpoint; returns the length of the log."""
        tensors, facts = checkpoint
        pairs = [len(self.train_set), len(self.val_set)]
        if facts["pairs"] != pairs:
            message = f"the data had {facts['pairs']} pairs to train and to validate at {path}, and has {pairs}"
            if not self.config.skip_bad_files:
                raise ValueError(f"{message} now: restore the files, or go on without some with --skip-bad-files")
            print(f"{message} readable ones now: the order of the pairs is another from here on", flush=True)
        checkpoints.load(self.model, "model", tensors, path)
        if self.average:
            checkpoints.load(self.average, "average", tensors, path)
        checkpoints.load_optimizers(self.objective.optimizers, checkpoints.under("optimizer", tensors))
        self.step, self.skipped = facts["step"], facts["skipped"]
        self.best = math.inf if facts["best"] is None else facts["best"]
        return facts["log_length"]

    def stop_if_asked(self) -> None:
        """End the run with a checkpoint, and the weights as they are, if any process was asked to stop."""
        status = processes.largest(self.stop.status or 0, self.device)
        if status:
            self.stop.status = status
            self.checkpoint()
            if self.main:
                runs.save_weights(self.average.module if self.average else self.model, self.out / "model.safetensors")
            self.leave()

    def leave_if_asked(self) -> None:
        """End the run in mid-validation, before which there was a checkpoint; not where other processes would wait."""
        if self.stop.status and processes.world() == 1:
            self.leave()

    def leave(self) -> None:
        if self.main:
            signal = "Ctrl-C" if self.stop.status == INTERRUPTED else "SIGTERM"
            print(f"\nstopped by {signal} after step {self.step}, of which there is a checkpoint: --out {self.out} "
                  "--resume goes on", flush=True)
        raise SystemExit(self.stop.status)


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
    if not 1 <= min(height, width) <= max(height, width) <= MOST_SIDE:
        raise ValueError(f"--image-size {height} {width}: height and width from 1 to {MOST_SIDE} are needed")
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
