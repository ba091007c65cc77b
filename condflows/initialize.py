"""Data-dependent initialization, as an act of its own."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from torch import Tensor, nn

from condflows.actnorm import ActNorm
from condflows.trace import Context, context_tensors

__all__ = ["initialize"]

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def initialize(flow: Model, inputs: Tensor, context: Context = None) -> Model:
    """Set every actnorm, conditional or not, so that its output on this batch has mean 0 and deviation 1 per channel.

    One forward pass, in which each :class:`condflows.ActNorm` is set from what reaches it before it is applied. Nothing
    else changes: 1x1 convolutions are built as random rotations, and the library's conditioners start at zero output.
    Channels that are constant in the batch are centred and keep their scale. The larger the batch, the better.
    Paper: Full-Glow (arXiv 2012.05846) section 4.

    Args:
        flow: a flow (``log_prob`` is run) or a bijector (``forward`` is run).
        inputs: a batch of data; for a :class:`condflows.PairedFlow` the target's, with the source's as ``context``.
        context: what ``log_prob`` or ``forward`` takes.

    Returns:
        The flow itself, initialized in place.

    Raises:
        ValueError: NaN or infinite values in inputs or context; nothing is changed then.

    >>> actnorm = initialize(ActNorm(3), 5 + 2 * torch.randn(100, 3))
    >>> actnorm(5 + 2 * torch.randn(10_000, 3))[0].mean().abs() < 0.5
    tensor(True)
    """
    for name, tensors in (("inputs", [inputs]), ("context", context_tensors(context))):
        for tensor in tensors:
            if not torch.isfinite(tensor).all():
                bad = int((~torch.isfinite(tensor)).sum())
                raise ValueError(f"initialize expects finite {name}, got {bad} NaN or infinite values in a tensor of "
                                 f"shape {tuple(tensor.shape)}; clean the batch first")
    waiting = {module for module in flow.modules() if isinstance(module, ActNorm)}

    def set_once(actnorm: nn.Module, args: tuple, kwargs: dict) -> None:
        if actnorm in waiting:
            waiting.remove(actnorm)  # type: ignore[arg-type]
            actnorm.initialize_from(*args, **kwargs)  # type: ignore[operator]

    hooks = [actnorm.register_forward_pre_hook(set_once, with_kwargs=True) for actnorm in waiting]
    try:
        getattr(flow, "log_prob", flow)(inputs, context)
    finally:
        for hook in hooks:
            hook.remove()
    if waiting:
        warnings.warn(f"{len(waiting)} actnorms are not called by the forward pass (inside an Inverse?) and keep "
                      "their parameters", stacklevel=2)
    return flow
