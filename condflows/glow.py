"""The multiscale architecture of Glow: its squeeze and split, and the usual nesting of steps and priors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from nflows.transforms.base import Transform
from nflows.transforms.standard import IdentityTransform
from torch import Tensor, nn

from condflows.actnorm import ActNorm
from condflows.affine import AffineMap, soft_affine
from condflows.bijector import Bijector, Composition, check_count, check_inputs, sum_log_scale
from condflows.chain import Chain, Inverse
from condflows.coupling import AffineCoupling
from condflows.luconv import LUConv1x1
from condflows.trace import Context

__all__ = ["Split", "Squeeze", "glow_step", "multiscale"]

Builder = Callable[[int], Transform]
_identity = IdentityTransform()


class Squeeze(Bijector):
    """Fold each ``factor ** d`` block of positions into channels, for any number d of spatial dimensions.

    Shapes: ``(batch, C, *spatial)`` to ``(batch, C * factor**d, *(size // factor))``, in the channel order of
    :func:`torch.nn.functional.pixel_unshuffle`; vectors have no space to fold and pass. Log-determinant: 0.

    Raises:
        ValueError: a spatial size, or in ``inverse`` the number of channels, that the factor does not divide.

    >>> Squeeze()(torch.zeros(1, 3, 4, 6))[0].shape
    torch.Size([1, 12, 2, 3])
    """

    def __init__(self, factor: int = 2):
        super().__init__()
        check_count(factor, 1, "Squeeze expects a factor of at least 1", "use 2 to halve each side")
        self.factor = factor

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
        return outputs, sum_log_scale(inputs.new_zeros(1, 1), inputs)

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
        return outputs, sum_log_scale(inputs.new_zeros(1, 1), inputs)


class Split(Composition):
    """Half of the channels are finished here, the other half goes on through ``inner``.

    ``prior`` is a bijector on all channels that is applied first: an :class:`condflows.AffineCoupling` whose net
    predicts scale and mean of the second half from the first is Glow's learned prior. Then the first ``C - C // 2``
    channels go through ``inner``, which keeps their shape, and the rest is already noise.

    Shapes: ``(batch, C, *spatial)`` to the same. Log-determinant: the sum of those of ``prior`` and ``inner``. The
    trace has two entries: the output of ``prior`` (all channels; the input where there is none), and that of
    ``inner``. Paper: RealNVP (arXiv 1605.08803) section 3.6; Glow (arXiv 1807.03039).

    Raises:
        ValueError: fewer than two channels, an ``inner`` that changes the shape, a trace of another structure.

    >>> from condflows import ActNorm
    >>> Split(ActNorm(2))(torch.randn(5, 3, 8))[0].shape
    torch.Size([5, 3, 8])
    """

    def __init__(self, inner: Transform, prior: Transform | None = None):
        super().__init__()
        self.prior = prior
        self.inner = inner

    @property
    def parts(self) -> Sequence[Transform]:  # type: ignore[override]
        """The prior, or where there is none the identity, and the inner bijector."""
        return _identity if self.prior is None else self.prior, self.inner

    def _enter(self, i: int, values: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        channels = values.shape[1]
        if channels < 2:
            raise ValueError(f"Split expects at least 2 channels, got shape {tuple(values.shape)}; "
                             "put a Squeeze before it")
        first, second = values.split([channels - channels // 2, channels // 2], dim=1)

        def leave(outputs: Tensor) -> Tensor:
            if outputs.shape != first.shape:
                raise ValueError(f"Split expects its inner bijector to keep the shape {tuple(first.shape)}, "
                                 f"got {tuple(outputs.shape)}; end it with the Inverse of its Squeeze")
            return torch.cat([outputs, second], dim=1)

        return (first, leave) if i else super()._enter(i, values)


def glow_step(num_channels: int, coupling: nn.Module, actnorm: nn.Module | None = None, conv: nn.Module | None = None,
              affine: AffineMap = soft_affine, checkpoint: bool = False) -> Chain:
    """One step of Glow: actnorm, 1x1 convolution, affine coupling, each conditional if given a conditioner.

    Args:
        num_channels: C, the number of channels.
        coupling: the coupling's net, called as ``coupling(first_part, context)``.
        actnorm: maps the actnorm's context to ``(batch, 2*C)`` offsets, or None.
        conv: maps the 1x1 convolution's context to ``(batch, 2*C*C + C)`` offsets, or None.
        affine: how the coupling bounds its scale and shift, see :mod:`condflows.affine`.
        checkpoint: recompute the step's activations in the backward pass.

    Paper: Glow (arXiv 1807.03039) section 3.

    >>> from condflows.conditioners import CouplingConditioner
    >>> glow_step(4, CouplingConditioner(4, width=8))(torch.randn(2, 4, 8, 8))[0].shape
    torch.Size([2, 4, 8, 8])
    """
    return Chain([ActNorm(num_channels, actnorm), LUConv1x1(num_channels, conv),
                  AffineCoupling(num_channels, coupling, affine)], checkpoint)


def multiscale(channels: int, steps: Sequence[int], step: Builder, prior: Builder | None = None,
               top: Builder | None = None, *, factor: int = 2, spatial_dims: int = 2) -> Chain:
    """A multiscale flow: per level a squeeze, some steps and a split, whose first half is the next level.

    It maps ``(batch, channels, *spatial)`` to noise of the same shape, at any size that ``factor ** len(steps)``
    divides. On vectors (``spatial_dims=0``) there is nothing to squeeze and each level halves the channels.

    Args:
        channels: of the data.
        steps: the number of steps of each level, finest first; its length is the number of levels.
        step: builds a step for a number of channels.
        prior: builds the prior of a split for the number of channels before it, or None.
        top: builds the prior of the coarsest level, where nothing is left to split, or None.
        factor: of each squeeze.
        spatial_dims: of the data, 0 to 3.

    Paper: Glow (arXiv 1807.03039) figure 2.
    """
    if not isinstance(steps, Sequence) or not steps or not all(isinstance(n, int) and n >= 0 for n in steps):
        raise ValueError(f"multiscale expects the steps of at least one level, got {steps!r}; pass steps=(8, 8)")
    channels *= factor**spatial_dims
    level: list[Transform] = [Squeeze(factor), *(step(channels) for _ in range(steps[0]))]
    if len(steps) > 1:
        inner = multiscale(channels - channels // 2, steps[1:], step, prior, top, factor=factor,
                           spatial_dims=spatial_dims)
        level.append(Split(inner, prior(channels) if prior else None))
    elif top:
        level.append(top(channels))
    return Chain([*level, Inverse(Squeeze(factor))])
