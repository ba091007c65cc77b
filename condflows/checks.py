"""Checks of arguments: each message says what was expected, what came, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from condflows.hooks import is_transformed
from condflows.trace import Context, context_tensors

__all__ = ["autocasts", "check_batch", "check_broadcasts", "check_count", "check_finite", "check_inputs",
           "check_invertible", "check_like", "check_rows", "check_temperature"]


AUTOCAST = torch.float16, torch.bfloat16, torch.float32


def check_inputs(inputs: Tensor, name: str, num_channels: int | None = None) -> None:
    """Refuse inputs other than a floating-point ``(batch, num_channels, *spatial)`` tensor."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"{name} expects a tensor, got {type(inputs).__name__}; convert it with torch.as_tensor")
    if not inputs.is_floating_point():
        raise TypeError(f"{name} expects floating-point inputs, got {inputs.dtype}; "
                        "turn integer images into densities with condflows.dequantize first")
    if not 2 <= inputs.ndim <= 5 or 0 in inputs.shape[1:]:
        raise ValueError(f"{name} expects (batch, channels, *spatial), no size 0, with 0 to 3 spatial dimensions, "
                         f"got shape {tuple(inputs.shape)}; add or merge dimensions")
    if num_channels is not None and inputs.shape[1] != num_channels:
        raise ValueError(f"{name} expects {num_channels} channels in dimension 1, got shape {tuple(inputs.shape)}; "
                         f"build it with num_channels={inputs.shape[1]} or pass other inputs")


def check_count(count: int, least: int, expected: str, advice: str = "pass a whole number") -> None:
    """Refuse a count that is not a whole number of at least ``least``."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < least:
        raise ValueError(f"{expected}, got {count!r}; {advice}")


def check_finite(tensor: Tensor, name: str, what: str, advice: str) -> None:
    """Refuse NaN and infinite values."""
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} expects finite {what}, got {int((~torch.isfinite(tensor)).sum())} NaN or infinite "
                         f"values in a tensor of shape {tuple(tensor.shape)}; {advice}")


def check_temperature(temperature: Any) -> float | Tensor:
    """Return a temperature as a number, or as a tensor if there are several; refuse others than finite ones from 0.

    Where values cannot be looked at (on the meta device, compiled, under ``torch.func``) tensors are taken as they are.
    """
    if isinstance(temperature, Tensor) and not temperature.is_complex():
        if temperature.is_meta or is_transformed():
            return temperature
        if temperature.numel() > 1 and not bool((torch.isfinite(temperature) & (temperature >= 0)).all()):
            least, most = float(temperature.min()), float(temperature.max())
            raise ValueError(f"expected finite temperatures of at least 0, got some from {least:g} to {most:g}")
        if temperature.numel() != 1:
            return temperature
        temperature = temperature.item()
    if not isinstance(temperature, Real):
        raise ValueError(f"expected a finite temperature of at least 0, got {type(temperature).__name__}; lay out one "
                         "for each level with condflows.by_level")
    if not (math.isfinite(temperature) and float(temperature) >= 0):
        raise ValueError(f"expected a finite temperature of at least 0, got {temperature!r}")
    return float(temperature)


def check_broadcasts(temperature: float | Tensor, shape: Sequence[int]) -> None:
    """Refuse a tensor of temperatures that does not broadcast to a sample of a shape."""
    own, shape = tuple(temperature.shape) if isinstance(temperature, Tensor) else (), tuple(shape)
    if len(own) > len(shape) or any(n not in (1, size) for n, size in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(f"expected one temperature, or a tensor that broadcasts to a sample's shape {shape}, got "
                         f"shape {own}; condflows.by_level lays out one for each level")


def autocasts(device: torch.device) -> bool:
    """Tell whether autocast is on for a device; on the meta device, which has none, it is not."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def check_like(tensor: Tensor, module: nn.Module, name: str) -> None:
    """Refuse a tensor of another device or dtype than the parameters; autocast allows any dtype up to float32."""
    own = _first_parameter(module)
    if own is None or (tensor.dtype == own.dtype and tensor.device == own.device):
        return
    autocast = tensor.dtype in AUTOCAST and own.dtype in AUTOCAST and autocasts(own.device)
    if tensor.device != own.device or not autocast:
        raise TypeError(f"{name} expects {own.dtype} on {own.device} like its parameters, got {tensor.dtype} on "
                        f"{tensor.device}; convert it with .to(...), integer images with condflows.dequantize")


def _first_parameter(module: nn.Module) -> Tensor | None:
    """Return the first parameter of a module or of its children, as ``module.parameters()`` does, without a walk."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        parameter = None if child is None else _first_parameter(child)
        if parameter is not None:
            return parameter
    return None


def check_batch(context: Context, count: int, name: str) -> None:
    """Refuse a context or trace that does not have ``count`` rows, one for each input."""
    for tensor in context_tensors(context):
        if tensor.ndim == 0 or tensor.shape[0] != count:
            raise _other_rows(tensor, count, name)


def check_rows(context: Context, count: int, name: str) -> int:
    """Return the number of rows of a context, and refuse one whose number of rows does not divide ``count``."""
    if context is None or (isinstance(context, Tensor) and context.shape[:1] == (count,)):
        return count
    tensors = context_tensors(context)
    other = [tensor for tensor in tensors if tensor.ndim == 0 or tensor.shape[0] != count]
    if not other:
        return count
    rows = other[0].shape[0] if other[0].ndim else 0
    if rows == 0 or count % rows or any(tensor.ndim == 0 or tensor.shape[0] != rows for tensor in tensors):
        raise _other_rows(other[0], count, name)
    return rows


def _other_rows(tensor: Tensor, count: int, name: str) -> ValueError:
    return ValueError(f"{name} expects a context of batch size {count} like its inputs, "
                      f"got shape {tuple(tensor.shape)}; pass one context for each input")


def check_invertible(transform: Any) -> None:
    """Refuse an object that is neither a condflows bijector nor an nflows transform."""
    if not hasattr(transform, "inverse"):
        raise TypeError(f"expected a bijector or an nflows transform, got {type(transform).__name__}, which has no "
                        "inverse; derive yours from condflows.Bijector")
