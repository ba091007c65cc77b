"""A flow at fixed conditions as a distribution of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from condflows.base import has_rsample, reads_context
from condflows.chain import Chain
from condflows.checks import check_batch
from condflows.logit import Logit
from condflows.rows import repeat_rows
from condflows.shapes import sample_shape
from condflows.trace import Context, context_rows, context_tensors, map_context

__all__ = ["FlowDistribution"]


class FlowDistribution(Distribution):
    r"""Hold a flow and conditions, as a ``torch.distributions.Distribution``; :meth:`Flow.to_distribution` makes one.

    Its ``log_prob`` is :math:`\log p(x \mid c)` of the flow, and ``rsample`` draws :math:`x = f^{-1}(\epsilon, c)`,
    from which gradients reach the flow's parameters and the context, where the base distribution allows it.

    Shapes: ``batch_shape`` is ``()`` without a context and ``(B,)`` with one of B rows, ``event_shape`` that of one
    input, and ``log_prob`` of ``(*sample_shape, *batch_shape, *event_shape)`` is ``(*sample_shape, *batch_shape)``, in
    nats. ``support`` are all real values, or those between the ends of a :class:`Logit` as the first operation.
    Paper: none; the interface is that of ``torch.distributions``.

    Args:
        flow: a :class:`Flow`.
        context: the conditions, one a row, or None.
        size: the spatial size of the samples where the flow's shape leaves it open, as in :meth:`Flow.sample`.
        validate_args: check the values given to ``log_prob``; torch's default if None.

    Raises:
        ValueError: values of another shape, a batch shape that the conditions do not expand to, and the errors of
            :meth:`Flow.sample`.

    >>> flow = Flow(ActNorm(2, conditioners.MLPConditioner(3, 4)), shape=(2,))
    >>> given = flow.to_distribution(torch.randn(5, 3))
    >>> given.batch_shape, given.event_shape
    (torch.Size([5]), torch.Size([2]))
    >>> samples = given.rsample((10,))
    >>> samples.shape, given.log_prob(samples).shape
    (torch.Size([10, 5, 2]), torch.Size([10, 5]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, flow: Any, context: Context = None, size: Sequence[int] | None = None,
                 validate_args: bool | None = None):
        self.flow = flow
        self.context = context
        check_batch(context, context_rows(context), "Flow")
        batch_shape = Size([context_rows(context)] if context_tensors(context) else [])
        super().__init__(batch_shape, Size(sample_shape(flow.shape, context, size)), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """True if gradients pass through samples, as they do where they pass through those of the base."""
        base = self.flow._distribution
        context = self.flow._embedded(self.context) if reads_context(base) else self.context
        return has_rsample(base, context, self.event_shape)

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        """The values that have a density: all real ones, or those between the ends of a first ``Logit``."""
        return constraints.independent(_domain(self.flow.transform, self.event_shape), len(self.event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        """Return the same distribution with a larger batch shape, to which its own broadcasts."""
        torch.broadcast_shapes(self.batch_shape, tuple(batch_shape))
        made: Any = self._get_checked_instance(FlowDistribution, _instance)
        made.flow, made.context = self.flow, self.context
        Distribution.__init__(made, Size(batch_shape), self.event_shape, validate_args=False)
        made._validate_args = self._validate_args
        return made

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw samples ``(*sample_shape, *batch_shape, *event_shape)``, without gradients."""
        with torch.no_grad():
            return self._draw(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw samples ``(*sample_shape, *batch_shape, *event_shape)``, with gradients."""
        if not self.has_rsample:
            raise NotImplementedError("the base distribution of this flow has no rsample; use sample")
        return self._draw(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of values whose last dimensions are the event's, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        outer = torch.broadcast_shapes(value.shape[:value.ndim - len(self.event_shape)], self.batch_shape)
        rows = context_rows(self.context)
        values = value.expand(*outer, *self.event_shape).reshape(-1, rows, *self.event_shape)
        values = values.transpose(0, 1).flatten(0, 1)  # all of the first condition, then all of the next
        context = map_context(partial(repeat_rows, count=values.shape[0]), self.context)
        return self.flow.log_prob(values, context).unflatten(0, (rows, -1)).transpose(0, 1).reshape(outer)

    def _draw(self, sample_shape: Sequence[int]) -> Tensor:
        outer, rows = (*sample_shape, *self.batch_shape), context_rows(self.context)
        samples = self.flow.sample(math.prod(outer) // rows, self.context, size=self.event_shape[1:])
        samples = samples.transpose(0, 1) if context_tensors(self.context) else samples
        return samples.reshape(*outer, *self.event_shape)


def _domain(transform: Any, event_shape: Size) -> Any:
    """Return the constraint on the values of an input: an interval where the first operation is a ``Logit``."""
    while isinstance(transform, Chain) and transform.parts:
        transform = transform.parts[0]
    if not isinstance(transform, Logit):
        return constraints.real
    low, high = (end.view(-1, *(1 for _ in event_shape[1:])) for end in (transform.low, transform.high))
    return constraints.interval(low, high)
