"""Warnings of contexts that teach a flow nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from nflows.flows.base import Flow
from torch import Tensor, nn

from condflows.conditioners import CouplingConditioner, GatedConditioner
from condflows.conditioners.layers import BOUND, BoundedNet
from condflows.pyramid import level_of
from condflows.trace import Context, Trace

__all__ = ["warn_of_compressed_contexts", "warn_of_unread_context"]

FEWEST = 16  # values of a channel from which its spread can be told
SPREAD = 0.2  # of what a net sees of a channel, whose bounds are BOUND to either side


def warn_of_unread_context(flow: nn.Module, transform: Any, base_reads: bool, context: Context) -> None:
    """Warn where nothing in the flow reads its context, or nets of couplings that could read it ignore it."""
    if not (base_reads or getattr(transform, "reads_context", True)):
        warnings.warn(f"a context was passed to a {type(flow).__name__} in which nothing reads it, so its density "
                      "is the same for all conditions; give its operations conditioners, or its nets context_channels",
                      stacklevel=4)
    elif not isinstance(context, Trace):
        nets = [(name, type(module).__name__) for name, module in transform.named_modules()
                if isinstance(module, (CouplingConditioner, GatedConditioner)) and not module.context_channels]
        if nets:
            name, kind = nets[0]
            warnings.warn(f"the context is ignored by {len(nets)} {kind}s with context_channels=0, at first by "
                          f"{name!r}; pass context_channels=..., or filter this warning if that is meant",
                          stacklevel=4)


@contextmanager
def warn_of_compressed_contexts(flow: nn.Module, context: Context) -> Iterator[None]:
    """Warn at the end if nets of the library saw a context that their bounds make nearly constant or saturate."""
    found: dict[str, str] = {}
    named = _named(context)

    def look(name: str, net: Any, arguments: Any, named_arguments: dict[str, Any]) -> None:
        size = arguments[0].shape[2:] if len(arguments) > 1 else named_arguments.get("size")
        values = level_of(arguments[-1], size)
        ignored = len(arguments) > 1 and not net.reads_context
        if ignored or not isinstance(values, Tensor) or not values.is_floating_point():
            return
        tensor = next((key for key, own in named if own is values), f"what {name!r} reads")
        for channel, (raw, seen) in enumerate(zip(*map(_by_channel, (values, net.bound(values))), strict=True)):
            low, high = float(raw.min()), float(raw.max())
            if len(raw) < FEWEST or low == high:
                continue
            saturated = float((seen.abs() > 0.9 * BOUND).float().mean()) > 0.5
            if saturated or float(seen.max() - seen.min()) < SPREAD:
                key = f"{tensor}, channel {channel}"
                found.setdefault(key, f"{low:.4g} to {high:.4g}, of which {name!r} sees {float(seen.min()):.3g} to "
                                      f"{float(seen.max()):.3g}")

    embedding: list[Any] = [module for module in flow.modules() if _embeds(module)]
    learned = {net for module in embedding for net in module._transform.modules()}
    hooks = [module.register_forward_pre_hook(partial(look, name), with_kwargs=True)
             for name, module in flow.named_modules() if isinstance(module, BoundedNet) and module not in learned]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        places = "; ".join(f"{key}: {text}" for key, text in list(found.items())[:4])
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        warnings.warn(f"nets of the flow can learn little from a context far from order 1 ({places}{more}); put "
                      "condflows.Standardize(...).before(net) in place of the nets", stacklevel=4)


def _embeds(module: Any) -> bool:
    """Tell whether a module is a flow with an embedding net, whose outputs are learned and adapt their scale."""
    return isinstance(module, Flow) and not isinstance(module._embedding_net, nn.Identity)


def _by_channel(values: Tensor) -> list[Tensor]:
    """Return the values of each channel."""
    return list(values.detach().transpose(0, 1).flatten(1)) if values.ndim > 1 else []


def _named(context: Context, name: str = "context") -> list[tuple[str, Tensor]]:
    """Return the tensors of a context with the expressions that lead to them."""
    if isinstance(context, Tensor):
        return [(name, context)]
    pairs = context.items() if isinstance(context, Mapping) else enumerate(context if context is not None else ())
    return [found for key, value in pairs for found in _named(value, f"{name}[{key!r}]")]
