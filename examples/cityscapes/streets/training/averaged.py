"""Objectives that are means over the pairs: what their steps have in common."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condflows import PairedFlow
from condflows.trace import Context
from streets.config.training import Config
from streets.training.descent import Batch, descend, finite, parallel


class Averaged(ABC):
    """A loss that is a mean over the pairs, and Adam.

    Gradients and figures are means over the batches of a step and over all processes.
    """

    figure: str
    """Figure that validation looks at, the lower the better."""

    def __init__(self, model: Any, config: Config):
        if config.source_weight is not None and not isinstance(model, PairedFlow):
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
        self.model, self.clip_norm = model, config.clip_norm
        self.bf16, self.finite = config.precision == "bf16", finite
        self.parallel = parallel(model)
        self.optimizers = [torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)]

    def update(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Make a step of the optimizer; FloatingPointError, with the weights untouched, if a figure is not finite."""
        figures = []
        self.optimizers[0].zero_grad()
        for i, (context, x_b) in enumerate(batches):
            last = i + 1 == len(batches)
            with self.parallel.no_sync() if not last and self.parallel is not self.model else contextlib.nullcontext():
                figures.append(self.figures(context, x_b))
                (figures[-1]["loss"] / len(batches)).backward()
        means = {name: torch.stack([each[name].detach() for each in figures]).mean() for name in figures[0]}
        return descend(self.optimizers[0], means, self.model, self.clip_norm, self.finite)

    @abstractmethod
    def figures(self, context: Context, x_b: Tensor) -> dict[str, Tensor]:
        """Compute the loss and the other figures of a batch, means over its pairs."""

    @abstractmethod
    def validate(self, context: Context, x_b: Tensor, model: Any) -> Tensor:
        """Return ``figure`` of every pair under the model, or an average of it."""
