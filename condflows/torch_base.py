"""Distributions of torch.distributions as bases of flows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from nflows.distributions.base import Distribution
from torch import Tensor
from torch import distributions as td
from torch.distributions import constraints

from condflows.bijector import at_least_float32
from condflows.trace import Context, context_rows

__all__ = ["TorchBase"]

LOCATION_SCALE = (td.Normal, td.Laplace, td.StudentT, td.Cauchy, td.MultivariateNormal, td.LowRankMultivariateNormal)


class TorchBase(Distribution):
    """A distribution of ``torch.distributions``: a fixed one, or one that a callable makes of the context.

    A fixed one follows the flow to its device and dtype; it is neither trained nor part of the state dict.
    """

    def __init__(self, given: td.Distribution | Callable[[Context], td.Distribution]):
        super().__init__()
        self.given = given
        if isinstance(given, td.Distribution) and any(tensor.requires_grad for tensor in _tensors(given)):
            raise ValueError(f"Flow expects a fixed distribution as base, got {type(given).__name__} with parameters "
                             "to train, which the flow would not see; pass a module that holds them and whose "
                             "forward(context) returns the distribution")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchBase:
        super()._apply(fn, recurse)
        if isinstance(self.given, td.Distribution):
            self.given = _map_tensors(fn, self.given)
        return self

    def log_prob(self, inputs: Tensor, context: Context = None) -> Tensor:
        inputs = inputs.to(at_least_float32(inputs.dtype))
        of_context = self.at(context, inputs.shape[1:])
        values = inputs.unflatten(0, (of_context.batch_shape[0], -1)).transpose(0, 1)
        return _log_prob_in_support(of_context, values).T.flatten()

    def at(self, context: Context, shape: Sequence[int]) -> td.Distribution:
        """Return a distribution whose batch is the rows of the context and whose event is one input."""
        fixed = isinstance(self.given, td.Distribution)
        made: Any = self.given if fixed else self.given(context)  # type: ignore[operator]
        if not isinstance(made, td.Distribution):
            raise TypeError(f"Flow expects of its base a torch.distributions.Distribution for a context, got "
                            f"{type(made).__name__}; return one")
        if getattr(_support(made), "is_discrete", False):
            raise ValueError(f"Flow expects a continuous distribution as base, got {type(made).__name__}, which is "
                             "discrete; choose another, or turn integers into densities with condflows.dequantize")
        whole = (1 if fixed else context_rows(context), *shape)
        outer = whole[:len(whole) - len(made.event_shape)]
        try:
            if not outer or made.event_shape != whole[len(outer):]:
                raise ValueError
            made = made if made.batch_shape == outer else made.expand(outer)
        except (RuntimeError, ValueError):
            raise ValueError(f"Flow expects a base distribution over inputs of shape {tuple(shape)}, {whole[0]} of "
                             f"them for this context, got {type(made).__name__} of batch shape "
                             f"{tuple(made.batch_shape)} and event shape {tuple(made.event_shape)}; give it that "
                             "shape, or one that broadcasts") from None
        return td.Independent(made, len(outer) - 1) if len(outer) > 1 else made

    def draw(self, batch: tuple[int, int], shape: Sequence[int], context: Context) -> Tensor:
        """Draw noise ``(*batch, *shape)``, with gradients if the distribution has them."""
        made = self.at(context, shape)
        count = math.prod(batch) // made.batch_shape[0]
        noise = (made.rsample if made.has_rsample else made.sample)((count,))
        return noise.transpose(0, 1).flatten(0, 1).unflatten(0, batch)

    def location(self, context: Context, shape: Sequence[int]) -> Tensor | None:
        """Return what the temperature scales around; None if the distribution is not one of location and scale."""
        family = self.at(context, shape)
        while isinstance(family, td.Independent):
            family = family.base_dist
        return family.loc.unsqueeze(1) if isinstance(family, LOCATION_SCALE) else None


def _log_prob_in_support(distribution: td.Distribution, values: Tensor) -> Tensor:
    """Return the log-density of values, -inf for those outside of the support, which get no gradient."""
    support = _support(distribution)
    if _is_real(support):
        return distribution.log_prob(values)
    try:
        inner = distribution.mean
    except NotImplementedError:  # no value inside is known: torch refuses those outside
        return distribution.log_prob(values)
    inside = support.check(values)
    each = inside.view(*inside.shape, *(1 for _ in distribution.event_shape))
    return distribution.log_prob(torch.where(each, values, inner)).masked_fill(~inside, -torch.inf)


def _support(distribution: td.Distribution) -> Any:
    """Return the support of a distribution; None where it does not tell."""
    try:
        return distribution.support
    except NotImplementedError:
        return None


def _is_real(support: Any) -> bool:
    """Tell whether a support is all real numbers or vectors of them, as one that is not told is taken to be."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is None or support is constraints.real


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors that a distribution is made of."""
    found: list[Tensor] = []
    _map_tensors(lambda tensor: found.append(tensor) or tensor, value)
    return found


def _map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Copy a distribution, with ``function`` applied to every tensor that it, its parts and transforms are made of."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_map_tensors(function, part) for part in value])
    if isinstance(value, td.transforms._InverseTransform):  # which refers to its inverse, and that back to it
        return _map_tensors(function, value.inv).inv
    if isinstance(value, (td.Distribution, td.Transform)):
        made = copy.copy(value)
        if isinstance(made, td.Transform):
            made._inv = None
        vars(made).update({name: _map_tensors(function, part) for name, part in vars(made).items()})
        return made
    return value
