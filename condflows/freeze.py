"""Flows for use alone, with the matrices of their 1x1 convolutions multiplied out once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from condflows.bijector import Bijector, at_least_float32, precise, sum_log_scale
from condflows.checks import check_inputs
from condflows.hooks import calls_only, is_own
from condflows.luconv import LUConv1x1, multiply, relative_factors
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["freeze"]

Model = TypeVar("Model", bound=nn.Module)


def freeze(flow: Model) -> Model:
    r"""Copy a flow for use alone: the matrices of its 1x1 convolutions and their inverses are multiplied out once.

    Maps, densities and samples stay the same, up to rounding. Inverses are products of matrices, which formats of
    exchange such as ONNX have, in place of triangular solves, which are then not solved at every call. What is
    multiplied out replaces the parameters it came from, so it cannot be out of date: with
    :math:`W = P L_0 (I + N) \, e^{\delta} (I + M) (U_0 + \mathrm{diag}(s_0))` of :class:`LUConv1x1`, the copy holds
    :math:`P L_0`, :math:`U_0 + \mathrm{diag}(s_0)` and their inverses, or without a conditioner :math:`W` and
    :math:`W^{-1}`. The inverse of :math:`I + N` is the finite product
    :math:`\prod_k (I + (-N)^{2^k})`, as powers of a strictly triangular matrix end at 0.

    Shapes and log-determinants: those of the flow. Paper: none.

    Args:
        flow: a flow, a pair of flows or a bijector; it is left as it is, and can be trained on and frozen again. Its
            1x1 convolutions with hooks, parametrizations or methods of their own are copied as they are.

    Raises:
        RuntimeError: ``train()`` or ``requires_grad_()`` of the copy, or the state dict of a flow that is not frozen.
        TypeError: an object that is no module.

    >>> flow = Flow(Chain([ActNorm(4), LUConv1x1(4)]), shape=(4,))
    >>> frozen = freeze(flow)
    >>> x = torch.randn(5, 4)
    >>> torch.allclose(frozen.log_prob(x), flow.log_prob(x), atol=1e-5)
    True
    >>> [name for name, _ in frozen.transform.bijectors[1].named_buffers()]
    ['matrix', 'inverse_matrix', 'log_s']
    """
    if not isinstance(flow, nn.Module):
        raise TypeError(f"freeze expects a flow or a bijector, got {type(flow).__name__}; pass the module")
    if isinstance(flow, Frozen):
        return copy.deepcopy(flow)
    folded: dict[nn.Module, nn.Module] = {}
    frozen = _with_folded(copy.deepcopy(flow), folded)
    frozen.eval().requires_grad_(False)
    frozen.__class__ = _frozen_class(type(frozen))
    return frozen


def _with_folded(module: Any, folded: dict[nn.Module, nn.Module]) -> Any:
    """Replace 1x1 convolutions in a module by folded ones, one that is used at several places by one."""
    if module not in folded:
        plain = calls_only(module, LUConv1x1) and is_own(module, LUConv1x1, "inverse") and not is_parametrized(module)
        folded[module] = FoldedConv1x1(module) if plain else module
        if not plain:
            for name, child in module._modules.items():
                module._modules[name] = child if child is None else _with_folded(child, folded)
    return folded[module]


class FoldedConv1x1(Bijector):
    """An :class:`LUConv1x1` whose matrices, and their inverses, were multiplied out once."""

    matrix: Tensor
    inverse_matrix: Tensor
    left: Tensor
    right: Tensor
    left_inverse: Tensor
    right_inverse: Tensor
    log_s: Tensor

    def __init__(self, convolution: LUConv1x1):
        super().__init__()
        self.num_channels = convolution.num_channels
        self.conditioner = convolution.conditioner
        with torch.no_grad():
            lower, upper, log_s = copy.deepcopy(convolution).cpu().own_factors(torch.float64)
            permutation = convolution.permutation.cpu().double()
            left = permutation @ lower
            eye = torch.eye(self.num_channels, dtype=torch.float64, device="cpu")
            left_inverse = torch.linalg.solve_triangular(lower, eye, upper=False, unitriangular=True)
            left_inverse = left_inverse @ permutation.T
            right_inverse = torch.linalg.solve_triangular(upper, eye, upper=True)
        if self.conditioner is None:
            values = {"matrix": left @ upper, "inverse_matrix": right_inverse @ left_inverse, "log_s": log_s}
        else:
            values = {"left": left, "right": upper, "left_inverse": left_inverse, "right_inverse": right_inverse,
                      "log_s": log_s}
        for name, value in values.items():
            self.register_buffer(name, value.to(convolution.log_s))

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True with a conditioner."""
        return self.conditioner is not None

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "LUConv1x1", self.num_channels)
        if self.conditioner is None:
            matrix, log_s = self.matrix, self.log_s[None]
        else:
            n, m, delta = relative_factors(self.conditioner, self.num_channels, inputs, context)
            with precise(inputs):
                scaled = delta.exp()[:, :, None] * _plus_identity(m)
                matrix = self.left.to(n.dtype) @ _plus_identity(n) @ scaled @ self.right.to(n.dtype)
            log_s = self.log_s.to(n.dtype) + delta
        with precise(inputs):
            return multiply(matrix.to(at_least_float32(inputs.dtype)), inputs), sum_log_scale(log_s, inputs)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "LUConv1x1", self.num_channels)
        if self.conditioner is None:
            matrix, log_s = self.inverse_matrix, self.log_s[None]
        else:
            n, m, delta = relative_factors(self.conditioner, self.num_channels, inputs, context)
            with precise(inputs):
                scaled = _inverse_plus_identity(m) * (-delta).exp()[:, None]
                matrix = self.right_inverse.to(n.dtype) @ scaled @ _inverse_plus_identity(n)
                matrix = matrix @ self.left_inverse.to(n.dtype)
            log_s = self.log_s.to(n.dtype) + delta
        with precise(inputs):
            return multiply(matrix.to(at_least_float32(inputs.dtype)), inputs), -sum_log_scale(log_s, inputs)


def _plus_identity(matrix: Tensor) -> Tensor:
    return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def _inverse_plus_identity(matrix: Tensor) -> Tensor:
    r"""Invert :math:`I + N`, with :math:`N` strictly triangular: :math:`\prod_k (I + (-N)^{2^k})`."""
    power, inverse = -matrix, _plus_identity(-matrix)
    for _ in range((matrix.shape[-1] - 1).bit_length() - 1):
        power = power @ power
        inverse = inverse @ _plus_identity(power)
    return inverse


REFUSAL = "a frozen flow cannot be trained; train the flow that it was frozen from, then freeze that one again"


class Frozen(nn.Module):
    """A module that refuses to be trained."""

    kind: type[nn.Module]

    def train(self, mode: bool = True) -> Any:
        if mode:
            raise RuntimeError(REFUSAL)
        return super().train(mode)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        if requires_grad:
            raise RuntimeError(REFUSAL)
        return super().requires_grad_(requires_grad)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        if state_dict.keys() != self.state_dict().keys():  # torch would load what fits, and then raise
            raise RuntimeError("a frozen flow takes the state dict of a frozen flow; load this one into the flow that "
                               "it was frozen from, and freeze that")
        return super().load_state_dict(state_dict, strict, assign)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (self.kind,), self.__getstate__()


@cache
def _frozen_class(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of ``kind`` that refuses to be trained."""
    return type(f"Frozen{kind.__name__}", (Frozen, kind), {"kind": kind, "__module__": __name__})


def _empty(kind: type[nn.Module]) -> nn.Module:
    frozen = _frozen_class(kind)
    return frozen.__new__(frozen)
