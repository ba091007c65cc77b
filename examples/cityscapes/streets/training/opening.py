"""Opening of a training: options and files are checked, the model is built, and initialized or loaded."""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Subset

import condflows
from streets.config.kinds import WITHOUT_LIKELIHOOD
from streets.config.training import START_OPTIONS, Config
from streets.data import label_sets, loading
from streets.data.crops import Crops
from streets.data.labels import LabelSet
from streets.data.pairs import Pairs
from streets.data.pixels import PairPixels
from streets.runs import checkpoints, directory
from streets.runs.building import build
from streets.runs.configuration import read_config
from streets.runs.curves import Logger
from streets.runs.settings import as_stored, check_same
from streets.runs.weights import WEIGHTS
from streets.system import processes
from streets.system.locks import contents
from streets.system.stopping import Stop
from streets.training.layers import over_all_processes
from streets.training.objectives import make_objective
from streets.training.options import model_arguments
from streets.training.splits import open_splits
from streets.training.state import Training

MAY_CHANGE = {"out", "data", "epochs", "accumulate", "compile", "validate_every", "checkpoint_every",
              "skip_bad_batches", "skip_bad_files", "skip_unpaired", "workers"}
"""Options that may differ from those that a run was begun with, when it is resumed."""


@contextmanager
def opened(config: Config, stop: Stop, device: torch.device) -> Iterator[Training]:
    """Open the training of a configuration, whose directory belongs to this process until the end of the block."""
    out = config.out or Path("runs") / f"{config.model}-{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    config = dataclasses.replace(config, data=config.data and config.data.resolve(), out=out,
                                 labels=label_sets.stored_name(config.labels))
    with ExitStack() as ending:
        processes.by_first(lambda: hold(out, config, ending), device)
        training = open_training(config, out, stop, device)
        if training.main:
            ending.callback(training.log.close)
        training.stream = loading.loader(
            Crops(training.train_set, config.crop, config.seed), config.workers,
            batch_sampler=training.order.batches(training.step, training.total))
        yield training


def hold(out: Path, config: Config, ending: ExitStack) -> None:
    """Hold the directory of a run until the end, new or to go on with."""
    ending.enter_context(directory.writing(out, config.overwrite or config.resume))
    if config.resume:
        check_resumed(out, config)


def open_training(config: Config, out: Path, stop: Stop, device: torch.device) -> Training:
    """Build a training, or load it from the last checkpoint of the run that goes on."""
    main = processes.rank() == 0
    labels = labels_of(config, out)
    model_arguments(config, labels)  # what is wrong with the options alone is said before any file is read
    train_set, val_set = open_splits(config, labels, device)
    pixels = train_set.pixels
    arguments = model_arguments(config, labels, pixels)
    pairs = Pairs(device, config.direction, config.boundaries, config.seed, config.given_labels, pixels,
                  config.noise)
    order = loading.Order(len(train_set), config.batch_size, config.seed, config.accumulate)

    torch.manual_seed(config.seed)
    model: Any = build(config.model, arguments, config.dequantization, config.nets, pairs.wanted.bits).to(device)
    model = model.to(memory_format=torch.channels_last)
    if processes.world() > 1:
        over_all_processes(model)
    checkpoint = last_checkpoint(out, device) if config.resume else None
    if checkpoint is not None and (before := PairPixels.of_config(read_config(out))) != pixels:
        raise ValueError(f"--resume: {out} was trained on pairs of {before}, and the data now are of {pixels}: restore "
                         "the files, or begin another run")
    statistics = initialize(model, train_set, pairs, config) if checkpoint is None and main else {}
    objective = make_objective(model, config, pixels)
    decay = None if config.ema is None else get_ema_multi_avg_fn(config.ema)
    average = decay and AveragedModel(model, multi_avg_fn=decay, use_buffers=False)
    training = Training(config, out, device, stop, train_set, val_set, order, pairs, model, average, objective)
    log_length = None if checkpoint is None else training.load(*checkpoint)
    if training.total < training.step:
        raise ValueError(f"--epochs {config.epochs}: these are {training.total} steps, and the run in {out} has made "
                         f"{training.step} already; give more")
    if config.compile:
        condflows.compile_steps(model)

    if main:
        facts = {name: value for name, value in dataclasses.asdict(config).items() if name not in START_OPTIONS}
        facts |= {"model_arguments": arguments, "pixels": pixels.as_stored(), "has_label_maps": config.has_label_maps}
        if config.labels not in label_sets.names():  # a file, which may not stay
            facts |= {"label_table": label_sets.as_table(labels)}
        if checkpoint is None:
            directory.create(out, facts | {"data_statistics": {
                "training_pairs": len(train_set), "validation_pairs": len(val_set), **statistics}})
        training.log = Logger(out, training.step, log_length)
        if checkpoint is not None:
            directory.update(out, facts)
    return training


def check_resumed(out: Path, config: Config) -> None:
    """Refuse to go on with a run in a way that would not continue it, or that would lose files that are there."""
    if not (out / "config.json").exists():
        directory.check_free(out, (path for path in contents(out) if path.suffix != ".partial"))
        return  # new, or killed before it had begun
    before = as_stored(dataclasses.asdict(Config())) | read_config(out)  # runs of older versions have fewer options
    if before["dataset"] is not None and config.dataset is None:
        raise ValueError(f"--resume: {out} was trained on --dataset {before['dataset']}: give it again, since no code "
                         "is run that a file names")
    now = as_stored(dataclasses.asdict(config))
    fixed = now.keys() - MAY_CHANGE - START_OPTIONS
    was, asked = ({f"--{name.replace('_', '-')}": of[name] for name in sorted(fixed)} for of in (before, now))
    check_same(out, was, asked, "leave it out, or begin another run")
    if (out / WEIGHTS["last"]).exists() and not checkpoints.found(out / "checkpoints"):
        raise ValueError(f"--resume: {out} holds a model but no checkpoint to go on from; begin another run")


def labels_of(config: Config, out: Path) -> LabelSet:
    """Return the labels of a training; a run that goes on has those that it keeps, wherever their file is now."""
    if not (config.resume and (out / "config.json").exists()):
        return label_sets.read(config.labels)
    labels = label_sets.of_config(read_config(out))
    if Path(config.labels).is_file() and label_sets.read(config.labels) != labels:
        raise ValueError(f"--labels {config.labels}: the table has changed since the run in {out} was begun; restore "
                         "it, or begin another run")
    return labels


def last_checkpoint(out: Path, device: torch.device) -> tuple[Path, checkpoints.Checkpoint] | None:
    """Read the last checkpoint that the first process can read."""
    found = checkpoints.last(out / "checkpoints") if processes.rank() == 0 else None
    path = processes.texts(str(found[0]) if found else "", device)[0]
    return found or ((Path(path), checkpoints.read(Path(path))) if path else None)


def initialize(model: Any, train_set: Any, pairs: Pairs, config: Config) -> dict[str, Any]:
    """Initialize the actnorms from the first pairs of a random order; returns the statistics of these pairs."""
    generator = torch.Generator().manual_seed(config.seed)
    first = torch.randperm(len(train_set), generator=generator)[: config.init_pairs]
    (batch,) = loading.loader(Subset(train_set, first.tolist()), 0, batch_size=len(first))
    if config.model not in WITHOUT_LIKELIHOOD:
        context, x_b = pairs(batch)
        condflows.initialize(model, x_b, context=context)
    return {"of_pairs": len(first)} | {
        kind: channel_statistics(batch[kind], of.bits) for kind, of in pairs.pixels._asdict().items()}


def channel_statistics(images: torch.Tensor, bits: int = 8) -> dict[str, list[float]]:
    """Return mean and deviation of each channel of images of integers, in 0 to 1; one image at a time for memory."""
    powers = torch.stack([torch.stack([image.flatten(1).long().pow(power).sum(1) for power in (1, 2)])
                          for image in images]).sum(0)
    most = 2.0**bits - 1
    mean, square = powers.double() / images[:, 0].numel() / torch.tensor([[most], [most**2]])
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return {"mean": mean.tolist(), "deviation": deviation.tolist()}
