"""Glow (arXiv 1807.03039): one Glow of photos alone; no operation reads a condition.

    actnorm        reads nothing
    1x1            reads nothing
    coupling       reads nothing
    priors         read nothing
"""

from collections.abc import Sequence

from condflows import ActNorm, AffineCoupling, Bijector, Flow, glow_step, multiscale, soft_affine
from condflows.affine import AffineMap
from condflows.conditioners import ConvConditioner, CouplingConditioner


def glow(
    channels: int = 3,
    steps: Sequence[int] = (16, 16, 16, 16),
    width: int = 512,
    *,
    affine: AffineMap = soft_affine,
    checkpoint: bool = False,
) -> Flow:
    """Build p(photo), at any resolution that ``2 ** len(steps)`` divides; a context only sets the size of samples.

    Args:
        channels: channels of the photo.
        steps: steps of each level, finest first.
        width: hidden channels of the coupling nets.
        affine: map that bounds the couplings' scale and shift; ``condflows.sigmoid_affine`` is the paper's.
        checkpoint: recompute the activations of each step in the backward pass.
    """

    # The Glow: unconditional.
    def step(c: int) -> Bijector:
        return glow_step(c, CouplingConditioner(c, width, checkpoint=checkpoint), affine=affine, checkpoint=checkpoint)

    # Glow's learned priors: for the second half given the first, and for each channel at the top.
    def prior(c: int) -> Bijector:
        return AffineCoupling(c, ConvConditioner(c))

    return Flow(multiscale(channels, steps, step, prior, ActNorm), (channels, None, None))
