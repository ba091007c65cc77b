"""What a step of training does: objective (11) of the Full-Glow paper for flows, the losses of pix2pix for it."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from condflows import PairedFlow, bits_per_dim
from condflows.trace import Context

if TYPE_CHECKING:
    from train import Config


class Likelihood:
    """Maximum likelihood of x_b given x_a, and with the weight lambda of x_a where the model has it."""

    figure = "bits_per_dim"
    """What validation looks at, the lower the better."""

    def __init__(self, model: Any, config: "Config", total_steps: int):
        self.model, self.source_weight, self.clip_norm = model, config.source_weight or 0.0, config.clip_norm
        if isinstance(model, PairedFlow) and config.source_weight is None:
            raise ValueError(f"--source-weight None: {config.model} models the given image too and needs a weight")
        if not isinstance(model, PairedFlow) and config.source_weight is not None:
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
        self.optimizers = [torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)]
        self.schedules = schedules(self.optimizers, config, total_steps)

    def step(self, context: Context, x_b: Tensor) -> dict[str, float]:
        """One step of the optimizer; its figures, means over the batch."""
        log_p_a, log_p_b = self.log_probs(context, x_b)
        dims = x_b.shape[1:].numel()
        figures = {"loss": -log_p_b.mean() / dims, "bits_per_dim": bits_per_dim(log_p_b, dims).mean()}
        if log_p_a is not None:
            figures["loss"] = figures["loss"] - self.source_weight * log_p_a.mean() / dims
            x_a = context[0] if isinstance(context, tuple) else context
            figures["source_bits_per_dim"] = bits_per_dim(log_p_a, x_a.shape[1:]).mean()
        norm = descend(self.optimizers[0], figures["loss"], self.model, self.clip_norm)
        for schedule in self.schedules:
            schedule.step()
        return numbers(figures | {"gradient_norm": norm})

    def log_probs(self, context: Context, x_b: Tensor) -> tuple[Tensor | None, Tensor]:
        if not isinstance(self.model, PairedFlow):
            return None, self.model(x_b, context)
        x_a, side = context if isinstance(context, tuple) else (context, None)
        return self.model(x_a, x_b, side)

    def validate(self, context: Context, x_b: Tensor) -> Tensor:
        """``figure`` of every pair."""
        return bits_per_dim(self.model.log_prob(x_b, context), x_b.shape[1:])


class Adversarial:
    """The discriminator's step, then the generator's, whose loss adds 100 times the L1 distance to the photo."""

    figure = "l1"

    def __init__(self, model: Any, config: "Config", total_steps: int):
        if config.source_weight is not None:
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
        self.model, self.clip_norm = model, config.clip_norm
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(0.5, 0.999), fused=True)
                           for net in (model.discriminator, model.generator)]
        self.schedules = schedules(self.optimizers, config, total_steps)

    def step(self, x_a: Tensor, x_b: Tensor) -> dict[str, float]:
        fake = self.model.generate(x_a)
        judged = self.model.discriminator_loss(x_a, x_b, fake)
        descend(self.optimizers[0], judged, self.model.discriminator, self.clip_norm)
        self.model.discriminator.requires_grad_(False)
        adversarial, l1 = self.model.generator_losses(x_a, x_b, fake)
        loss = adversarial + self.model.l1_weight * l1
        norm = descend(self.optimizers[1], loss, self.model.generator, self.clip_norm)
        self.model.discriminator.requires_grad_(True)
        for schedule in self.schedules:
            schedule.step()
        return numbers({"loss": loss, "adversarial": adversarial, "l1": l1, "discriminator": judged,
                        "gradient_norm": norm})

    def validate(self, x_a: Tensor, x_b: Tensor) -> Tensor:
        sample = self.model.sample(1, x_a, generator=torch.Generator(x_a.device).manual_seed(0))[:, 0]
        return 2 * (sample - x_b).abs().flatten(1).mean(1)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, model: nn.Module, clip_norm: float | None) -> Tensor:
    """A step of the optimizer, unless loss or gradient are not finite; returns the gradient's norm before clipping."""
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if clip_norm is None else clip_norm)
    if not torch.isfinite(torch.stack([loss.detach(), norm])).all():
        raise FloatingPointError(f"the loss is {loss.item()} and its gradient's norm {norm.item()}")
    optimizer.step()
    return norm


def numbers(figures: dict[str, Tensor]) -> dict[str, float]:
    return dict(zip(figures, torch.stack([f.detach() for f in figures.values()]).tolist(), strict=True))


def schedules(optimizers: Sequence[torch.optim.Optimizer], config: "Config", total_steps: int) -> list[LambdaLR]:
    factor = learning_rate_factor(config.warmup_steps, total_steps, config.linear_decay)
    return [LambdaLR(optimizer, factor) for optimizer in optimizers]


def learning_rate_factor(warmup: int, total: int, decay: bool) -> Callable[[int], float]:
    """Linear from 0 over ``warmup`` steps, then constant or linear to 0 at step ``total``."""
    return lambda step: min((step + 1) / (warmup + 1), (total - step) / max(1, total - warmup) if decay else 1.0)
