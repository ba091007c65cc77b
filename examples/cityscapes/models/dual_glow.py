"""Dual-Glow (arXiv 1908.08074): two Glows side by side; the target's priors read the source's latents.

    actnorm        reads nothing
    1x1            reads nothing
    coupling       reads nothing
    priors         read the source's latents of the same level
"""

from collections.abc import Sequence

from torch import Tensor, nn

from condflows import ActNorm, AffineCoupling, Bijector, Flow, PairedFlow, glow_step, multiscale, soft_affine
from condflows.affine import AffineMap
from condflows.conditioners import CouplingConditioner, MapConditioner


def dual_glow(
    channels: int = 3,
    steps: Sequence[int] = (16, 16, 16, 16),
    width: int = 512,
    *,
    condition_channels: int | None = None,
    context_width: int | None = None,
    affine: AffineMap = soft_affine,
    checkpoint: bool = False,
) -> PairedFlow:
    """Build p(label map) and p(photo given label map), at any resolution that ``2 ** len(steps)`` divides.

    Args:
        channels: channels of the photo.
        steps: steps of each level, finest first.
        width: hidden channels of the coupling nets.
        condition_channels: channels of the label map; those of the photo if None.
        context_width: hidden channels of the priors' nets; min(width, 128) if None.
        affine: map that bounds the couplings' scale and shift; ``condflows.sigmoid_affine`` is the paper's.
        checkpoint: recompute the activations of each step in the backward pass.
    """
    condition_channels = condition_channels or channels
    context_width = context_width or min(width, 128)

    # Both Glows: unconditional. The source has no learned priors, so its latents hold all of the label map.
    def step(c: int) -> Bijector:
        return glow_step(c, CouplingConditioner(c, width, checkpoint=checkpoint), affine=affine, checkpoint=checkpoint)

    # The target's priors: each for a level's latents given the source's, which have `context` channels.
    def prior(c: int) -> Bijector:
        context = c // channels * condition_channels // 2
        return AffineCoupling(c, OfLatents(MapConditioner(context, 2 * (c // 2), context_width)))

    def top(c: int) -> Bijector:
        context = c // channels * condition_channels
        return ActNorm(c, MapConditioner(context, 2 * c, context_width))

    return PairedFlow(
        Flow(multiscale(condition_channels, steps, step, None, ActNorm), (condition_channels, None, None)),
        Flow(multiscale(channels, steps, step, prior, top), (channels, None, None)),
    )


class OfLatents(nn.Module):
    """A net that reads the source's latents at a split: the second half of the channels that the source has there."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, first_part: Tensor, context: Tensor) -> Tensor:
        return self.net(context[:, -(context.shape[1] // 2):])
