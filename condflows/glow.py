"""The multiscale architecture of Glow: the usual nesting of steps, splits and priors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.actnorm import ActNorm
from condflows.affine import AffineMap, soft_affine
from condflows.chain import Chain, Inverse
from condflows.couplings.affine import AffineCoupling
from condflows.luconv import LUConv1x1
from condflows.split import Split
from condflows.squeeze import Squeeze

__all__ = ["by_level", "glow_step", "multiscale"]

Builder = Callable[[int], Transform]
Kind = Callable[[int, nn.Module], Transform]


def glow_step(num_channels: int, coupling: nn.Module, actnorm: nn.Module | None = None, conv: nn.Module | None = None,
              affine: AffineMap = soft_affine, checkpoint: bool = False, kind: Kind | None = None) -> Chain:
    r"""Build one step of Glow: actnorm, 1x1 convolution, coupling, each conditional if given a conditioner.

    :math:`y = f_\mathrm{coupling}(W f_\mathrm{actnorm}(x))`, each of the three with its context.

    Shapes: ``(batch, num_channels, *spatial)`` to the same. Log-determinant, in nats: the sum of the three.
    Paper: Glow (arXiv 1807.03039) section 3.

    Args:
        num_channels: C, the number of channels.
        coupling: the coupling's net, called as ``coupling(first_part, context)``.
        actnorm: maps the actnorm's context to ``(batch, 2*C)`` offsets, or None.
        conv: maps the 1x1 convolution's context to ``(batch, 2*C*C + C)`` offsets, or None.
        affine: how the coupling bounds its scale and shift, see :mod:`condflows.affine`.
        checkpoint: recompute the step's activations in the backward pass.
        kind: builds the coupling, as ``kind(num_channels, coupling)``: a class such as :class:`SplineCoupling`, or a
            ``functools.partial`` of one; by default an :class:`AffineCoupling` with ``affine``.

    Raises:
        ValueError: fewer than two channels, both ``affine`` and ``kind``; when the step is called, the errors of its
            three operations.

    >>> step = glow_step(4, conditioners.CouplingConditioner(4, width=8))
    >>> step(torch.randn(2, 4, 8, 8))[0].shape
    torch.Size([2, 4, 8, 8])
    """
    if kind is not None and affine is not soft_affine:
        raise ValueError("glow_step expects either affine or kind, got both; pass kind=partial(AffineCoupling, "
                         "affine=...)")
    built = AffineCoupling(num_channels, coupling, affine) if kind is None else kind(num_channels, coupling)
    return Chain([ActNorm(num_channels, actnorm), LUConv1x1(num_channels, conv), built], checkpoint)


def multiscale(channels: int, steps: Sequence[int], step: Builder, prior: Builder | None = None,
               top: Builder | None = None, *, factor: int = 2, spatial_dims: int = 2) -> Chain:
    r"""Build a multiscale flow: per level a squeeze, some steps and a split, whose first half is the next level.

    With :math:`q` the squeeze, :math:`f_i` the steps of the level and :math:`\mathrm{split}` the :class:`Split` whose
    inner bijector is the next level (at the coarsest level ``top``, if given),

    .. math:: y = q^{-1}(\mathrm{split}(f_n(\cdots f_1(q(x)))))

    Shapes: ``(batch, channels, *spatial)`` to noise of the same shape, at any size that ``factor ** len(steps)``
    divides; a :class:`condflows.Flow` learns from it the shape of its data. On vectors (``spatial_dims=0``) there is
    nothing to squeeze and each level halves the channels. Log-determinant, in nats: the sum of those of steps, priors
    and levels. Paper: Glow (arXiv 1807.03039) figure 2.

    Args:
        channels: the number of channels of the data.
        steps: the number of steps of each level, finest first; its length is the number of levels.
        step: builds a step for a number of channels.
        prior: builds the prior of a split for the number of channels before it, or None.
        top: builds the prior of the coarsest level, where nothing is left to split, or None.
        factor: the factor of each squeeze.
        spatial_dims: the number of spatial dimensions of the data, 0 to 3.

    Raises:
        ValueError: ``steps`` that are no sequence of whole numbers; when the flow is called, sizes that are not
            multiples of ``factor ** len(steps)``.

    >>> def step(c):
    ...     return glow_step(c, conditioners.CouplingConditioner(c, width=8))
    >>> def prior(c):
    ...     return AffineCoupling(c, conditioners.ConvConditioner(c))
    >>> bijector = multiscale(3, steps=(2, 2), step=step, prior=prior, top=ActNorm)
    >>> noise, logabsdet = bijector(torch.randn(2, 3, 8, 12))
    >>> noise.shape, logabsdet.shape
    (torch.Size([2, 3, 8, 12]), torch.Size([2]))
    """
    if not isinstance(steps, Sequence) or not steps or not all(isinstance(n, int) and n >= 0 for n in steps):
        raise ValueError(f"multiscale expects the steps of at least one level, got {steps!r}; pass steps=(8, 8)")
    squeezed = channels * factor**spatial_dims
    level: list[Transform] = [Squeeze(factor), *(step(squeezed) for _ in range(steps[0]))]
    if len(steps) > 1:
        inner = multiscale(squeezed - squeezed // 2, steps[1:], step, prior, top, factor=factor,
                           spatial_dims=spatial_dims)
        level.append(Split(inner, prior(squeezed) if prior else None))
    elif top:
        level.append(top(squeezed))
    flow = Chain([*level, Inverse(Squeeze(factor))])
    flow.data_shape = (channels, *(None for _ in range(spatial_dims)))
    return flow


def by_level(values: Sequence[float], shape: Sequence[int], factor: int = 2) -> Tensor:
    r"""Lay out a value for each level of a :func:`multiscale` flow over its noise: at each place that of its level.

    With :math:`q` the squeeze and :math:`v_l` the values, finest first,

    .. math:: y_l = q^{-1}((y_{l+1}, v_l)), \quad y_n = v_n

    where :math:`y_{l+1}` fills the channels that go on to the next level. As a temperature of :meth:`Flow.sample
    <condflows.Flow.sample>` it gives the levels different ones: details that vary, in a scene that varies less.

    Shapes: a tensor of ``shape``. Log-determinant: none, as this is no bijector. Paper: Glow (arXiv 1807.03039)
    figure 2, whose layout this is.

    Args:
        values: one value for each level, finest first.
        shape: the shape of one sample, ``(channels, *spatial)``.
        factor: the factor of each squeeze.

    Raises:
        ValueError: no values, a shape that is not of whole numbers, a size that ``factor ** len(values)`` does not
            divide, more levels than there are channels for. Their number is not compared with that of a flow.

    >>> temperature = by_level((1.2, 0.9), (3, 8, 12))
    >>> temperature.shape, temperature.unique()
    (torch.Size([3, 8, 12]), tensor([0.9000, 1.2000]))
    >>> flow = Flow(multiscale(3, (1, 1), lambda c: glow_step(c, conditioners.CouplingConditioner(c, width=8))))
    >>> flow.sample(5, temperature=temperature, size=(8, 12)).shape
    torch.Size([5, 3, 8, 12])
    """
    several = (isinstance(values, Tensor) and values.ndim == 1) or isinstance(values, Sequence)
    if not several or isinstance(values, (str, bytes)) or len(values) == 0:
        raise ValueError(f"by_level expects a value for each level, finest first, got {values!r}; pass a tuple of them")
    if len(shape) == 0 or not all(isinstance(n, Integral) and n > 0 for n in shape):
        raise ValueError(f"by_level expects the shape of one sample, in whole numbers, got {tuple(shape)}; pass "
                         "(channels, height, width)")
    if len(values) > 1 and shape[0] * factor ** (len(shape) - 1) < 2:
        raise ValueError(f"by_level expects channels to split among {len(values)} levels, got shape {tuple(shape)}; "
                         "pass fewer values")
    squeeze = Squeeze(factor)
    laid = squeeze(torch.full((1, *shape), float(values[0])))[0]
    if len(values) > 1:
        channels, *sizes = laid.shape[1:]
        inner = by_level(values[1:], (channels - channels // 2, *sizes), factor)
        laid = torch.cat([inner.unsqueeze(0), laid[:, len(inner):]], 1)
    return squeeze.inverse(laid)[0][0]
