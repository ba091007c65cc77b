"""Whether a call of a module does more than its ``forward``: a shorter way round the call would leave that out."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

__all__ = ["calls_only", "has_hooks"]


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module, or the backward pass through it, runs hooks."""
    own = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(map(bool, own)) or bool(_has_any_global_hook())


def calls_only(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of the module is one of ``kind.forward``: it is not overridden, replaced, hooked or compiled."""
    return (isinstance(module, kind) and getattr(module.forward, "__func__", None) is kind.forward
            and not has_hooks(module) and getattr(module, "_compiled_call_impl", None) is None)
