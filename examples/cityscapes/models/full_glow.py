"""Full-Glow (arXiv 2012.05846): two Glows side by side; every operation of the target reads the source's.

    actnorm        reads the source's actnorm output of the same step
    1x1            reads the source's 1x1 output of the same step
    coupling       reads the source's coupling output of the same step
    priors         read nothing
"""

from collections.abc import Sequence

from condflows import ActNorm, AffineCoupling, Bijector, Flow, PairedFlow, glow_step, multiscale, soft_affine
from condflows.affine import AffineMap
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner


def full_glow(
    channels: int = 3,
    steps: Sequence[int] = (16, 16, 16, 16),
    width: int = 512,
    *,
    condition_channels: int | None = None,
    side_channels: int = 0,
    context_width: int | None = None,
    grid: int = 4,
    affine: AffineMap = soft_affine,
    checkpoint: bool = False,
) -> PairedFlow:
    """Build p(label map) and p(photo given label map), at any resolution that ``2 ** len(steps)`` divides.

    Args:
        channels: channels of the photo.
        steps: steps of each level, finest first.
        width: hidden channels of the coupling nets.
        condition_channels: channels of the label map; those of the photo if None.
        side_channels: channels of the side information that is appended to every condition, ``context=(x_a, side)``.
        context_width: hidden channels of the nets that encode a coupling's condition; min(width, 128) if None.
        grid: rows and columns of the grid to which the nets of actnorm and 1x1 pool their condition.
        affine: map that bounds the couplings' scale and shift; ``condflows.sigmoid_affine`` is the paper's.
        checkpoint: recompute the activations of each step in the backward pass.
    """
    condition_channels = condition_channels or channels
    context_width = context_width or min(width, 128)

    # The source Glow: unconditional.
    def source_step(c: int) -> Bijector:
        return glow_step(c, CouplingConditioner(c, width, checkpoint=checkpoint), affine=affine, checkpoint=checkpoint)

    # The target Glow: each net reads the source's output of the same operation, which has `context` channels.
    def target_step(c: int) -> Bijector:
        context = c // channels * condition_channels + side_channels
        return glow_step(
            c,
            coupling=CouplingConditioner(c, width, context, context_width=context_width, checkpoint=checkpoint),
            actnorm=GlobalConditioner(context, 2 * c, grid=grid),
            conv=GlobalConditioner(context, 2 * c * c + c, grid=grid),
            affine=affine,
            checkpoint=checkpoint,
        )

    # Glow's learned priors: for the second half given the first, and for each channel at the top.
    def prior(c: int) -> Bijector:
        return AffineCoupling(c, ConvConditioner(c))

    return PairedFlow(
        Flow(multiscale(condition_channels, steps, source_step, prior, ActNorm), (condition_channels, None, None)),
        Flow(multiscale(channels, steps, target_step, prior, ActNorm), (channels, None, None)),
    )
