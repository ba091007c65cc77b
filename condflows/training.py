"""A training step by step: the optimizer, the average of the weights, the best of them, and a file to go on from."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from condflows.batches import Batch, Epochs, as_batch
from condflows.history import History
from condflows.hooks import outputs_not_finite
from condflows.trace import Context, context_tensors, map_context

__all__ = ["Loss", "Prepare", "Training", "prepared", "read_checkpoint"]

Loss = Callable[[Any, Any, Context], Tensor]
"""A function of a flow, inputs and their context to one value for each row."""
Prepare = Callable[[Any, Context], Batch]
"""A function of a batch's inputs and context to those that the flow is given."""


class Training:
    """Hold a flow in training, its optimizer, the average of its weights, the best of them and the losses."""

    def __init__(self, flow: nn.Module, loss: Loss, prepare: Prepare | None, optimizer: Optimizer,
                 schedule: LRScheduler, clip_norm: float | None, ema: float | None):
        self.flow, self.loss, self.prepare = flow, loss, prepare
        self.optimizer, self.schedule = optimizer, schedule
        self.clip_norm = math.inf if clip_norm is None else clip_norm
        self.average = None if ema is None else AveragedModel(
            flow, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=False)
        self.history = History()
        self.best: dict[str, Any] | None = None

    @property
    def result(self) -> nn.Module:
        """The flow that is evaluated and kept: the average of the weights, if there is one."""
        return self.flow if self.average is None else self.average.module

    def step(self, batch: Batch) -> Tensor:
        """Make a step of the optimizer; return the losses of the rows."""
        self.flow.train()
        batch = prepared(batch, self.flow, self.prepare)
        losses = self._losses(self.flow, batch)
        self.optimizer.zero_grad()
        values = 1 if batch[0] is None else batch[0][0].numel()
        (losses.mean() / values).backward()
        norm = nn.utils.clip_grad_norm_(self.flow.parameters(), self.clip_norm)
        if not torch.isfinite(norm + losses.detach().sum()):
            raise FloatingPointError(self._first_not_finite(losses, batch))
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.flow)
        return losses.detach()

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over the rows of all batches."""
        self.result.eval()
        each = [self._losses(self.result, prepared(batch, self.flow, self.prepare)) for batch in batches]
        losses = torch.cat(each)
        if not torch.isfinite(losses).all():
            raise FloatingPointError(f"fit expects finite held-out losses, got {int((~torch.isfinite(losses)).sum())} "
                                     f"of {len(losses)} that are not after epoch {len(self.history.train)}, the first "
                                     f"of row {int((~torch.isfinite(losses)).int().argmax())}; look at that row")
        return float(losses.mean())

    def run(self, batches: Epochs, held_out: Iterable[Any] | None, epochs: int, patience: int | None, seed: int,
            progress: bool, save: Callable[[], None] | None) -> None:
        """Make the epochs that are left, each of which depends on the seed and on the state before it alone."""
        done = len(self.history.train) * batches.steps
        with tqdm(total=epochs * batches.steps, initial=done, disable=not progress) as bar:
            while not self.is_over(epochs, patience):
                torch.manual_seed(seed + 1 + len(self.history.train))
                losses = []
                for batch in batches:
                    losses.append(self.step(batch))
                    bar.update()
                self.history.train.append(float(torch.cat(losses).mean()))
                self.history.learning_rates.append(float(self.schedule.get_last_lr()[0]))
                torch.manual_seed(seed)  # the same noise at every evaluation
                if held_out is not None:
                    self.history.held_out.append(self.evaluate(map(as_batch, held_out)))
                    if self.history.best_epoch == len(self.history.train) - 1:
                        self.best = copy.deepcopy(self.result.state_dict())
                bar.set_postfix_str(str(self.history).partition(", ")[2])
                if save is not None:
                    save()

    def is_over(self, epochs: int, patience: int | None) -> bool:
        """Tell whether all epochs are done, or too many of them went by without a better held-out loss."""
        done, best = len(self.history.train), self.history.best_epoch
        return done >= epochs or (None not in (patience, best) and done - 1 - best >= patience)  # type: ignore[operator]

    def settle(self) -> None:
        """Give the flow the best weights, or else the average of the last ones."""
        self.flow.load_state_dict(self.result.state_dict() if self.best is None else self.best)

    def write_checkpoint(self, path: Path, settings: dict[str, Any], seed: int) -> None:
        """Write all that a training needs to go on; the file before it stays until the new one is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        torch.save({"settings": settings, "seed": seed, "best": self.best, "history": asdict(self.history),
                    **{name: part.state_dict() for name, part in self._parts().items()}}, unfinished)
        os.replace(unfinished, path)

    def load_checkpoint(self, saved: dict[str, Any]) -> None:
        """Take over what ``write_checkpoint`` has written."""
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.best, self.history = saved["best"], History(**saved["history"])

    def _parts(self) -> dict[str, Any]:
        parts = {"flow": self.flow, "optimizer": self.optimizer, "schedule": self.schedule, "average": self.average}
        return {name: part for name, part in parts.items() if part is not None}

    def _losses(self, flow: nn.Module, batch: Batch) -> Tensor:
        losses = self.loss(flow, *batch)
        if not isinstance(losses, Tensor) or losses.ndim != 1:
            raise ValueError("fit expects as loss one value for each row, of shape (rows,), got "
                             f"{tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__}; "
                             "return it without taking the mean")
        return losses

    def _first_not_finite(self, losses: Tensor, batch: Batch) -> str:
        """Say what was not finite: the data, the first output of a module, or gradients."""
        found = [name for name, part in zip(("inputs", "context"), batch, strict=True)
                 if not all(torch.isfinite(tensor).all() for tensor in context_tensors(part))]
        self.optimizer.zero_grad()  # whose gradients clipping has spoiled
        with outputs_not_finite(self.flow) as outputs:
            self.loss(self.flow, *batch).sum().backward()
        found += [f"output of {name or 'the flow'} ({kind})" for name, kind in outputs]
        found += [f"gradient of {name}" for name, parameter in self.flow.named_parameters()
                  if parameter.grad is not None and not torch.isfinite(parameter.grad).all()]
        rows = int((~torch.isfinite(losses)).sum())
        return (f"fit expects finite losses and gradients, got {rows} of {len(losses)} losses that are not in epoch "
                f"{len(self.history.train) + 1}, step {self.schedule.last_epoch + 1} of all; the first that is not "
                f"finite: {found[0] if found else 'none in a second pass'}. The flow has the weights before; look at "
                "the data, lower learning_rate or clip_norm")


def prepared(batch: Batch, flow: nn.Module, prepare: Prepare | None) -> Batch:
    """Move a batch to a flow's device, prepare it, and convert floating-point values to the flow's dtype."""
    like = next(flow.parameters())
    batch = map_context(lambda tensor: tensor.to(like.device), batch)
    batch = batch if prepare is None else prepare(*batch)
    return map_context(lambda tensor: tensor.to(like.dtype) if tensor.is_floating_point() else tensor, batch)


def read_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint of a training with these settings; None if there is no file."""
    if not path.exists():
        return None
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise ValueError(f"fit goes on from a file with torch 2.6 or later alone, which reads files safely, got torch "
                         f"{torch.__version__}; pip install 'torch>=2.6'")
    try:
        saved = torch.load(path, weights_only=True)
        others = {name: value for name, value in saved["settings"].items() if settings[name] != value}
    except Exception as error:  # whatever torch makes of a damaged file
        raise ValueError(f"fit expects as checkpoint a file that it has written, got {path}, which cannot be read "
                         f"({type(error).__name__}); remove it, or pass another path") from error
    if others:
        raise ValueError(f"fit expects the settings of {path} to go on from it, "
                         f"{', '.join(f'{name}={value}' for name, value in others.items())}, got "
                         f"{', '.join(f'{name}={settings[name]}' for name in others)}; pass those, or another file")
    return saved
