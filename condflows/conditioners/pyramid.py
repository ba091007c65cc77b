"""An encoder of a condition: one map for each level of a flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condflows.checks import check_count
from condflows.conditioners.layers import BoundedNet, conv, net_forward, require
from condflows.trace import Context

__all__ = ["PyramidEncoder"]


class PyramidEncoder(BoundedNet):
    r"""A small U-Net from an image, or from a map of labels, to a pyramid: maps of a half, a quarter, ... of its size.

    With :math:`h_0` the image, bounded softly, or the one-hot labels; :math:`r` residual blocks (group norm, SiLU and
    3x3 convolution, twice) and :math:`g` a perceptron,

    .. math:: h_l = r(\mathrm{conv}_{/2}(h_{l-1})), \quad e_n = h_n + g(\mathrm{mean}(h_n)), \quad
              e_l = r(h_l + \mathrm{conv}(\mathrm{up}(e_{l+1})))

    and the maps are :math:`\mathrm{silu}(e_1), \ldots, \mathrm{silu}(e_n)`. So every map knows the whole condition. As
    the context of a flow, each conditioner reads the map of its inputs' size; as the ``embedding_net`` of a
    :class:`condflows.Flow` the encoder is called once for a condition, however many samples are drawn.

    Shapes: ``(batch, channels, *spatial)`` to a tuple of ``(batch, features[l], *(spatial / 2 ** (l + 1)))``, finest
    first, sizes rounded up; labels are ``(batch, channels, *spatial)``, or ``(batch, *spatial)`` for one channel.
    Paper: U-Net (arXiv 1505.04597).

    Args:
        channels: the number of channels of the image, or of maps of labels.
        features: the number of channels of each map, finest first.
        classes: the number of labels, 0 to ``classes - 1``; None for an image.
        nothing: a label that says that nothing is known of a position, whose one-hot vector is 0.
        spatial_dims: the number of spatial dimensions, 1 to 3.

    Raises:
        ValueError: an image of another number of channels or spatial dimensions, or too small for the levels; labels
            outside of their range, on the CPU; fewer than one channel, feature or class.
        TypeError: labels that are no integers; an image of another dtype or device than the parameters.

    >>> encoder = conditioners.PyramidEncoder(1, features=(8, 12), classes=34)
    >>> level = {12: 0, 24: 1}  # of the steps with so many channels
    >>> def step(c):
    ...     features = encoder.features[level[c]]
    ...     return glow_step(c, conditioners.CouplingConditioner(c, 16, features),
    ...                      actnorm=conditioners.MapConditioner(features, 2 * c, 16))
    >>> flow = Flow(multiscale(3, (1, 1), step), embedding_net=encoder)
    >>> labels = torch.randint(34, (2, 1, 16, 32))
    >>> [level.shape for level in encoder(labels)]
    [torch.Size([2, 8, 8, 16]), torch.Size([2, 12, 4, 8])]
    >>> flow.sample(5, context=labels).shape
    torch.Size([2, 5, 3, 16, 32])
    """

    def __init__(self, channels: int, features: Sequence[int] = (32, 48, 64), classes: int | None = None,
                 nothing: int = 255, spatial_dims: int = 2):
        super().__init__()
        if not isinstance(features, Sequence) or not isinstance(nothing, int):
            raise ValueError("PyramidEncoder expects as features one number for each level, and a whole number that "
                             f"says nothing, got {features!r} and {nothing!r}; pass features=(32, 48), nothing=255")
        for count, what in ((channels, "channel"), (len(features), "level"), *((f, "feature") for f in features),
                            *(() if classes is None else ((classes, "class"),))):
            check_count(count, 1, f"PyramidEncoder expects at least 1 {what}")
        self.channels, self.features, self.classes, self.nothing = channels, tuple(features), classes, nothing
        self.spatial_dims = spatial_dims
        sizes = [channels * (classes or 1), *features]
        self.down = nn.ModuleList(
            nn.Sequential(conv(spatial_dims, i, o, 3, stride=2), Residual(o, spatial_dims)) for i, o in pairwise(sizes))
        self.up = nn.ModuleList(conv(spatial_dims, o, i, 1) for i, o in pairwise(features))
        self.merged = nn.ModuleList(Residual(i, spatial_dims) for i in features[:-1])
        last = features[-1]
        self.whole = nn.Sequential(nn.Linear(last, last), nn.SiLU(), nn.Linear(last, last))

    def forward(self, context: Context) -> tuple[Tensor, ...]:
        return self._maps(self._image(context) if self.classes is None else self._one_hot(context))

    @net_forward
    def _maps(self, values: Tensor) -> tuple[Tensor, ...]:
        if max(values.shape[2:]) < 2**len(self.features):
            raise ValueError(f"PyramidEncoder with {len(self.features)} levels expects a side of at least "
                             f"{2**len(self.features)}, got shape {tuple(values.shape)}; build it with fewer features")
        maps: list[Tensor] = []
        for down in self.down:
            values = down(values)
            maps.append(values)
        pooled = self.whole(maps[-1].flatten(2).mean(2))
        maps[-1] = maps[-1] + pooled.reshape(*pooled.shape, *(1 for _ in range(self.spatial_dims)))
        for level in reversed(range(len(self.up))):
            raised = F.interpolate(self.up[level](maps[level + 1]), size=maps[level].shape[2:], mode="nearest")
            maps[level] = self.merged[level](maps[level] + raised)
        return tuple(F.silu(values) for values in maps)

    def _image(self, context: Context) -> Tensor:
        return self.bound(require(self, context, self.channels, 2 + self.spatial_dims))

    def _one_hot(self, labels: Any) -> Tensor:
        """Return the one-hot vectors of integer labels, 0 where nothing is known."""
        classes: Any = self.classes
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
            came = f"{labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"PyramidEncoder expects integer labels, 0 to {classes - 1}, got {came}; convert them with "
                            "labels.long(), or build it with classes=None for an image")
        if labels.ndim == 1 + self.spatial_dims and self.channels == 1:
            labels = labels.unsqueeze(1)
        if labels.ndim != 2 + self.spatial_dims or labels.shape[1] != self.channels:
            raise ValueError(f"PyramidEncoder expects labels of {self.channels} channels and {self.spatial_dims} "
                             f"spatial dimensions, got shape {tuple(labels.shape)}; build it for their channels")
        table = torch.eye(classes + 1, classes, dtype=next(self.parameters()).dtype, device=labels.device)
        labels = labels.long()
        rows = torch.where(labels == self.nothing, classes, torch.where(labels == classes, -1, labels))
        try:
            one_hot = F.embedding(rows, table)
        except IndexError as error:
            known = labels[labels != self.nothing]
            raise ValueError(f"PyramidEncoder expects labels from 0 to {classes - 1}, or {self.nothing} where nothing "
                             f"is known, got {int(known.min())} to {int(known.max())}; build it for more classes, or "
                             "number the labels from 0") from error
        return one_hot.movedim(-1, 2).flatten(1, 2)


class Residual(nn.Module):
    """A residual block: group norm, SiLU and 3x3 convolution, SiLU and 3x3 convolution, added to the inputs."""

    def __init__(self, channels: int, spatial_dims: int):
        super().__init__()
        groups = math.gcd(channels, max(1, channels // 4))
        self.net = nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), conv(spatial_dims, channels, channels, 3),
                                 nn.SiLU(), conv(spatial_dims, channels, channels, 3))

    def forward(self, values: Tensor) -> Tensor:
        return values + self.net(values)
