"""The layers of the nets, their start at zero, and the check of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from condflows.bijector import at_least_float32
from condflows.bounds import soft_bound
from condflows.checks import check_like
from condflows.pyramid import is_pyramid, takes_size
from condflows.trace import Context, context_tensors, map_context

__all__ = ["BOUND", "BoundedNet", "conv", "net_forward", "mlp", "require", "start_at_zero"]

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


class BoundedNet(nn.Module):
    """A net that reads its inputs bounded softly, so that outliers give parameters like those of training."""

    reads_context: bool = True
    in_bfloat16: bool = False
    """True to run the layers in bfloat16, see :func:`condflows.bfloat16_nets`."""

    def extra_repr(self) -> str:
        """Describe the net beside its layers."""
        return "in_bfloat16=True" if self.in_bfloat16 else ""

    def bound(self, values: Tensor) -> Tensor:
        """Return the values as the net's layers see them."""
        return soft_bound(values, BOUND)


def net_forward(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a net's ``forward``: run its layers in bfloat16 if it is set so, and explain where it fails.

    The message says which tensor does not go with the net's parameters.
    """
    @wraps(forward)
    def call(net: BoundedNet, *inputs: Context, **named: Any) -> Any:
        try:
            device = next(net.parameters()).device.type if net.in_bfloat16 else "meta"
            if device == "meta":  # which has no autocast
                return forward(net, *inputs, **named)
            with torch.autocast(device, torch.bfloat16):
                outputs = forward(net, *inputs, **named)
            return map_context(lambda values: values.to(at_least_float32(values.dtype)), outputs)
        except RuntimeError:
            for tensor in context_tensors([*inputs, named.get("context")]):
                check_like(tensor, net, type(net).__name__)
            raise

    return call


def require(net: nn.Module, context: Context, channels: int, ndim: int | None = None, name: str = "") -> Tensor:
    """Return the context if it is of floating point and has these channels (and dimensions), or refuse it."""
    if (isinstance(context, Tensor) and context.is_floating_point() and context.ndim >= 2
            and context.shape[1] == channels and ndim in (None, context.ndim)):
        return context
    name = name or type(net).__name__
    if takes_size(net) and is_pyramid(context):
        raise TypeError(f"{name} got a pyramid, but not the size of its inputs, to choose a map by: it is wrapped, or "
                        "its forward is overridden; call it there as net(context, size=inputs.shape[2:])")
    if isinstance(context, (tuple, list, dict)):
        raise TypeError(f"{name} expects one tensor as context, got a {type(context).__name__}; put "
                        "conditioners.Select(key, net) in its place (On several inputs, in docs/conditioning.md)")
    fits = isinstance(context, Tensor) and context.ndim >= 2 and context.shape[1] == channels
    if isinstance(context, Tensor) and not fits and not context.is_floating_point():
        raise TypeError(f"{name} expects a floating-point context, got {context.dtype} of shape "
                        f"{tuple(context.shape)}; pass torch.nn.functional.one_hot(labels, classes).float(), classes "
                        "in dimension 1, or put conditioners.Embed before the net (On a class label, in "
                        "docs/conditioning.md)")
    if not fits:
        came = f"shape {tuple(context.shape)}" if isinstance(context, Tensor) else type(context).__name__
        raise ValueError(f"{name} expects a context tensor with {channels} channels in dimension 1, got {came}; "
                         "pass such a context or build the conditioner for its channels")
    check_like(context, net, name)
    raise ValueError(f"{name} expects a context with {(ndim or 2) - 2} spatial dimensions, got shape "
                     f"{tuple(context.shape)}; build it with spatial_dims={context.ndim - 2}, or for vectors "
                     "use MLPConditioner")
