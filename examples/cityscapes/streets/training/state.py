"""A training at some step, and its checkpoints."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import device as Device
from torch.optim.swa_utils import AveragedModel

from streets.config.training import Config
from streets.data.loading import Order
from streets.data.pairs import Pairs
from streets.runs import checkpoints
from streets.runs.configuration import versions
from streets.runs.weights import WEIGHTS, save_weights
from streets.system import processes
from streets.system.stopping import Stop
from streets.training.objectives import Objective


@dataclass
class Training:
    """Everything that the steps of a training work with; of several processes the first alone writes the directory."""

    config: Config
    out: Path
    device: Device
    stop: Stop
    train_set: Any
    val_set: Any
    order: Order
    pairs: Pairs
    model: Any
    average: AveragedModel | None
    """Moving average of the model, with ``--ema``."""
    objective: Objective
    step: int = 0
    """Steps that were made, those that were left out included."""
    skipped: int = 0
    """Steps that were left out, because a figure was not finite."""
    best: float = math.inf
    """Best figure of a validation."""
    saved: int | None = None
    """Step of the last checkpoint."""
    stream: Iterator[Any] = field(default_factory=lambda: iter(()))
    """Batches of the steps that are left."""
    left: bool = False
    """True once the run ends early, because it was asked to."""
    log: Any = None
    """Logger of the curves, in the first process."""

    @property
    def main(self) -> bool:
        """Tell if this process is the first, which writes."""
        return processes.rank() == 0

    @property
    def total(self) -> int:
        """Number of the last step."""
        return self.order.steps(self.config.epochs)

    @property
    def result(self) -> Any:
        """Model that is validated, sampled and saved: the moving average where there is one."""
        return self.average.module if self.average else self.model

    def checkpoint(self) -> None:
        """Write all that the following steps depend on, unless that was done."""
        if self.main and self.saved != self.step:
            parts = {"model": self.model.state_dict(), "average": self.average.state_dict() if self.average else {},
                     "optimizer": checkpoints.optimizer_tensors(self.objective.optimizers)}
            tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
            checkpoints.write(self.out / "checkpoints", self.step, tensors, {
                "best": self.best if math.isfinite(self.best) else None, "skipped": self.skipped,
                "log_length": self.log.length(), "pairs": [len(self.train_set), len(self.val_set)],
                "versions": versions()})
        self.saved = self.step

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
        self.step = self.saved = facts["step"]
        self.skipped = facts["skipped"]
        self.best = math.inf if facts["best"] is None else facts["best"]
        return facts["log_length"]

    def stop_if_asked(self) -> None:
        """End the run with a checkpoint and the weights as they are, if any process was asked to stop."""
        status = processes.largest(self.stop.status or 0, self.device)
        if status:
            self.stop.status = status
            self.checkpoint()
            if self.main:
                save_weights(self.result, self.out / WEIGHTS["last"])
            self.leave()

    def leave_if_asked(self) -> None:
        """End the run in mid-validation, before which there was a checkpoint; not where other processes would wait."""
        if self.stop.status and processes.world() == 1:
            self.leave()

    def leave(self) -> None:
        """End the process with the status that the stop asks for."""
        self.left = True
        raise SystemExit(self.stop.status)
