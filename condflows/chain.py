"""Composition, the swap of directions, and compilation."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from itertools import count
from types import FunctionType
from typing import Any, TypeVar

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.bijector import Composition, Recorded, apply
from condflows.trace import Condition, Context

__all__ = ["Chain", "Inverse", "compile_steps"]

Model = TypeVar("Model", bound=nn.Module)
_regions = count()


class Chain(Composition):
    """The bijectors one after the other; any nflows transform may be among them.

    A :class:`condflows.Trace` as context is dealt out, the n-th bijector receiving the n-th entry in either
    direction; any other context goes to all of them unchanged.

    Shapes: as the bijectors make them. Log-determinant: the sum of theirs.

    Args:
        bijectors: in the order of ``forward``.
        checkpoint: keep only the chain's inputs and recompute its activations in the backward pass
            (:func:`torch.utils.checkpoint.checkpoint`, non-reentrant): memory for a third to two thirds more time. Set
            it on the steps of a flow rather than on the whole.

    Raises:
        ValueError: a trace of another structure.

    >>> from condflows import ActNorm, LUConv1x1
    >>> chain = Chain([ActNorm(3), LUConv1x1(3)])
    >>> outputs, logabsdet, trace = chain.forward_with_trace(torch.randn(2, 3))
    >>> len(trace), torch.equal(trace[1], outputs)
    (2, True)
    """

    def __init__(self, bijectors: Iterable[Transform], checkpoint: bool = False):
        super().__init__()
        self.bijectors = nn.ModuleList(list(bijectors))
        self.checkpoint = checkpoint

    @property
    def parts(self) -> Sequence[Transform]:  # type: ignore[override]
        """The bijectors, in the order of ``forward``."""
        return tuple(self.bijectors)  # type: ignore[arg-type]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile both directions, with and without a trace, by :func:`torch.compile` with these arguments.

        Copies are not compiled, nor is the chain while a bijector has hooks, as in :func:`condflows.initialize`.
        """
        from torch._dynamo.exc import Unsupported

        # Dynamo keeps its compilations, their limit and the sizes it has seen with the code object: this has its own.
        code = Composition._run.__code__.replace(co_name=f"chain_{next(_regions)}")
        compiled = torch.compile(FunctionType(code, Composition._run.__globals__), *args, **kwargs)

        def run(chain: Chain, *arguments: Any) -> Recorded:
            try:
                return compiled(chain, *arguments)
            except Unsupported:
                Composition._run(chain, *arguments)  # where it refuses its inputs, its own error is plainer
                raise

        self._compiled = run

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_compiled"}

    def _run(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> Recorded:
        plain = not self._compiled or any(part._forward_pre_hooks or part._forward_hooks for part in self.bijectors)
        cascade: Any = Composition._run if plain else self._compiled
        context = context.expand() if cascade is self._compiled and isinstance(context, Condition) else context
        if self.checkpoint and torch.is_grad_enabled():
            return recompute(cascade, self, inputs, context, inverse, record, use_reentrant=False)
        return cascade(self, inputs, context, inverse, record)


class Inverse(Composition):
    """A bijector with its two directions swapped: ``Inverse(Squeeze())`` undoes ``Squeeze()``.

    Contexts and traces are those of the bijector itself.

    >>> Inverse(Squeeze())(torch.zeros(1, 12, 2, 3))[0].shape
    torch.Size([1, 3, 4, 6])
    """

    def __init__(self, bijector: Transform):
        super().__init__()
        self.bijector = bijector

    @property
    def parts(self) -> Sequence[Transform] | None:  # type: ignore[override]
        """Those of the bijector."""
        return getattr(self.bijector, "parts", None)

    def _run(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> Recorded:
        return apply(self.bijector, inputs, context, not inverse, record)


def compile_steps(flow: Model, **options: Any) -> Model:
    """Compile the steps of a flow in place and return it; the rest, squeezes, splits and priors, runs as before.

    A step is a :class:`Chain` that contains no other, as :func:`condflows.glow_step` builds them. Steps of one kind, of
    the same modules and sizes of parameters, share what is compiled, so its amount grows with the levels of a flow and
    not with its depth. A kind is compiled when it is first called, and again for what needs other code: the other
    direction, with or without gradients, under autocast, for other sizes or layouts of its inputs.

    Args:
        flow: a flow, a pair of flows or a bijector; wrapped, for example for distributed training, or to be wrapped.
        options: those of :func:`torch.compile`. Unless given, ``fullgraph=True``: a step that is not one graph, for
            example for a spline of nflows, is an error; and where torch knows it (2.13), ``recompile_limit=64``.

    Raises:
        ValueError: there are no steps in it.

    >>> from condflows.conditioners import CouplingConditioner
    >>> bijector = multiscale(1, (2, 2), lambda c: glow_step(c, CouplingConditioner(c, 8)))
    >>> flow = compile_steps(Flow(bijector, (1, None, None)), backend="eager")
    >>> flow.log_prob(torch.randn(2, 1, 8, 8)).shape
    torch.Size([2])
    """
    steps = [m for m in flow.modules() if isinstance(m, Chain) and sum(isinstance(n, Chain) for n in m.modules()) == 1]
    if not steps:
        raise ValueError(f"compile_steps expects a flow with steps, got {type(flow).__name__} without any Chain; "
                         "build its steps with glow_step, or use torch.compile")
    limit = {"recompile_limit": 64} if "recompile_limit" in inspect.signature(torch.compile).parameters else {}
    first: dict[Any, Chain] = {}
    for step in steps:
        kind = repr(step), *((name, value.shape) for name, value in step.state_dict().items())
        if kind not in first:
            step.compile(**{"fullgraph": True, **limit, **options})
        step._compiled = first.setdefault(kind, step)._compiled
    return flow
