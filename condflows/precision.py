"""Nets in bfloat16, in a flow that is otherwise in float32."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from condflows.conditioners.layers import BoundedNet

__all__ = ["bfloat16_nets"]

Module = TypeVar("Module", bound=nn.Module)


def bfloat16_nets(module: Module, enabled: bool = True) -> Module:
    r"""Run the layers of the library's nets in bfloat16, of a whole flow or of one conditioner, in place.

    :math:`\mathrm{net}_W(x) \mapsto \mathrm{net}_{\rho(W)}(\rho(x))`, with :math:`\rho` the rounding to bfloat16, of
    each layer's outputs too. A net is rounded when it is called, and its outputs are float32 again. Its parameters,
    scales and shifts, log-determinants, matrices of 1x1 convolutions and all else stay float32. The net is the same
    function in both directions, in training and in sampling; models in float64 stay in float64. Inside of
    ``torch.func.vmap`` torch rounds nothing, and the nets run in float32.

    It pays on machines with units for bfloat16, and for wide nets (``docs/performance.md``). Round trips are less
    exact: where the inverse gives a net values whose last bits differ, a rounding may flip
    (``docs/numerical_safety.md``). Shapes and log-determinants: those of the module. Paper: none.

    Args:
        module: a conditioner, a bijector or a flow; nets that are not the library's are left as they are.
        enabled: False for float32 again.

    Raises:
        ValueError: a module without a net of the library.
        TypeError: an object that is no module.

    Returns the module itself.

    >>> net = bfloat16_nets(conditioners.CouplingConditioner(4, width=8))
    >>> net(torch.randn(2, 2, 8, 8)).dtype, net.net[0].weight.dtype
    (torch.float32, torch.float32)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"bfloat16_nets expects a flow, a bijector or a conditioner, got {type(module).__name__}")
    nets = [net for net in module.modules() if isinstance(net, BoundedNet)]
    if not nets:
        raise ValueError(f"bfloat16_nets expects a module with nets of condflows.conditioners, got "
                         f"{type(module).__name__} without any; run nets of your own under torch.autocast")
    for net in nets:
        net.in_bfloat16 = enabled
    return module
