"""Guidance: a flow that moves away from what it does without a condition."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import chain
from numbers import Real
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.base import reads_context
from condflows.bijector import Bijector
from condflows.composition import Composition
from condflows.conditioners.contexts import WrappedConditioner
from condflows.flow import Flow
from condflows.pyramid import by_size
from condflows.rows import shares_context
from condflows.trace import Context, Trace, map_context

__all__ = ["guide"]


def guide(flow: Flow, weight: float, nothing: float) -> Flow:
    r"""Build a flow whose nets go further from a context that says nothing than those of ``flow`` do.

    Each conditioner, of couplings, actnorms, 1x1 convolutions and priors, returns

    .. math:: g(c) + w\, (g(c) - g(\varnothing))

    with :math:`g` the conditioner, :math:`\varnothing` the context filled with ``nothing`` and :math:`w` the weight: 0
    is the flow itself, -1 the flow without a condition. The result is a flow as every other: its samples have the
    density that its ``log_prob`` says, which is not that of ``flow``. It is meant for a flow that was trained with some
    of its contexts replaced by ``nothing``; its samples then show more of what the condition asks for, and vary less.
    Each net is called twice, so it takes twice the time.

    Shapes and log-determinants: those of the flow. Paper: classifier-free guidance (arXiv 2207.12598), here of a flow's
    conditioners in place of scores.

    Args:
        flow: the flow; the result shares its parameters and buffers, and takes its contexts.
        weight: w, a finite number.
        nothing: the value that fills each tensor of a context that says nothing, as in training.

    Raises:
        TypeError: another model than a :class:`condflows.Flow`.
        ValueError: a weight or a value for nothing that is not finite; a base, or a bijector without a conditioner,
            that reads the context; when the result is called, a :class:`condflows.Trace` as context, or integer
            contexts that cannot hold ``nothing``.

    >>> encoder = conditioners.PyramidEncoder(1, features=(8,), classes=3)
    >>> flow = Flow(multiscale(3, (1,), lambda c: glow_step(c, conditioners.CouplingConditioner(c, 8, 8))),
    ...             embedding_net=encoder)
    >>> labels = torch.randint(3, (2, 1, 4, 8))
    >>> samples, log_prob = guide(flow, 1.0, nothing=encoder.nothing).sample_and_log_prob(5, context=labels)
    >>> samples.shape, log_prob.shape
    (torch.Size([2, 5, 3, 4, 8]), torch.Size([2, 5]))
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"guide expects a condflows.Flow, got {type(flow).__name__}; build one, as a PairedFlow "
                        "always has its context")
    if not isinstance(weight, Real) or not math.isfinite(weight):
        raise ValueError(f"guide expects a finite weight, got {weight!r}; 0 is the flow itself")
    if not isinstance(nothing, Real) or not math.isfinite(nothing):
        raise ValueError(f"guide expects a finite value for nothing, got {nothing!r}; give that of the training")
    if reads_context(flow._distribution):
        raise ValueError(f"guide expects a base that reads no context, got {type(flow.base).__name__}; let an ActNorm "
                         "with a conditioner end the transform instead")
    shared = {id(tensor): tensor for tensor in chain(flow.parameters(), flow.buffers())}
    transform = copy.deepcopy(flow.transform, shared)
    for part in list(transform.modules()):
        conditioner: Any = getattr(part, "conditioner", None)
        if isinstance(conditioner, nn.Module) and isinstance(part, Bijector):
            part.conditioner = Guided(conditioner, float(weight))
        elif isinstance(part, Transform) and is_reader(part):
            raise ValueError(f"guide expects all that reads the context to be conditioners, got {type(part).__name__}, "
                             "which reads it itself; give it a conditioner")
    return Flow(transform, flow.shape, flow.base, BothContexts(flow._embedding_net, nothing))


def is_reader(part: Transform) -> bool:
    """Tell whether a transform reads the context itself, and not in its parts."""
    return not isinstance(part, Composition) and getattr(part, "reads_context", False)


class Guided(WrappedConditioner):
    """A conditioner, or a coupling's net, guided; its context is a pair, the second of which says nothing."""

    def __init__(self, conditioner: nn.Module, weight: float):
        super().__init__(conditioner)
        self.weight = weight

    @by_size
    @shares_context
    def forward(self, *arguments: Any, size: Sequence[int] | None = None) -> Tensor:
        *first, both = arguments
        if both is None:
            return self.call(first, None, size)
        given, plain = (self.call(first, context, size) for context in both)
        return given + self.weight * (given - plain)


class BothContexts(nn.Module):
    """An embedding net of a context, and of one that says nothing."""

    def __init__(self, embedding_net: nn.Module, nothing: float):
        super().__init__()
        self.embedding_net, self.nothing = embedding_net, nothing

    def forward(self, context: Context) -> tuple[Context, Context]:
        if isinstance(context, Trace):
            raise ValueError("a guided flow expects a context of tensors, got a Trace; of another flow's outputs none "
                             "is left out")
        return self.embedding_net(context), self.embedding_net(map_context(self._emptied, context))

    def _emptied(self, tensor: Tensor) -> Tensor:
        """Return a tensor that is filled with what stands for nothing."""
        if not tensor.is_floating_point() and not tensor.is_complex():
            least, most = (0, 1) if tensor.dtype is torch.bool else (
                torch.iinfo(tensor.dtype).min, torch.iinfo(tensor.dtype).max)
            if self.nothing != int(self.nothing) or not least <= self.nothing <= most:
                raise ValueError(f"a guided flow expects a context that can hold {self.nothing!r}, its value for "
                                 f"nothing, got {tensor.dtype}; convert it, or guide with the value of the training")
        return torch.full_like(tensor, self.nothing)
