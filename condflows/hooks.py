"""Whether a call of a module does more than its ``forward``: a shorter way round the call would leave that out."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import (
    _global_backward_hooks,
    _global_backward_pre_hooks,
    _global_forward_hooks,
    _global_forward_pre_hooks,
)

__all__ = ["calls_only", "has_hooks", "is_own"]

OF_ALL_MODULES = _global_forward_hooks, _global_forward_pre_hooks, _global_backward_hooks, _global_backward_pre_hooks


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module, or the backward pass through it, runs hooks."""
    own = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(len(hooks) > 0 for hooks in (*own, *OF_ALL_MODULES))


def calls_only(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of the module is one of ``kind.forward``: it is not overridden, replaced, hooked or compiled."""
    return (isinstance(module, kind) and is_own(module, kind, "forward") and not has_hooks(module)
            and getattr(module, "_compiled_call_impl", None) is None)


def is_own(module: nn.Module, kind: type[nn.Module], name: str) -> bool:
    """Whether a method of the module is that of ``kind``: neither overridden in its class nor replaced in itself."""
    return getattr(type(module), name) is getattr(kind, name) and name not in vars(module)
