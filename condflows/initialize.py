"""Data-dependent initialization of actnorms, as an explicit call."""

from __future__ import annotations

import copy
import warnings
from typing import TypeVar

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.actnorm import ActNorm
from condflows.checks import check_inputs
from condflows.trace import Context, context_tensors

__all__ = ["initialize"]

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def initialize(flow: Model, inputs: Tensor, context: Context = None) -> Model:
    r"""Set every actnorm, conditional or not, so that its output on this batch has mean 0 and deviation 1 per channel.

    In one forward pass each :class:`condflows.ActNorm` is set from its inputs before it is applied. Where these have
    mean :math:`m` and standard deviation :math:`\sigma` in a channel, it gets :math:`u = \sigma`,
    :math:`a = - \log \sigma'` and :math:`b = - m' / \sigma'`, with :math:`m'` and :math:`\sigma'` those of
    :math:`e^\alpha x + u \beta`, which is :math:`x` without a conditioner. Nothing else changes. Channels that are
    constant in the batch are centred and keep their scale. Larger batches are better.

    Shapes: those of the flow. Paper: Full-Glow (arXiv 2012.05846) section 4.

    Args:
        flow: a flow (``log_prob`` is run) or a bijector (``forward`` is run).
        inputs: a batch of data; for a :class:`condflows.PairedFlow` the target's, with the source's as ``context``.
        context: what ``log_prob`` or ``forward`` takes.

    Raises:
        TypeError: a wrapper, for example of distributed training: initialize the flow before it is wrapped.
        ValueError: an empty batch, or NaN or infinite values in inputs or context.

    Returns the flow itself. On any error the flow is left unchanged.

    >>> actnorm = initialize(ActNorm(3), 5 + 2 * torch.randn(100, 3))
    >>> actnorm(5 + 2 * torch.randn(10_000, 3))[0].mean().abs() < 0.5
    tensor(True)
    """
    if (not isinstance(flow, nn.Module) or not (isinstance(flow, Transform) or hasattr(flow, "log_prob"))
            or any(hasattr(module, "unshard") for module in flow.modules())):  # FSDP's, whose weights are not whole
        raise TypeError(f"initialize expects a flow or a bijector, got {type(flow).__name__}; initialize the flow "
                        "before wrapping it")
    check_inputs(inputs, "initialize")
    if not len(inputs):
        raise ValueError(f"initialize expects at least one input, got shape {tuple(inputs.shape)}; pass a batch")
    for name, tensors in (("inputs", [inputs]), ("context", context_tensors(context))):
        for tensor in tensors:
            if not torch.isfinite(tensor).all():
                raise ValueError(f"initialize expects finite {name}, got {int((~torch.isfinite(tensor)).sum())} NaN or "
                                 f"infinite values in a tensor of shape {tuple(tensor.shape)}; clean the batch first")
    actnorms = {module: copy.deepcopy(module.state_dict()) for module in flow.modules() if isinstance(module, ActNorm)}
    waiting = set(actnorms)

    def set_once(actnorm: nn.Module, args: tuple, kwargs: dict) -> None:
        if actnorm in waiting:
            waiting.remove(actnorm)  # type: ignore[arg-type]
            actnorm.initialize_from(*args, **kwargs)  # type: ignore[operator]

    hooks = [actnorm.register_forward_pre_hook(set_once, with_kwargs=True) for actnorm in actnorms]
    try:
        getattr(flow, "log_prob", flow)(inputs, context)
    except BaseException:
        for actnorm, state in actnorms.items():
            actnorm.load_state_dict(state)
        raise
    finally:
        for hook in hooks:
            hook.remove()
    if waiting:
        warnings.warn(f"{len(waiting)} actnorms are not called by the forward pass (inside an Inverse?) and keep "
                      "their parameters", stacklevel=3)
    return flow
