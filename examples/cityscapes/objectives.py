"""What a step of training does: objective (11) of the Full-Glow paper for flows, the losses of pix2pix for it."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from condflows import PairedFlow, bits_per_dim
from condflows.trace import Context

import processes

if TYPE_CHECKING:
    from train import Config

Batch = tuple[Context, Tensor]


class Likelihood:
    """Maximum likelihood of x_b given x_a, and with the weight lambda of x_a where the model has it.

    Gradients and figures are means over the batches of a step and over all processes.
    """

    figure = "bits_per_dim"
    """What validation looks at, the lower the better."""

    def __init__(self, model: Any, config: "Config"):
        self.model, self.source_weight, self.clip_norm = model, config.source_weight or 0.0, config.clip_norm
        if isinstance(model, PairedFlow) and config.source_weight is None:
            raise ValueError(f"--source-weight None: {config.model} models the given image too and needs a weight")
        if not isinstance(model, PairedFlow) and config.source_weight is not None:
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
        self.bf16, self.finite = config.precision == "bf16", finite
        self.parallel = parallel(model)
        self.optimizers = [torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)]

    def update(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One step of the optimizer; FloatingPointError, with the weights untouched, if a figure is not finite."""
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
        """The loss, in nats per dimension, and what it is made of, in bits per dimension; means over the batch."""
        with torch.autocast(x_b.device.type, torch.bfloat16, enabled=self.bf16):
            if isinstance(self.model, PairedFlow):
                x_a, side = context if isinstance(context, tuple) else (context, None)
                log_p_a, log_p_b = self.parallel(x_a, x_b, side)
            else:
                log_p_a, log_p_b = None, self.parallel(x_b, context)
        dims = x_b.shape[1:].numel()
        figures = {"loss": -log_p_b.mean() / dims, "bits_per_dim": bits_per_dim(log_p_b, dims).mean()}
        if log_p_a is not None:
            figures["loss"] = figures["loss"] - self.source_weight * log_p_a.mean() / dims
            figures["source_bits_per_dim"] = bits_per_dim(log_p_a, x_a.shape[1:]).mean()
        return figures

    def validate(self, context: Context, x_b: Tensor, model: Any) -> Tensor:
        """``figure`` of every pair under the model, or an average of it."""
        return bits_per_dim(model.log_prob(x_b, context), x_b.shape[1:])


class Adversarial:
    """The discriminator's step, then the generator's, whose loss adds 100 times the L1 distance to the photo."""

    figure = "l1"

    def __init__(self, model: Any, config: "Config"):
        if config.source_weight is not None:
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
        for option, wanted in (("accumulate", 1), ("precision", "float32"), ("compile", False)):
            if getattr(config, option) != wanted:
                raise ValueError(f"--{option}: pix2pix has no steps of a flow, and normalizes over its batch; "
                                 "leave it out")
        self.model, self.clip_norm, self.finite = model, config.clip_norm, finite
        self.generate = parallel(Call(model.generator, model.generate))
        self.judge = parallel(Call(model.discriminator, model.discriminator_loss))
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(0.5, 0.999), fused=True)
                           for net in (model.discriminator, model.generator)]

    def update(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """A step of both optimizers; FloatingPointError, with everything as it was, if a figure is not finite."""
        optimizer = self.optimizers[0]
        begun = bool(optimizer.state)
        moments = [value for state in optimizer.state.values() for value in state.values()]
        restore = snapshot([*self.model.discriminator.parameters(), *self.model.buffers(), *moments])
        try:
            return self._update(*batches[0])
        except FloatingPointError:  # perhaps of the generator, after the discriminator's step
            restore()
            if not begun:
                optimizer.state.clear()
            raise

    def _update(self, x_a: Context, x_b: Tensor) -> dict[str, Tensor]:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        fake = self.generate(x_a)
        judged = self.judge(x_a, x_b, fake)
        judged.backward()
        judged = descend(self.optimizers[0], {"loss": judged.detach()}, self.model.discriminator, self.clip_norm,
                         self.finite)
        self.model.discriminator.requires_grad_(False)
        try:
            adversarial, l1 = self.model.generator_losses(x_a, x_b, fake)
            figures = {"loss": adversarial + self.model.l1_weight * l1, "adversarial": adversarial, "l1": l1}
            figures["loss"].backward()
        finally:
            self.model.discriminator.requires_grad_(True)
        figures = {name: value.detach() for name, value in figures.items()}
        figures = descend(self.optimizers[1], figures, self.model.generator, self.clip_norm, self.finite)
        return figures | {"discriminator": judged["loss"]}

    def figures(self, context: Context, x_b: Tensor) -> dict[str, Tensor]:
        """The losses of generator and discriminator, both on what the generator makes."""
        fake = self.model.generate(context)
        judged = self.model.discriminator_loss(context, x_b, fake)
        return {"loss": judged, "l1": self.model.generator_losses(context, x_b, fake)[1]}

    def validate(self, x_a: Context, x_b: Tensor, model: Any) -> Tensor:
        """``figure`` of every pair, each with the same noise."""
        samples = [model.sample(1, x[None], generator=torch.Generator(x.device).manual_seed(0))[0] for x in x_a]
        return 2 * (torch.cat(samples) - x_b).abs().flatten(1).mean(1)


class Call(nn.Module):
    """A method as the forward of a module that holds the net it trains, which is what DDP wraps."""

    def __init__(self, net: nn.Module, method: Callable[..., Tensor]):
        super().__init__()
        self.net, self.method = net, method

    def forward(self, *args: Any) -> Tensor:
        return self.method(*args)


def parallel(module: nn.Module) -> Any:
    """The module itself, or among several processes one whose backward pass averages the gradients over them.

    All start with the parameters and buffers of the first.
    """
    if processes.world() == 1:
        return module
    for buffer in module.buffers():  # once, where DDP would do it at every call, between forward and backward
        torch.distributed.broadcast(buffer, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the name of this option, which older versions need
        return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)


def descend(optimizer: torch.optim.Optimizer, figures: dict[str, Tensor], model: nn.Module, clip_norm: float | None,
            finite: Callable[[Tensor], bool]) -> dict[str, Tensor]:
    """A step of the optimizer along the gradients that are there, unless they or a figure are not finite.

    Returns the figures, means over the processes, and the gradient's norm before clipping.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    values = processes.total(torch.stack([*figures.values(), norm])) / processes.world()
    figures = dict(zip((*figures, "gradient_norm"), values, strict=True))
    if not finite(values):
        raise FloatingPointError(f"the loss is {float(figures['loss']):g} and its gradient's norm {float(norm):g}")
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip_norm, norm)
    optimizer.step()
    return figures


def finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


@torch.no_grad()
def first_not_finite(objective: Likelihood | Adversarial, batches: Sequence[Batch]) -> str | None:
    """Which module's output, in the order of the forward pass, or else which gradient was the first not to be finite.

    None where all is finite in this process. The averages of batch normalization stay as they are.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, tuple) else ()
        if not found and any(isinstance(x, Tensor) and not torch.isfinite(x).all() for x in tensors):
            found.append(f"the output of {name or 'the model'} ({type(module).__name__})")

    model = objective.model
    restore = snapshot(model.buffers())
    hooks = [module.register_forward_hook(lambda module, _, output, name=name: look(name, module, output))
             for name, module in model.named_modules()]
    try:
        for batch in batches:
            objective.figures(*batch)
    finally:
        for hook in hooks:
            hook.remove()
        restore()
    gradients = (f"the gradient of {name}" for name, parameter in model.named_parameters()
                 if parameter.grad is not None and not torch.isfinite(parameter.grad).all())
    return found[0] if found else next(gradients, None)


def snapshot(tensors: Iterable[Tensor]) -> Callable[[], None]:
    """A function that puts the values of now back."""
    copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore() -> None:
        for tensor, value in copies:
            tensor.copy_(value)

    return restore


def learning_rate_factor(warmup: int, total: int, decay: bool) -> Callable[[int], float]:
    """Linear from 0 over ``warmup`` steps, then constant or linear to 0 at step ``total``."""
    return lambda step: min((step + 1) / (warmup + 1), (total - step) / max(1, total - warmup) if decay else 1.0)
