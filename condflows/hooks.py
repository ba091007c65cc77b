"""Tests for hooks, for methods that were overridden or replaced, and for marked methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import (
    _global_backward_hooks,
    _global_backward_pre_hooks,
    _global_forward_hooks,
    _global_forward_pre_hooks,
)

__all__ = ["calls_only", "has_hooks", "in_torch_func", "is_marked", "is_own", "is_transformed", "mark",
           "outputs_not_finite"]

Method = TypeVar("Method", bound=Callable[..., Any])

OF_ALL_MODULES = _global_forward_hooks, _global_forward_pre_hooks, _global_backward_hooks, _global_backward_pre_hooks


def has_hooks(module: nn.Module) -> bool:
    """Tell whether a call of the module, or the backward pass through it, runs hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
                or module._backward_pre_hooks or any(OF_ALL_MODULES))


@contextmanager
def outputs_not_finite(model: nn.Module) -> Iterator[list[tuple[str, str]]]:
    """Yield a list that gets name and class of each module whose output is not finite, in the order of the calls."""
    found: list[tuple[str, str]] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        if not all(torch.isfinite(tensor).all() for tensor in tensors if isinstance(tensor, torch.Tensor)):
            found.append((name, type(module).__name__))

    hooks = [module.register_forward_hook(lambda module, _, output, name=name: look(name, module, output))
             for name, module in model.named_modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def calls_only(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Tell whether a call of the module runs ``kind.forward`` alone: not overridden, replaced, hooked or compiled."""
    return (isinstance(module, kind) and is_own(module, kind, "forward") and not has_hooks(module)
            and getattr(module, "_compiled_call_impl", None) is None)


def is_own(module: nn.Module, kind: type[nn.Module], name: str) -> bool:
    """Tell whether a method of the module is that of ``kind``: neither overridden in a subclass nor replaced."""
    return getattr(type(module), name, None) is getattr(kind, name) and name not in vars(module)


def in_torch_func() -> bool:
    """Tell whether a call is made inside of a transform of ``torch.func``."""
    return getattr(torch._C, "_are_functorch_transforms_active", lambda: False)()


def is_transformed() -> bool:
    """Tell whether torch compiles, exports, traces or transforms (``torch.func``, dual numbers) a call.

    Such calls stay plain.
    """
    return (torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
            or getattr(forward_ad, "_current_level", -1) >= 0
            or in_torch_func())


def mark(method: Method, name: str) -> Method:
    """Mark a method by an attribute that holds the method itself, so that overrides and wrappers are not marked."""
    setattr(method, name, method)
    return method


def is_marked(method: Any, name: str) -> bool:
    """Tell whether this very method is marked, and not one that it overrides or wraps."""
    function = getattr(method, "__func__", method)
    return function is not None and getattr(function, name, None) is function
