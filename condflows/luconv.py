"""The invertible 1x1 convolution in its LU form, one matrix for all samples or one for each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condflows.bijector import Bijector, at_least_float32, parameters_from, precise, refuse_labels, sum_log_scale
from condflows.bounds import soft_bound
from condflows.checks import check_count, check_inputs
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["LUConv1x1", "factors", "inverse_matrix", "matrix", "multiply", "relative_factors"]


class LUConv1x1(Bijector):
    r"""Invertible 1x1 convolution :math:`y = W x` at every position, :math:`W = P L (U + \mathrm{diag}(s))`.

    :math:`P` is a fixed permutation, :math:`L` unit lower and :math:`U` strictly upper triangular. :math:`W` starts
    as a random rotation. With a conditioner every sample has its own :math:`W`: ``conditioner(context)`` is
    ``(batch, 2*C*C + C)``, raw offsets of :math:`L`, :math:`U` (row by row) and :math:`\log |s|` in this order, which
    act relative to the learned factors :math:`L_0, U_0, s_0`:

    .. math:: L = L_0 (I + N), \qquad U + \mathrm{diag}(s) = e^{\delta} (I + M) (U_0 + \mathrm{diag}(s_0)).

    :math:`N` and :math:`M` are strictly triangular; their raw entries are divided by C, so that an optimizer's first
    steps, which move all of them at once, move :math:`W` alike at any number of channels. Their Frobenius norms are
    softly kept below 1/2, and :math:`|\delta| < 1/2`, whatever the conditioner returns, so that what the context puts
    between :math:`L_0` and :math:`U_0` has a condition number below 19 (:doc:`/numerical_safety` has the proof).
    Inverse: :math:`x = W^{-1} y`, :math:`W^{-1} = (U + \mathrm{diag}(s))^{-1} L^{-1} P^T`, by triangular solves.

    Shapes: ``(batch, num_channels, *spatial)`` to the same; a plain linear layer on vectors. Log-determinant, in nats:
    :math:`\sum \log |s|` times the number of positions. Computed in at least float32, also under autocast.
    Paper: Glow (arXiv 1807.03039) section 3.2; Full-Glow (arXiv 2012.05846) equation (6).

    Args:
        num_channels: C, the number of channels.
        conditioner: a module that maps the context to the raw offsets, or None.

    Raises:
        ValueError: the inputs have another number of channels, the context is missing or of another batch size, or
            the conditioner returns another shape.

    >>> convolution = LUConv1x1(4)
    >>> outputs, logabsdet = convolution(torch.randn(2, 4, 8, 8))
    >>> bool(logabsdet.abs().max() < 1e-4)  # a rotation
    True

    With a conditioner every sample has its own matrix:

    >>> convolution = LUConv1x1(4, conditioners.MLPConditioner(5, 2 * 4 * 4 + 4))
    >>> outputs, logabsdet = convolution(torch.randn(2, 4, 8, 8), context=torch.randn(2, 5))
    >>> logabsdet.shape
    torch.Size([2])
    """

    permutation: Tensor
    sign: Tensor
    identity: Tensor

    def __init__(self, num_channels: int, conditioner: nn.Module | None = None):
        super().__init__()
        check_count(num_channels, 1, "LUConv1x1 expects at least 1 channel")
        self.num_channels = num_channels
        self.conditioner = conditioner
        # On the CPU, as other devices may lack float64 or values at all.
        q, r = torch.linalg.qr(torch.randn(num_channels, num_channels, dtype=torch.float64, device="cpu"))
        permutation, lower, upper = torch.linalg.lu(q * r.diagonal().sign())
        like = torch.empty(())  # of the default dtype, on the default device
        self.register_buffer("permutation", permutation.to(like))
        self.register_buffer("sign", upper.diagonal().sign().to(like))
        self.register_buffer("identity", torch.eye(num_channels, dtype=like.dtype))
        self.lower = nn.Parameter(lower.tril(-1).to(like))
        self.upper = nn.Parameter(upper.triu(1).to(like))
        self.log_s = nn.Parameter(upper.diagonal().abs().log().to(like))

    @property
    def reads_context(self) -> bool:  # type: ignore[override]
        """True with a conditioner."""
        return self.conditioner is not None

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_s = self._factors(inputs, context)
        with precise(inputs):
            product = matrix(self.permutation.to(lower.dtype), lower, upper)
            return multiply(product, inputs), sum_log_scale(log_s, inputs)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_s = self._factors(inputs, context)
        with precise(inputs):
            product = inverse_matrix(self.permutation.to(lower.dtype), lower, upper)
            return multiply(product, inputs), -sum_log_scale(log_s, inputs)

    def _factors(self, inputs: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``L``, ``U + diag(s)`` and ``log |s|``, with one row for all inputs or one per row of the context."""
        check_inputs(inputs, "LUConv1x1", self.num_channels)
        lower, upper, log_s = self.own_factors(at_least_float32(inputs.dtype))
        if self.conditioner is None:
            return lower, upper, log_s[None]
        n, m, delta = relative_factors(self.conditioner, self.num_channels, inputs, context)
        identity = self.identity.to(lower.dtype)
        with precise(inputs):
            return lower @ (identity + n), delta.exp()[:, :, None] * ((identity + m) @ upper), log_s + delta

    def own_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return the learned ``L``, ``U + diag(s)`` and ``log |s|``, which no context changes, in this dtype."""
        lower, upper, log_s, sign, identity = (
            tensor.to(dtype) for tensor in (self.lower, self.upper, self.log_s, self.sign, self.identity))
        return *factors(lower, upper, log_s, sign, identity), log_s


def factors(lower: Tensor, upper: Tensor, log_s: Tensor, sign: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``L`` and ``U + diag(s)`` of one convolution or a batch of them, from their parameters."""
    diagonal = (sign * log_s.exp()).unsqueeze(-2)
    return lower.tril(-1) + identity, torch.addcmul(upper.triu(1), identity, diagonal)


def matrix(permutation: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return :math:`P L U`, for one convolution or a batch of them."""
    return permutation @ (lower @ upper)


def inverse_matrix(permutation: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return :math:`U^{-1} L^{-1} P^T`, for one convolution or a batch of them."""
    product = torch.linalg.solve_triangular(lower, permutation.mT.expand_as(lower), upper=False, unitriangular=True)
    return torch.linalg.solve_triangular(upper, product, upper=True)


def relative_factors(conditioner: nn.Module, channels: int, inputs: Tensor,
                     context: Context) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``N``, ``M`` and ``delta`` of :class:`LUConv1x1` for each row of the context, in at least float32."""
    c = channels
    raw, rows = parameters_from(conditioner, "LUConv1x1", inputs, context)
    expected = (rows, 2 * c * c + c)
    if raw.shape != expected:
        refuse_labels(raw, expected, "LUConv1x1")
        raise ValueError(f"LUConv1x1 expects its conditioner to return {expected}, got {tuple(raw.shape)}; "
                         f"give it num_outputs={2 * c * c + c}")
    n, m, delta = raw.to(at_least_float32(inputs.dtype)).split([c * c, c * c, c], dim=1)
    n, m = n.reshape(-1, c, c).tril(-1), m.reshape(-1, c, c).triu(1)
    return _bounded(n / c), _bounded(m / c), soft_bound(delta, 0.5)


def multiply(matrix: Tensor, inputs: Tensor) -> Tensor:
    """Multiply every position by a matrix: one for all inputs, or one for every n consecutive inputs."""
    if matrix.ndim == 2 and inputs.ndim == 2:
        return F.linear(inputs.to(matrix.dtype), matrix).to(inputs.dtype)
    batch, channels = inputs.shape[:2]
    columns = inputs.to(matrix.dtype).reshape(batch, channels, math.prod(inputs.shape[2:]))
    if matrix.ndim == 2 or matrix.shape[0] == batch:
        outputs = torch.bmm(matrix.expand(batch, -1, -1), columns)
    else:  # the columns of the inputs that share a matrix beside each other
        rows = matrix.shape[0]
        grouped = columns.unflatten(0, (rows, batch // rows)).transpose(1, 2)
        outputs = torch.bmm(matrix, grouped.flatten(2)).view_as(grouped).transpose(1, 2)
    return outputs.reshape(inputs.shape).to(inputs.dtype)


def _bounded(matrix: Tensor) -> Tensor:
    """Shrink a matrix so that its Frobenius norm stays below 1/2; the identity to second order."""
    norm = torch.linalg.matrix_norm(matrix, keepdim=True)
    return matrix / (1 + (2 * norm).square()).sqrt()
