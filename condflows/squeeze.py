"""The squeeze: blocks of positions folded into channels."""

from __future__ import annotations

from torch import Tensor

from condflows.bijector import Bijector, zero_logabsdet
from condflows.checks import check_count, check_inputs
from condflows.rows import shares_context
from condflows.trace import Context

__all__ = ["Squeeze"]


class Squeeze(Bijector):
    r"""Fold each ``factor ** d`` block of positions into channels, for any number d of spatial dimensions.

    At position :math:`p` of the output, with :math:`o_k` the k-th of the :math:`f^d` offsets within a block (the last
    dimension fastest) and :math:`f` the factor,

    .. math:: y_{c f^d + k}(p) = x_c(f p + o_k)

    Shapes: ``(batch, C, *spatial)`` to ``(batch, C * factor**d, *(size // factor))``, in the channel order of
    :func:`torch.nn.functional.pixel_unshuffle`; vectors pass unchanged. Log-determinant: 0.
    Paper: RealNVP (arXiv 1605.08803) section 3.6.

    Args:
        factor: f, the side of a block.

    Raises:
        ValueError: a spatial size, or in ``inverse`` the number of channels, that the factor does not divide.

    >>> Squeeze()(torch.zeros(1, 3, 4, 6))[0].shape
    torch.Size([1, 12, 2, 3])
    """

    reads_context = False

    def __init__(self, factor: int = 2):
        super().__init__()
        check_count(factor, 1, "Squeeze expects a factor of at least 1", "use 2 to halve each side")
        self.factor = factor

    @shares_context
    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "Squeeze")
        batch, channels, *sizes = inputs.shape
        if any(size % self.factor for size in sizes):
            raise ValueError(f"Squeeze({self.factor}) expects spatial sizes that {self.factor} divides, got shape "
                             f"{tuple(inputs.shape)}; crop, pad or resize (a multiscale flow of L levels needs "
                             f"multiples of {self.factor}**L)")
        blocks = [n for size in sizes for n in (size // self.factor, self.factor)]
        d = len(sizes)
        order = [0, 1, *range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2)]
        outputs = inputs.reshape(batch, channels, *blocks).permute(order)
        outputs = outputs.reshape(batch, channels * self.factor**d, *blocks[::2])
        return outputs, zero_logabsdet(inputs)

    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "Squeeze")
        batch, channels, *sizes = inputs.shape
        d = len(sizes)
        if channels % self.factor**d:
            raise ValueError(f"Squeeze({self.factor}).inverse expects channels that {self.factor}**{d} divides, "
                             f"got shape {tuple(inputs.shape)}; pass the output of its forward")
        outputs = inputs.reshape(batch, channels // self.factor**d, *(self.factor,) * d, *sizes)
        outputs = outputs.permute([0, 1, *(i for k in range(d) for i in (2 + d + k, 2 + k))])
        outputs = outputs.reshape(batch, channels // self.factor**d, *(size * self.factor for size in sizes))
        return outputs, zero_logabsdet(inputs)
