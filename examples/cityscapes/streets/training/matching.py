"""The loss of flow matching (arXiv 2210.02747)."""

from typing import Any

import torch
from torch import Tensor

from condflows.trace import Context
from streets.config.training import Config
from streets.system import processes
from streets.training.averaged import Averaged

VALIDATION_TIMES = 4


class Matching(Averaged):
    """Mean square error of the velocity, at a random time for each pair."""

    figure = "velocity_error"

    def __init__(self, model: Any, config: Config):
        if config.compile:
            raise ValueError(f"--compile: {config.model} has no steps of a flow, which it is for; leave it out")
        super().__init__(model, config)

    def figures(self, context: Context, x_b: Tensor) -> dict[str, Tensor]:
        """Compute the loss, a mean over the batch."""
        batch, start = len(x_b), processes.rank() * len(x_b)  # drawn for all processes, of which all have one seed
        everywhere = x_b.new_empty(processes.world() * batch, *x_b.shape[1:])
        noise = torch.randn_like(everywhere)[start:start + batch]
        times = torch.rand_like(everywhere[:, 0, 0, 0])[start:start + batch]
        with torch.autocast(x_b.device.type, torch.bfloat16, enabled=self.bf16):
            error = self.parallel(x_b, context, noise, times).mean()
        return {"loss": error, self.figure: error}

    def validate(self, context: Context, x_b: Tensor, model: Any) -> Tensor:
        """Return the error of every pair, a mean over evenly spread times, each with its own noise, always the same."""
        generator = torch.Generator(x_b.device).manual_seed(0)
        errors = []
        for i in range(VALIDATION_TIMES):
            noise = torch.randn(x_b.shape[1:], generator=generator, dtype=x_b.dtype, device=x_b.device)
            times = x_b.new_full(x_b.shape[:1], (i + 0.5) / VALIDATION_TIMES)
            errors.append(model(x_b, context, noise.expand_as(x_b), times))
        return torch.stack(errors).mean(0)
