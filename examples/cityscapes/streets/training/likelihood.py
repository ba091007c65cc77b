"""Objective (11) of the Full-Glow paper: maximum likelihood."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condflows import PairedFlow, bits_per_dim
from condflows.trace import Context
from streets.config.training import Config
from streets.runs.building import with_learned_noise
from streets.training.descent import Batch, descend, finite, parallel


class Likelihood:
    """Maximum likelihood of x_b given x_a, and with the weight lambda of x_a where the model has it.

    Gradients and figures are means over the batches of a step and over all processes.
    """

    figure = "bits_per_dim"
    """Figure that validation looks at, the lower the better."""

    def __init__(self, model: Any, config: Config):
        self.model, self.source_weight, self.clip_norm = model, config.source_weight or 0.0, config.clip_norm
        if isinstance(model, PairedFlow) and config.source_weight is None:
            raise ValueError(f"--source-weight None: {config.model} models the given image too and needs a weight")
        if not isinstance(model, PairedFlow) and config.source_weight is not None:
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
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

    def figures(self, context: Context, x_b: Tensor) -> dict[str, Tensor]:
        """Compute the loss, in nats per dimension, and its parts, in bits per dimension; means over the batch."""
        with torch.autocast(x_b.device.type, torch.bfloat16, enabled=self.bf16):
            x_b, log_q = with_learned_noise(self.model, x_b)
            if isinstance(self.model, PairedFlow):
                x_a, side = context if isinstance(context, tuple) else (context, None)
                log_p_a, log_p_b = self.parallel(x_a=x_a, x_b=x_b, side=side)
            else:
                log_p_a, log_p_b = None, self.parallel(x_b, context)
        log_p_b = log_p_b - log_q
        dims = x_b.shape[1:].numel()
        figures = {"loss": -log_p_b.mean() / dims, "bits_per_dim": bits_per_dim(log_p_b, dims).mean()}
        if log_p_a is not None:
            figures["loss"] = figures["loss"] - self.source_weight * log_p_a.mean() / dims
            figures["source_bits_per_dim"] = bits_per_dim(log_p_a, x_a.shape[1:]).mean()
        return figures

    def validate(self, context: Context, x_b: Tensor, model: Any) -> Tensor:
        """Return ``figure`` of every pair under the model, or an average of it."""
        x_b, log_q = with_learned_noise(model, x_b)
        return bits_per_dim(model.log_prob(x_b, context) - log_q, x_b.shape[1:])
