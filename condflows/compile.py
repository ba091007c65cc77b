"""Compilation of the steps of a flow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from condflows.chain import Chain, recompute_chain, recomputes
from condflows.composition import records
from condflows.hooks import has_hooks
from condflows.trace import Context

__all__ = ["compile_steps"]

Model = TypeVar("Model", bound=nn.Module)
Direction = Callable[..., tuple[Tensor, Tensor]]
_numbers = count()


def compile_steps(flow: Model, **options: Any) -> Model:
    """Compile the steps of a flow in place and return it; the rest, squeezes, splits and priors, runs as before.

    A step is a :class:`Chain` that contains no other, as :func:`condflows.glow_step` builds them; it is compiled in
    both directions. Steps of one kind, with the same modules and sizes of parameters, share their compiled code, so its
    amount grows with the levels of a flow and not with its depth. A kind is compiled when it is first called, and again
    for each case that needs other code: the other direction, with or without gradients, under autocast, for other sizes
    or layouts of its inputs. Maps, shapes and log-determinants stay the same, up to the rounding of the dtype. A step
    runs uncompiled while a module in it has hooks, and copies are not compiled. Paper: none.

    Args:
        flow: a flow, a pair of flows or a bijector, before or after wrapping, for example for distributed training.
        options: those of :func:`torch.compile`. Unless given, ``fullgraph=True``: a step that is not one graph, for
            example for a spline of nflows, is an error; and where torch knows it (2.13), ``recompile_limit=64``.

    Raises:
        ValueError: the flow has no steps.

    >>> bijector = multiscale(1, (2, 2), lambda c: glow_step(c, conditioners.CouplingConditioner(c, 8)))
    >>> flow = compile_steps(Flow(bijector), backend="eager")
    >>> flow.log_prob(torch.randn(2, 1, 8, 8)).shape
    torch.Size([2])
    """
    steps = [m for m in flow.modules() if isinstance(m, Chain) and sum(isinstance(n, Chain) for n in m.modules()) == 1]
    if not steps:
        raise ValueError(f"compile_steps expects a flow with steps, got {type(flow).__name__} without any Chain; "
                         "build its steps with glow_step, or use torch.compile")
    limit = {"recompile_limit": 64} if "recompile_limit" in inspect.signature(torch.compile).parameters else {}
    compiled: dict[Any, tuple[Direction, Direction]] = {}
    for step in steps:
        kind = repr(step), *((name, value.shape) for name, value in step.state_dict().items())
        if kind not in compiled:
            every = {"fullgraph": True, **limit, **options}
            plain = getattr(type(step), "plain", type(step))
            compiled[kind] = _compile(plain.forward, every), _compile(plain.inverse, every)
        step.__class__ = _compiled_class(type(step))
        step._compiled = compiled[kind]  # type: ignore[attr-defined]
    return flow


def _compile(method: Any, options: dict[str, Any]) -> Direction:
    """Return a compiled clone of a method of a chain.

    Dynamo keeps its compilations, their limit and the sizes it has seen with the code object, so each kind of step has
    its own code object: if levels shared one, their sizes would make dynamo compile for any size.
    """
    from torch._dynamo.exc import Unsupported

    code = method.__code__.replace(co_name=f"{method.__name__}_{next(_numbers)}")
    clone = FunctionType(code, method.__globals__, code.co_name, method.__defaults__, method.__closure__)
    compiled = torch.compile(clone, **options)

    def run(*arguments: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
        try:
            return compiled(*arguments, **keywords)
        except Unsupported:
            method(*arguments, **keywords)  # where it refuses its inputs, its own error is plainer
            raise

    return run


@cache
def _compiled_class(kind: type[Chain]) -> type[Chain]:
    """Return a subclass of ``kind`` whose chains run compiled; copied or saved, they are plain chains of ``kind``."""
    if issubclass(kind, _Compiled):
        return kind
    return type(f"Compiled{kind.__name__}", (_Compiled, kind), {"plain": kind, "__module__": __name__})


class _Compiled(Chain):
    """A chain that runs compiled, unless a module in it has hooks, which compiled code would skip."""

    plain: type[Chain]
    _compiled: tuple[Direction, Direction]

    @records
    def forward(self, inputs: Tensor, context: Context = None,  # type: ignore[override]
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        return self._run(self.plain.forward, self._compiled[0], inputs, context, record)

    @records
    def inverse(self, inputs: Tensor, context: Context = None,  # type: ignore[override]
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        return self._run(self.plain.inverse, self._compiled[1], inputs, context, record)

    def _run(self, plain: Direction, compiled: Direction, inputs: Tensor, context: Context,
             record: list[Any] | None) -> tuple[Tensor, Tensor]:
        if any(map(has_hooks, self.modules())):
            return plain(self, inputs, context, *([] if record is None else [record]))
        if recomputes(self) and plain in (Chain.forward, Chain.inverse):
            return recompute_chain(partial(compiled, self, recomputed=True), inputs, context, record)
        if record is None:
            return compiled(self, inputs, context)
        own: list[Any] = []  # always as long, of which dynamo takes note
        outputs, logabsdet = compiled(self, inputs, context, own)
        record.extend(own)
        return outputs, logabsdet

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = {name: value for name, value in self.__dict__.items() if name != "_compiled"}
        return _uncompiled, (self.plain,), state


def _uncompiled(kind: type[Chain]) -> Chain:
    return kind.__new__(kind)
