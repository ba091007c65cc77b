"""Composition, and the swap of directions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.bijector import Bijector, apply, at_least_float32, check_inputs
from condflows.trace import Context, Trace, route

__all__ = ["Chain", "Inverse"]


class Chain(Bijector):
    """The bijectors one after the other; any nflows transform may be among them.

    A :class:`condflows.Trace` as context is dealt out, the n-th bijector receiving the n-th entry in either
    direction; any other context goes to all of them unchanged.

    Shapes: as the bijectors make them. Log-determinant: the sum of theirs.

    Args:
        bijectors: in the order of ``forward``.
        checkpoint: keep only the chain's inputs and recompute its activations in the backward pass
            (:func:`torch.utils.checkpoint.checkpoint`, non-reentrant): memory for about a third more time. Set it on
            the steps of a flow rather than on the whole.

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
        self.bijectors = nn.ModuleList(bijectors)
        self.checkpoint = checkpoint

    @property
    def parts(self) -> Sequence[Transform]:  # type: ignore[override]
        """The bijectors, in the order of ``forward``."""
        return tuple(self.bijectors)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._run(inputs, context, inverse=False, record=False)[:2]

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._run(inputs, context, inverse=True, record=False)[:2]

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Trace]:
        return self._run(inputs, context, inverse=False, record=True)

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Trace]:
        return self._run(inputs, context, inverse=True, record=True)

    def _run(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> tuple[Tensor, Tensor, Trace]:
        if self.checkpoint and torch.is_grad_enabled():
            return recompute(self._cascade, inputs, context, inverse, record, use_reentrant=False)
        return self._cascade(inputs, context, inverse, record)

    def _cascade(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> tuple[Tensor, Tensor, Trace]:
        check_inputs(inputs, "Chain")
        steps = list(zip(self.parts, route(context, self), strict=True))
        outputs, entries = inputs, []
        total = inputs.new_zeros(len(inputs), dtype=at_least_float32(inputs.dtype))
        for part, part_context in reversed(steps) if inverse else steps:
            outputs, logabsdet, entry = apply(part, outputs, part_context, inverse, record)
            total = total + logabsdet
            if record:
                entries.append(entry)
        return outputs, total, Trace(entries[::-1] if inverse else entries)


class Inverse(Bijector):
    """A bijector with its two directions swapped: ``Inverse(Squeeze())`` undoes ``Squeeze()``.

    Contexts and traces are those of the bijector itself.

    >>> Inverse(Squeeze())(torch.zeros(1, 12, 2, 3))[0].shape
    torch.Size([1, 3, 4, 6])
    """

    def __init__(self, bijector: Transform):
        super().__init__()
        self.bijector = bijector

    @property
    def parts(self) -> Sequence[Transform | None] | None:  # type: ignore[override]
        """Those of the bijector."""
        return getattr(self.bijector, "parts", None)

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.bijector.inverse(inputs, context)

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.bijector(inputs, context)

    def forward_with_trace(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor | Trace]:
        return apply(self.bijector, inputs, context, inverse=True, record=True)

    def inverse_with_trace(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor | Trace]:
        return apply(self.bijector, inputs, context, inverse=False, record=True)
