"""The layers of the nets, their start at zero, and the check of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from condflows.checks import check_like
from condflows.trace import Context

__all__ = ["BOUND", "conv", "mlp", "require", "start_at_zero"]

BOUND = 3.0


def conv(spatial_dims: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """Build a convolution over 1 to 3 spatial dimensions that keeps their sizes, except for the stride."""
    if spatial_dims not in (1, 2, 3):
        raise ValueError(f"a convolutional conditioner expects 1 to 3 spatial dimensions, got {spatial_dims}; "
                         "use MLPConditioner for vectors")
    return getattr(nn, f"Conv{spatial_dims}d")(inputs, outputs, kernel, stride, padding=kernel // 2)


def mlp(sizes: Sequence[int]) -> Sequence[nn.Module]:
    """Build linear layers between these sizes, with ReLUs between them."""
    return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())][:-1]


def start_at_zero(net: Any) -> Any:
    """Set the output layer's parameters to 0 (section 4 of the paper), so that the start ignores the context."""
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return net


def require(net: nn.Module, context: Context, channels: int, ndim: int | None = None) -> Tensor:
    """Return the context if it has these channels (and dimensions) and goes with the net's parameters, or refuse it."""
    name = type(net).__name__
    if not isinstance(context, Tensor) or context.ndim < 2 or context.shape[1] != channels:
        came = f"shape {tuple(context.shape)}" if isinstance(context, Tensor) else type(context).__name__
        raise ValueError(f"{name} expects a context tensor with {channels} channels in dimension 1, got {came}; "
                         "pass such a context or build the conditioner for its channels")
    check_like(context, net, name)
    if ndim is not None and context.ndim != ndim:
        raise ValueError(f"{name} expects a context with {ndim - 2} spatial dimensions, got shape "
                         f"{tuple(context.shape)}; build it with spatial_dims={context.ndim - 2}, or for vectors "
                         "use MLPConditioner")
    return context
