"""The usual nesting of a Glow, from callables that build its steps and priors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nflows.transforms.base import Transform
from torch import nn

from condflows.actnorm import ActNorm
from condflows.affine import AffineMap, soft_affine
from condflows.chain import Chain, Inverse
from condflows.coupling import AffineCoupling
from condflows.luconv import LUConv1x1
from condflows.split import Split
from condflows.squeeze import Squeeze

__all__ = ["glow_step", "multiscale"]

Builder = Callable[[int], Transform]


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
