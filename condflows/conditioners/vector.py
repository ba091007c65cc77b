"""A net for vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from condflows.bounds import soft_bound_of_asinh
from condflows.checks import check_like
from condflows.conditioners.layers import BOUND, BoundedNet, mlp, net_forward, require, start_at_zero
from condflows.rows import concat_rows, shares_context
from condflows.trace import Context

__all__ = ["MLPConditioner"]


class MLPConditioner(BoundedNet):
    r"""A multilayer perceptron for vectors, with the context appended to its inputs.

    :math:`\mathrm{MLP}(\beta(\mathrm{asinh}([v, c])))`, with ReLUs between and :math:`\beta` the soft bound of
    :mod:`condflows.conditioners`. Called with one vector it is a conditioner of actnorm or a 1x1 convolution
    (``num_inputs`` is the context's size); called with two, that of a coupling.

    Shapes: ``(batch, num_inputs)`` and ``(batch, context_features)`` to ``(batch, num_outputs)``.
    Paper: none; an ordinary perceptron.

    Args:
        num_inputs: size of the first vector; ``C - C // 2`` for a coupling.
        num_outputs: ``2 * (C // 2)`` for a coupling, ``2*C`` for actnorm, ``2*C*C + C`` for a 1x1 convolution.
        context_features: size of the second vector, 0 to ignore any context.
        hidden: sizes of the hidden layers.

    Raises:
        ValueError: a vector of another size.
        TypeError: a vector of another dtype or device than the parameters.

    >>> net = conditioners.MLPConditioner(2, 2, context_features=5)
    >>> net(torch.randn(3, 2), torch.randn(3, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(self, num_inputs: int, num_outputs: int, context_features: int = 0,
                 hidden: Sequence[int] = (128, 128)):
        super().__init__()
        self.num_inputs = num_inputs
        self.context_features = context_features
        self.net = start_at_zero(nn.Sequential(*mlp([num_inputs + context_features, *hidden, num_outputs])))

    @shares_context
    @net_forward
    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:
        inputs = require(self, inputs, self.num_inputs)
        if self.context_features:
            context = require(self, context, self.context_features)
            if context.dtype != inputs.dtype:  # concatenated, they would get the dtype of one of them
                check_like(inputs, self, type(self).__name__)
                check_like(context, self, type(self).__name__)
            inputs = concat_rows(inputs, context, type(self).__name__)
        return self.net(self.bound(inputs))

    def bound(self, values: Tensor) -> Tensor:
        """Return the values as the net's layers see them."""
        return soft_bound_of_asinh(values, BOUND)

    @property
    def reads_context(self) -> bool:
        """True with ``context_features``: of a coupling's net, whose first vector is no context."""
        return self.context_features > 0
