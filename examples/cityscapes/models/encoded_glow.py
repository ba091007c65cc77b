"""Encoded Glow: a Glow of the photo, all of which reads one encoding of the label map.

    encoder        a small U-Net of the label map makes one map for each level
    actnorm        reads nothing
    1x1            reads nothing
    coupling       reads the map
    priors         read the map

A model of this project, not of a paper. The models of the papers encode the condition anew in every operation; here
that is done once, and by classes, where colours would put a pole next to a fence.
"""

from collections.abc import Sequence

from condflows import ActNorm, AffineCoupling, Bijector, Flow, glow_step, multiscale, soft_affine
from condflows.affine import AffineMap
from condflows.conditioners import CouplingConditioner, MapConditioner, PyramidEncoder


def encoded_glow(
    channels: int = 3,
    steps: Sequence[int] = (8, 8, 8),
    width: int = 256,
    *,
    condition_channels: int | None = None,
    classes: int | None = None,
    features: Sequence[int] = (32, 48, 64, 64),
    context_width: int = 64,
    affine: AffineMap = soft_affine,
    checkpoint: bool = False,
) -> Flow:
    """Build p(photo given label map), at any resolution that ``2 ** len(steps)`` divides.

    Args:
        channels: channels of the photo.
        steps: steps of each level, finest first.
        width: hidden channels of the coupling nets.
        condition_channels: channels of the condition, an image; those of the photo if None.
        classes: number of labels, where the condition is a map of label ids ``(batch, 1, height, width)``, 255 where
            nothing is known; None where it is an image.
        features: channels of the encoder's maps, one for each level or more.
        context_width: hidden channels of the nets of the priors.
        affine: map that bounds the couplings' scale and shift.
        checkpoint: recompute the activations of each step in the backward pass.
    """
    if len(features) < len(steps):
        raise ValueError(f"encoded_glow expects features for {len(steps)} levels, got {tuple(features)}")
    features = tuple(features)[:len(steps)]
    conditions = 1 if classes is not None else condition_channels or channels
    # A squeeze makes 4 times the channels, a split passes half of them on: 12, 24, 48 for a photo.
    of_level = {4 * channels * 2**level: count for level, count in enumerate(features)}

    # One step of the Glow.
    def step(c: int) -> Bijector:
        return glow_step(
            c,
            coupling=CouplingConditioner(c, width, of_level[c], context_width=0, checkpoint=checkpoint),
            affine=affine,
            checkpoint=checkpoint,
        )

    # Glow's learned priors, of which each position knows its class.
    def prior(c: int) -> Bijector:
        return AffineCoupling(c, CouplingConditioner(c, context_width, of_level[c], context_width=0))

    def top(c: int) -> Bijector:
        return ActNorm(c, MapConditioner(of_level[c], 2 * c, context_width))

    return Flow(multiscale(channels, steps, step, prior, top), (channels, None, None),
                embedding_net=PyramidEncoder(conditions, features, classes))
