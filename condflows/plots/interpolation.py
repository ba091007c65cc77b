"""Images between two images, by way of their noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from condflows.checks import check_count
from condflows.flow import Flow
from condflows.pairs import PairedFlow
from condflows.plots.images import grid
from condflows.plots.panels import Figure, check_conditions, check_flow, condition_titles, evaluating
from condflows.trace import Context

__all__ = ["interpolation"]


def interpolation(flow: Flow | PairedFlow, x_0: Tensor, x_1: Tensor, context: Context = None, steps: int = 7, *,
                  limits: tuple[float, float] | None = None, axes: Any = None) -> Figure:
    r"""Draw what lies between pairs of images under one condition: the way from noise to noise, decoded.

    With the noise :math:`z_i = f(x_i, c)`, its length :math:`r_i = \|z_i\|` and the angle :math:`\theta` between the
    two, the image at :math:`t` is :math:`f^{-1}(z_t, c)` of

    .. math:: z_t = \left( (1 - t) \, r_0 + t \, r_1 \right)
        \frac{\sin((1 - t) \theta) \, z_0 / r_0 + \sin(t \theta) \, z_1 / r_1}{\sin \theta}

    That is an arc and not the straight line: normal noise of D dimensions has a length close to :math:`\sqrt D`, while
    half-way along the line between two of its draws the length is :math:`\sqrt{D / 2}`, that of a sample at temperature
    0.7. On the arc the length goes evenly from one to the other, so that the noise of all images between is as likely
    as that of the two ends. Between equal directions, opposite ones and noise 0 it is the line.

    Shapes: ``x_0`` and ``x_1`` are ``(B, channels, height, width)``, with B rows of context; a row of the picture
    for each, ``steps`` images long, whose ends are the two images as the flow's inverse restores them. Units: images
    as for :func:`images`. Paper: spherical interpolation as in arXiv 1609.04468; Glow (arXiv 1807.03039) has the
    straight line.

    Args:
        flow: a flow, or a pair of flows.
        x_0: images at the left.
        x_1: images at the right.
        context: the condition of both, one for each pair of images; for a pair of flows x_a.
        steps: the number of images in a row, the two ends included.
        limits: of the values, as for :func:`images`.
        axes: the axes to draw on, B by ``steps``; new ones if None.

    Raises:
        ValueError: images of two shapes, fewer than two steps, axes that do not fit; and the errors of
            :meth:`condflows.Flow.transform_to_noise` and :func:`images`.
        TypeError: an object that is no flow.

    >>> from condflows import plots
    >>> flow = Flow(ActNorm(3), shape=(3, 8, 8))
    >>> x_0, x_1 = torch.rand(2, 1, 3, 8, 8)
    >>> figure = plots.interpolation(flow, x_0, x_1, steps=5)
    >>> [ax.get_title() for ax in figure.axes]
    ['$x_0$', '0.25', '0.5', '0.75', '$x_1$']
    """
    check_flow(flow, "interpolation")
    check_count(steps, 2, "interpolation expects at least 2 steps, the two ends")
    shapes = [tuple(getattr(x, "shape", ())) for x in (x_0, x_1)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 4:
        raise ValueError(f"interpolation expects two batches of images (B, channels, height, width) of one shape, got "
                         f"{shapes[0]} and {shapes[1]}; add the batch of one image with image[None]")
    check_conditions(x_0, "interpolation")
    shares = torch.linspace(0, 1, steps).tolist()
    with evaluating(flow):
        z_0, z_1 = (flow.transform_to_noise(x, context) for x in (x_0, x_1))
        rows = [flow.transform_from_noise(_between(z_0, z_1, share), context) for share in shares]
    named = ["$x_0$", *(f"{share:.2g}" for share in shares[1:-1]), "$x_1$"]
    titles = condition_titles(context, len(x_0)) if context is not None else None
    return grid(list(zip(named, rows, strict=True)), titles, limits, True, axes, "interpolation")


def _between(z_0: Tensor, z_1: Tensor, share: float) -> Tensor:
    """Return the noise at a share of the way along the arc from one noise to another, row by row."""
    rows = torch.stack([z_0, z_1]).flatten(2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    lengths = rows.norm(dim=2, keepdim=True)
    units = rows / lengths.clamp_min(torch.finfo(rows.dtype).tiny)
    # Of the angle, by the chord: the cosine of a small angle has lost its digits.
    angle = 2 * torch.asin(((units[1] - units[0]).norm(dim=1, keepdim=True) / 2).clamp(max=1))
    weights = torch.stack([((1 - share) * angle).sin(), (share * angle).sin()]) / angle.sin()
    arc = lengths[0].lerp(lengths[1], share) * (weights * units).sum(0)
    bent = (angle.sin() > 1e-4) & (lengths > 0).all(0)
    return torch.where(bent, arc, rows[0].lerp(rows[1], share)).to(z_0.dtype).view_as(z_0)
