"""A report of where a flow inverts badly."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.actnorm import ActNorm
from condflows.conditioners.layers import BoundedNet
from condflows.couplings import AffineCoupling
from condflows.flow import Flow
from condflows.luconv import LUConv1x1
from condflows.pairs import PairedFlow
from condflows.trace import Context

__all__ = ["InvertibilityReport", "Place", "invertibility_report"]


class Place(NamedTuple):
    """A bijector of a flow, and how it inverted a batch: its name as ``flow.get_submodule`` takes it, its class, the
    largest absolute value that entered it, and the largest absolute error of ``inverse(forward(x))``.

    The scales are the factors of an actnorm or coupling, or the singular values of a 1x1, with the condition number.
    Errors are in the units of the inputs. ``nets`` is ``"bfloat16"`` where a net in it runs in bfloat16: its roundings
    add to the error.

    >>> place = testing.invertibility_report(ActNorm(3), torch.ones(5, 3))[0]
    >>> place.largest, place.error, place.min_scale, place.max_scale
    (1.0, 0.0, 1.0, 1.0)
    """

    name: str
    kind: str
    largest: float
    error: float
    min_scale: float | None = None
    max_scale: float | None = None
    condition: float | None = None
    nets: str | None = None


class InvertibilityReport(tuple[Place, ...]):
    """The places of a flow in the order in which data enters them; ``print`` shows a table.

    >>> chain = Chain([ActNorm(3), LUConv1x1(3)])
    >>> report = testing.invertibility_report(chain, torch.randn(5, 3))
    >>> [(place.name, place.kind) for place in report]
    [('', 'Chain'), ('bijectors.0', 'ActNorm'), ('bijectors.1', 'LUConv1x1')]
    """

    def __str__(self) -> str:
        shown = slice(2, None if any(place.nets for place in self) else -1)
        rows, outer = [("", "", *(field.replace("_", " ") for field in Place._fields[shown]))], []
        for name, kind, *figures in ((*place[:2], *place[shown]) for place in self):
            outer = [other for other in outer if name.startswith(other)]
            label = "  " * len(outer) + name.removeprefix(outer[-1] if outer else "")
            rows.append((label, kind, *map(_cell, figures)))
            outer.append(f"{name}." if name else "")
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        return "\n".join(f"{a:{first}}  {b:{second}}" + "".join(f"{cell:>11}" for cell in row) for a, b, *row in rows)


def _cell(figure: float | str | None) -> str:
    return figure if isinstance(figure, str) else "" if figure is None else f"{figure:.2g}"


@torch.no_grad()
def invertibility_report(flow: nn.Module, inputs: Tensor, context: Context = None) -> InvertibilityReport:
    """Find where a flow loses invertibility: the round-trip error of every level, step and operation on its inputs.

    Where the error of a composition exceeds those of its parts, their errors were amplified on the way back.

    Args:
        flow: a flow, a pair of flows (both are reported) or a bijector; an ``Inverse`` and its bijector are one place.
        inputs: a batch of data; for a pair, the target's.
        context: what ``log_prob`` or ``forward`` takes with them.

    Raises:
        TypeError: an object that is no flow and no bijector; and the errors of its forward pass.

    >>> (place,) = testing.invertibility_report(Flow(LUConv1x1(3)), torch.randn(5, 3))
    >>> place.name, place.error < 1e-5, place.condition < 1.001  # a rotation
    ('_transform', True, True)
    """
    flow = copy.deepcopy(flow)  # which is not compiled, and free to be hooked
    runs = [(getattr(flow, "_transform", flow), inputs, flow._embedded(context) if isinstance(flow, Flow) else context)]
    if isinstance(flow, PairedFlow):
        x_a = context[0] if isinstance(context, (tuple, list)) else context
        read = flow.target._embedded(flow._trace(context))
        runs = [(flow.source.transform, x_a, None), (flow.target.transform, inputs, read)]
    names = {module: name for name, module in flow.named_modules() if isinstance(module, Transform)}
    if not names:
        raise TypeError(f"invertibility_report expects a flow or a bijector, got {type(flow).__name__}")
    calls: list[list[Any]] = []

    def leave(module: Transform, args: tuple, results: tuple) -> None:
        next(call for call in reversed(calls) if call[0] is module).append(results[0])

    for module in names:
        module.register_forward_pre_hook(lambda *call: calls.append([*call]), with_kwargs=True)
        module.register_forward_hook(leave)
    for transform, *run in runs:
        transform(*run)
    # Of the calls until now: an Inverse may make more in its own inverse.
    return InvertibilityReport(_place(names[module], module, outputs, *args, **kwargs)
                               for module, args, kwargs, outputs in tuple(calls))


def _place(name: str, bijector: Any, outputs: Tensor, inputs: Tensor, context: Context = None, **record: Any) -> Place:
    scales: Any = None
    condition = None
    if isinstance(bijector, ActNorm):
        scales = bijector._log_scale_and_shift(inputs, context)[0].exp()
    elif isinstance(bijector, AffineCoupling):
        scales = bijector.affine(*bijector.split(inputs, context)[2].chunk(2, dim=1))[0].exp()
    elif isinstance(bijector, LUConv1x1):
        lower, upper, _ = bijector._factors(inputs, context)
        matrices = (lower @ upper).cpu().numpy().astype("float64")  # which not every device has
        scales = np.linalg.svd(matrices, compute_uv=False)  # the largest one first
        condition = float((scales[..., 0] / scales[..., -1]).max())
    restored = bijector.inverse(outputs, context)[0]
    low, high = (None, None) if scales is None else (float(scales.min()), float(scales.max()))
    return Place(name, type(bijector).__name__, float(inputs.abs().max()), float((restored - inputs).abs().max()),
                 low, high, condition, "bfloat16" if any(map(_rounds, bijector.modules())) else None)


def _rounds(module: Any) -> bool:
    return isinstance(module, BoundedNet) and module.in_bfloat16
