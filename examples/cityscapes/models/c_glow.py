"""C-Glow (arXiv 1905.13288): one Glow, each operation of which reads the label map itself.

    actnorm        reads the label map
    1x1            reads the label map
    coupling       reads the label map
    priors         read nothing

The authors' nets of actnorm and 1x1 have one more hidden layer, and their couplings learn to shrink the label map,
where these average it to each level.
"""

from collections.abc import Sequence

from condflows import ActNorm, AffineCoupling, Bijector, Flow, glow_step, multiscale, soft_affine
from condflows.affine import AffineMap
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner


def c_glow_v1(
    channels: int = 3,
    steps: Sequence[int] = (8, 8, 8),
    width: int = 104,
    *,
    condition_channels: int | None = None,
    context_width: int = 52,
    context_features: int = 26,
    affine: AffineMap = soft_affine,
    checkpoint: bool = False,
) -> Flow:
    """Build p(photo given label map), at any resolution that ``2 ** len(steps)`` divides.

    This is C-Glow v.1 of the Full-Glow paper.

    Args:
        channels: channels of the photo.
        steps: steps of each level, finest first.
        width: hidden channels of the coupling nets.
        condition_channels: channels of the label map; those of the photo if None.
        context_width: channels of the convolutions that encode the label map.
        context_features: hidden features of the nets of actnorm and 1x1.
        affine: map that bounds the couplings' scale and shift; ``condflows.sigmoid_affine`` is the paper's.
        checkpoint: recompute the activations of each step in the backward pass.
    """
    condition_channels = context = condition_channels or channels

    # A net of actnorm or 1x1: convolutions that halve the label map, and one hidden layer.
    def net(num_outputs: int) -> GlobalConditioner:
        return GlobalConditioner(
            context, num_outputs, conv_channels=(context_width,) * 3, hidden=(context_features,), stride=2
        )

    # The Glow: each net reads the whole label map, which couplings resize to their own level.
    def step(c: int) -> Bijector:
        return glow_step(
            c,
            coupling=CouplingConditioner(c, width, context, context_width=context_width, checkpoint=checkpoint),
            actnorm=net(2 * c),
            conv=net(2 * c * c + c),
            affine=affine,
            checkpoint=checkpoint,
        )

    # Glow's learned priors: for the second half given the first, and for each channel at the top.
    def prior(c: int) -> Bijector:
        return AffineCoupling(c, ConvConditioner(c))

    return Flow(multiscale(channels, steps, step, prior, ActNorm), (channels, None, None))


def c_glow_v2(
    channels: int = 3,
    steps: Sequence[int] = (16, 16, 16, 16),
    width: int = 512,
    *,
    context_width: int = 20,
    context_features: int = 10,
    condition_channels: int | None = None,
    affine: AffineMap = soft_affine,
    checkpoint: bool = False,
) -> Flow:
    """Build C-Glow v.2 of the Full-Glow paper: a deeper Glow than ``c_glow_v1``, with smaller nets of the label map."""
    return c_glow_v1(
        channels, steps, width, condition_channels=condition_channels, context_width=context_width,
        context_features=context_features, affine=affine, checkpoint=checkpoint,
    )
