"""Objective (11) of the Full-Glow paper: maximum likelihood."""

from typing import Any

import torch
from torch import Tensor

from condflows import PairedFlow, bits_per_dim
from condflows.trace import Context
from streets.config.training import Config
from streets.data.pixels import PairPixels
from streets.runs.building import with_learned_noise
from streets.training.averaged import Averaged


class Likelihood(Averaged):
    """Maximum likelihood of x_b given x_a, and with the weight lambda of x_a where the model has it."""

    figure = "bits_per_dim"

    def __init__(self, model: Any, config: Config, pixels: PairPixels | None = None):
        given, modelled = (pixels or PairPixels()).sides(config.direction)
        self.source_bits, self.bits = given.bits, modelled.bits
        if isinstance(model, PairedFlow) and config.source_weight is None:
            raise ValueError(f"--source-weight None: {config.model} models the given image too and needs a weight")
        self.source_weight = config.source_weight or 0.0
        super().__init__(model, config)

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
        figures = {"loss": -log_p_b.mean() / dims, "bits_per_dim": bits_per_dim(log_p_b, dims, self.bits).mean()}
        if log_p_a is not None:
            figures["loss"] = figures["loss"] - self.source_weight * log_p_a.mean() / dims
            figures["source_bits_per_dim"] = bits_per_dim(log_p_a, x_a.shape[1:], self.source_bits).mean()
        return figures

    def validate(self, context: Context, x_b: Tensor, model: Any) -> Tensor:
        x_b, log_q = with_learned_noise(model, x_b)
        return bits_per_dim(model.log_prob(x_b, context) - log_q, x_b.shape[1:], self.bits)
