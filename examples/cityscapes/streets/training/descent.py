"""A step of an optimizer: averaged over the processes, refused where a figure is not finite."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from condflows.trace import Context
from streets.system import processes

Batch = tuple[Context, Tensor]
"""A context, and the images that are modelled given it."""


def parallel(module: nn.Module) -> Any:
    """Return the module itself, or among several processes one whose backward pass averages the gradients over them.

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
    """Make a step of the optimizer along the gradients that are there, unless they or a figure are not finite.

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
    """Tell if all values are finite."""
    return bool(torch.isfinite(values).all())


def snapshot(tensors: Iterable[Tensor]) -> Callable[[], None]:
    """Return a function that puts the values of now back."""
    copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore() -> None:
        for tensor, value in copies:
            tensor.copy_(value)

    return restore


def learning_rate_factor(warmup: int, total: int, decay: bool) -> Callable[[int], float]:
    """Return the factor at a step: linear from 0 over ``warmup`` steps, then constant, or linear to 0 at ``total``."""
    return lambda step: min((step + 1) / (warmup + 1), (total - step) / max(1, total - warmup) if decay else 1.0)
