"""Data-dependent initialization of actnorms, as an explicit call."""

from __future__ import annotations

import copy
import warnings
from typing import Any, TypeVar

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.actnorm import ActNorm
from condflows.checks import check_finite, check_inputs
from condflows.standardize import Standardize
from condflows.trace import Context, context_tensors
from condflows.warn import warn_of_compressed_contexts

__all__ = ["initialize"]

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def initialize(flow: Model, inputs: Tensor, context: Context = None) -> Model:
    r"""Set every actnorm, conditional or not, so that its output on this batch has mean 0 and deviation 1 per channel.

    Every :class:`condflows.Standardize` is fitted too. A context of which the library's nets see next to nothing, as
    their bounds make it nearly constant or saturate, gets a warning with its range.

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
    _check(flow, inputs, context)
    fitted = {module: copy.deepcopy(module.state_dict()) for module in flow.modules()
              if isinstance(module, (ActNorm, Standardize))}
    waiting = set(fitted)

    def set_once(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module in waiting:
            waiting.remove(module)  # type: ignore[arg-type]
            module.initialize_from(*args, **kwargs)  # type: ignore[operator]

    hooks = [module.register_forward_pre_hook(set_once, with_kwargs=True) for module in fitted]
    try:
        with warn_of_compressed_contexts(flow, context):
            getattr(flow, "log_prob", flow)(inputs, context)
    except BaseException:
        for module, state in fitted.items():
            module.load_state_dict(state)
        raise
    finally:
        for hook in hooks:
            hook.remove()
    if waiting:
        kinds = "actnorms" if all(isinstance(module, ActNorm) for module in waiting) else "actnorms or standardizations"
        warnings.warn(f"{len(waiting)} {kinds} are not called by the forward pass (inside an Inverse?) and keep "
                      "their parameters", stacklevel=3)
    return flow


def _check(flow: Any, inputs: Tensor, context: Context) -> None:
    """Refuse what is no flow or bijector, or was wrapped, and batches that are empty or not finite."""
    if (not isinstance(flow, nn.Module) or not (isinstance(flow, Transform) or hasattr(flow, "log_prob"))
            or any(hasattr(module, "unshard") for module in flow.modules())):  # FSDP's, whose weights are not whole
        raise TypeError(f"initialize expects a flow or a bijector, got {type(flow).__name__}; initialize the flow "
                        "before wrapping it")
    check_inputs(inputs, "initialize")
    if not len(inputs):
        raise ValueError(f"initialize expects at least one input, got shape {tuple(inputs.shape)}; pass a batch")
    for name, tensors in (("inputs", [inputs]), ("context", context_tensors(context))):
        for tensor in tensors:
            check_finite(tensor, "initialize", name, "clean the batch first")
