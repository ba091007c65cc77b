"""Actnorms and the 1x1 convolutions after them as one product: the same map, from the same parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condflows.actnorm import ActNorm
from condflows.bijector import at_least_float32, precise
from condflows.checks import check_inputs
from condflows.hooks import has_hooks, is_marked
from condflows.luconv import LUConv1x1, factors, inverse_matrix, matrix
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["merge", "runs_itself_alone"]

LARGEST = 2**18  # entries of the matrices that are computed together

Step = tuple[Any, Context]


def merge(steps: list[Step], inputs: Tensor, inverse: bool = False) -> list[Step]:
    r"""Replace each actnorm and the 1x1 convolution after it, neither of which reads a context, by one product.

    :math:`y = W (e^a x + b)` is a product with :math:`W e^a` and a bias :math:`W b`. The matrices of all pairs are
    computed in one batch. Pairs whose calls would do anything else are left as they are: those with hooks or
    parametrizations, of derived classes, with methods that were replaced.

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
            kinds.setdefault((second.lower.shape, second.lower.dtype, second.lower.device), []).append(i)
    products: dict[int, Product] = {}
    for (shape, _, _), indices in kinds.items():
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
    """The map :math:`y = M x + b` at every position, in one direction, called like a bijector."""

    matrix: Tensor
    bias: Tensor
    logabsdet: Tensor
    dtype: torch.dtype

    @shares_context
    def __call__(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """Apply the map: ``(outputs, logabsdet)``."""
        check_inputs(inputs, "ActNorm", self.bias.shape[0])
        with precise(inputs):
            values, logabsdet = inputs.to(self.matrix.dtype), self.logabsdet
            if inputs.ndim == 2:
                outputs = F.linear(values, self.matrix, self.bias)
            else:
                columns, matrices = values.flatten(2), self.matrix.expand(inputs.shape[0], -1, -1)
                outputs = torch.baddbmm(self.bias[:, None], matrices, columns).view_as(inputs)
                logabsdet = logabsdet * inputs.shape[2:].numel()
        return outputs.to(self.dtype), logabsdet.expand(inputs.shape[0])

    forward = inverse = __call__


def _products(pairs: Sequence[tuple[ActNorm, LUConv1x1]], inputs: Tensor, inverse: bool) -> Iterator[Product]:
    """Compute the products of pairs of one size in one batch."""
    actnorms, convolutions = zip(*pairs, strict=True)
    outputs_dtype = torch.promote_types(inputs.dtype, actnorms[0].log_scale.dtype)
    dtype = at_least_float32(outputs_dtype)
    with precise(inputs):
        log_scale, shift = (_stack(actnorms, name, dtype) for name in ("log_scale", "shift"))
        lower, upper, log_s, sign, permutation = (
            _stack(convolutions, name, dtype) for name in ("lower", "upper", "log_s", "sign", "permutation"))
        lower, upper = factors(lower, upper, log_s, sign, convolutions[0].identity.to(dtype))
        logabsdets = (log_scale + log_s).sum(1)
        if inverse:
            scale = (-log_scale).exp()
            products, biases = inverse_matrix(permutation, lower, upper) * scale.unsqueeze(2), -shift * scale
            logabsdets = -logabsdets
        else:
            product = matrix(permutation, lower, upper)
            products, biases = product * log_scale.exp().unsqueeze(1), (product @ shift.unsqueeze(2)).squeeze(2)
    return map(Product, products.unbind(), biases.unbind(), logabsdets.unbind(), [outputs_dtype] * len(pairs))


def _stack(modules: Sequence[Any], name: str, dtype: torch.dtype) -> Tensor:
    """Return a tensor of the modules as ``(n, ...)``."""
    tensors = [getattr(module, name) for module in modules]
    together = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    return together.view(len(tensors), *tensors[0].shape).to(dtype)
