"""Actnorms and the 1x1 convolutions after them as one product: the same map, from the same parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from condflows.actnorm import ActNorm
from condflows.bijector import at_least_float32, precise
from condflows.checks import check_inputs
from condflows.hooks import has_hooks, is_marked
from condflows.luconv import LUConv1x1, factors, inverse_matrix, matrix, multiply
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["merge", "runs_itself_alone"]

LARGEST = 2**18  # entries of the matrices that are computed together

Step = tuple[Any, Context]


def merge(steps: list[Step], inputs: Tensor, inverse: bool = False) -> list[Step]:
    r"""Replace each actnorm and the 1x1 convolution after it, neither of which reads a context, by one product.

    :math:`W (e^a x + b) = W e^a (x - m)` with :math:`m = -b / e^a`; the inverse is :math:`e^{-a} W^{-1} y + m`. The
    matrices of all pairs are computed in one batch, before the chain runs: no part may change another's parameters.
    Pairs whose calls would do anything else are left as they are: those with hooks or parametrizations, of derived
    classes, with methods that were replaced.

    Args:
        steps: the parts of a chain in the order of ``forward``, with the context of each.
        inputs: the chain's inputs.
        inverse: whether the inverses will be called.
    """
    kinds: dict[Any, list[int]] = {}
    for i, ((first, _), (second, _)) in enumerate(pairwise(steps)):
        if (type(first) is ActNorm and type(second) is LUConv1x1 and first.num_channels == second.num_channels
                and first.conditioner is None and second.conditioner is None
                and runs_itself_alone(first) and runs_itself_alone(second)):
            lower, log_scale, shift = second.lower, first.log_scale, first.shift
            kind = lower.shape, lower.dtype, lower.device, log_scale.shape, log_scale.dtype, shift.shape, shift.dtype
            kinds.setdefault(kind, []).append(i)
    products: dict[int, Product] = {}
    for (shape, *_), indices in kinds.items():
        count = max(1, LARGEST // shape.numel())
        for group in (indices[k : k + count] for k in range(0, len(indices), count)):
            pairs = [(steps[i][0], steps[i + 1][0]) for i in group]
            products.update(zip(group, _products(pairs, inputs, inverse), strict=True))
    return [(products[i], None) if i in products else step for i, step in enumerate(steps) if i - 1 not in products]


def runs_itself_alone(part: Any) -> bool:
    """Tell whether calls of a bijector of the library run its own methods and nothing else."""
    return (is_marked(part.forward, "shares_context") and is_marked(part.inverse, "shares_context")
            and part._compiled_call_impl is None and not has_hooks(part))


@dataclass
class Product:
    """The map of a pair in one direction, called like a bijector."""

    pair: tuple[ActNorm, LUConv1x1]
    inverse_of_pair: bool
    dtype: torch.dtype  # of the inputs that it was computed for
    outputs_dtype: torch.dtype
    matrix: Tensor
    mean: Tensor
    logabsdet: Tensor

    @shares_context
    def __call__(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """Apply the map: ``(outputs, logabsdet)``."""
        actnorm, convolution = self.pair
        if inputs.dtype != self.dtype:
            first, second = (convolution.inverse, actnorm.inverse) if self.inverse_of_pair else self.pair
            outputs, logabsdet = first(inputs)
            outputs, more = second(outputs)
            return outputs, logabsdet + more
        check_inputs(inputs, "ActNorm", actnorm.num_channels)
        values, mean, logabsdet = inputs, self.mean, self.logabsdet
        if inputs.dtype != self.matrix.dtype:
            values = inputs.to(self.matrix.dtype)
        if inputs.ndim > 2:
            mean = mean.view(-1, *(1 for _ in inputs.shape[2:]))
            logabsdet = logabsdet * inputs.shape[2:].numel()
        with precise(inputs):
            if self.inverse_of_pair:
                outputs = multiply(self.matrix, values) + mean
            else:
                outputs = multiply(self.matrix, values - mean)
        if outputs.dtype != self.outputs_dtype:
            outputs = outputs.to(self.outputs_dtype)
        return outputs, logabsdet.expand(inputs.shape[0])

    forward = inverse = __call__


def _products(pairs: Sequence[tuple[ActNorm, LUConv1x1]], inputs: Tensor, inverse: bool) -> Iterator[Product]:
    """Compute the products of pairs of one kind in one batch."""
    actnorms, convolutions = zip(*pairs, strict=True)
    outputs_dtype = torch.promote_types(inputs.dtype, actnorms[0].log_scale.dtype)
    dtype = at_least_float32(outputs_dtype)
    with precise(inputs):
        log_scale, shift = (_stack(actnorms, name, dtype) for name in ("log_scale", "shift"))
        lower, upper, log_s, sign, permutation = (
            _stack(convolutions, name, dtype) for name in ("lower", "upper", "log_s", "sign", "permutation"))
        lower, upper = factors(lower, upper, log_s, sign, convolutions[0].identity.to(dtype))
        logabsdets, unscale = (log_scale + log_s).sum(1), (-log_scale).exp()
        means = -shift * unscale
        if inverse:
            products, logabsdets = inverse_matrix(permutation, lower, upper) * unscale.unsqueeze(2), -logabsdets
        else:
            products = matrix(permutation, lower, upper) * log_scale.exp().unsqueeze(1)
    for pair, *values in zip(pairs, products.unbind(), means.unbind(), logabsdets.unbind(), strict=True):
        yield Product(pair, inverse, inputs.dtype, outputs_dtype, *values)


def _stack(modules: Sequence[Any], name: str, dtype: torch.dtype) -> Tensor:
    """Return a tensor of the modules as ``(n, ...)``."""
    tensors = [getattr(module, name) for module in modules]
    together = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    return together.view(len(tensors), *tensors[0].shape).to(dtype)
