"""Bijectors one after the other, and a bijector with its directions swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.bijector import zero_logabsdet
from condflows.checks import check_inputs
from condflows.composition import Composition, recording, recording_inverse, records
from condflows.hooks import in_torch_func, is_transformed
from condflows.merge import merge, runs_itself_alone
from condflows.rows import context_for, shares_context
from condflows.trace import Context, Trace, route

__all__ = ["Chain", "Inverse", "recompute_chain", "recomputes"]


class Chain(Composition):
    r"""Bijectors applied one after the other; nflows transforms may be among them.

    With the bijectors :math:`f_1, \ldots, f_n`, :math:`h_0 = x` and :math:`c_i` the context of the i-th,

    .. math:: h_i = f_i(h_{i-1}, c_i), \quad y = h_n

    A :class:`condflows.Trace` as context is dealt out: the n-th bijector receives the n-th entry, in either
    direction. Any other context goes to all of them unchanged. The trace of the chain holds :math:`h_1, \ldots, h_n`.

    Shapes: those of the bijectors. Log-determinant, in nats: the sum of theirs,
    :math:`\sum_i \log \left| \det \partial h_i / \partial h_{i-1} \right|`.
    Paper: RealNVP (arXiv 1605.08803) section 3.4.

    Args:
        bijectors: in the order of ``forward``.
        checkpoint: keep only the chain's inputs and recompute its activations in the backward pass
            (:func:`torch.utils.checkpoint.checkpoint`, non-reentrant): this saves memory and takes a third to a half
            more time. Set it on the steps of a flow rather than on the whole.

    Raises:
        ValueError: a trace of another structure.
        TypeError: a part without an ``inverse``.

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

    @records
    @shares_context
    def forward(self, inputs: Tensor, context: Context = None, record: list[Any] | None = None,
                recomputed: bool = False) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "Chain")
        if recomputes(self) and not recomputed:
            return recompute_chain(partial(Chain.forward, self, recomputed=True), inputs, context, record)
        entries: Any = None if record is None else []
        outputs, total = inputs, zero_logabsdet(inputs)
        for bijector, own in self._steps(context, inputs, record):
            own = context_for(bijector.forward, own, outputs.shape[0])
            outputs, logabsdet = recording(bijector, entries)(outputs, own)
            total = total + logabsdet
        if record is not None:
            record.append(Trace(entries))
        return outputs, total

    @records
    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None, record: list[Any] | None = None,
                recomputed: bool = False) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "Chain")
        if recomputes(self) and not recomputed:
            return recompute_chain(partial(Chain.inverse, self, recomputed=True), inputs, context, record)
        entries: Any = None if record is None else []
        outputs, total = inputs, zero_logabsdet(inputs)
        for bijector, own in self._steps(context, inputs, record, inverse=True)[::-1]:
            own = context_for(bijector.inverse, own, outputs.shape[0])
            outputs, logabsdet = recording_inverse(bijector, entries)(outputs, own)
            total = total + logabsdet
        if record is not None:
            record.append(Trace(entries[::-1]))
        return outputs, total

    def _steps(self, context: Context, inputs: Tensor, record: list[Any] | None,
               inverse: bool = False) -> list[tuple[Any, Context]]:
        """Return the parts with the context of each; where nothing is recorded, in a form that is fast to run."""
        steps = zip(self.parts, route(context, self), strict=True)
        plain = record is not None or is_transformed()
        return list(steps) if plain else merge(list(_unfold(steps)), inputs, inverse)


def _unfold(steps: Iterable[tuple[Any, Context]]) -> Iterator[tuple[Any, Context]]:
    """Replace chains whose calls would run their parts and nothing else by these parts."""
    for part, context in steps:
        if type(part) is Chain and not part.checkpoint and runs_itself_alone(part):
            yield from _unfold(zip(part.parts, route(context, part), strict=True))
        else:
            yield part, context


class Inverse(Composition):
    r"""A bijector with its two directions swapped: ``Inverse(Squeeze())`` undoes ``Squeeze()``.

    :math:`y = f^{-1}(x, c)`. Contexts and traces are those of the bijector :math:`f` itself.

    Shapes: those of :math:`f`, exchanged. Log-determinant, in nats: that of ``f.inverse``. Paper: none.

    Args:
        bijector: :math:`f`; ours or from nflows.

    Raises:
        TypeError: a module without an ``inverse``; and the errors of :math:`f`.

    >>> Inverse(Squeeze())(torch.zeros(1, 12, 2, 3))[0].shape
    torch.Size([1, 3, 4, 6])
    """

    def __init__(self, bijector: Transform):
        super().__init__()
        self.bijector = bijector

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True if the bijector can read a context."""
        return getattr(self.bijector, "reads_context", True)

    @property
    def parts(self) -> Sequence[Transform] | None:  # type: ignore[override]
        """The parts of the bijector; None for a single operation."""
        return getattr(self.bijector, "parts", None)

    @records
    @shares_context
    def forward(self, inputs: Tensor, context: Context = None,
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        run = recording_inverse(self.bijector, record)
        return run(inputs, context_for(self.bijector.inverse, context, inputs.shape[0]))

    @records
    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None,
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        run = recording(self.bijector, record)
        return run(inputs, context_for(self.bijector.forward, context, inputs.shape[0]))


def recomputes(chain: Any) -> bool:
    """Tell whether a call of a chain or split is made in a checkpoint: not inside of torch.func, which has none."""
    return chain.checkpoint and torch.is_grad_enabled() and not in_torch_func()


def recompute_chain(run: Callable[..., tuple[Tensor, Tensor]], inputs: Tensor, context: Context,
                    record: list[Any] | None) -> tuple[Tensor, Tensor]:
    """Run a direction of a chain in a checkpoint; the recorded trace is that of the first run."""
    if record is None:
        return recompute(run, inputs, context, use_reentrant=False)

    def run_recorded(inputs: Tensor, context: Context) -> tuple[Tensor, Tensor, Trace]:
        own: list[Any] = []
        return *run(inputs, context, own), own[0]

    outputs, logabsdet, trace = recompute(run_recorded, inputs, context, use_reentrant=False)
    record.append(trace)
    return outputs, logabsdet
