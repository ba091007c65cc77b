"""Flow matching: a net that moves noise along straight paths to photos, given the label map; no likelihood.

    encoder        a small U-Net of the label map makes one map for each level, once for all steps
    velocity       a U-Net of the mixture (1 - t) noise + t photo, which reads t and the maps
    loss           mean square distance of the velocity to photo - noise
    sampling       20 steps of the midpoint method from noise to photo, two calls of the velocity each

Conditional flow matching (arXiv 2210.02747) on straight paths (rectified flow, arXiv 2209.03003).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condflows.conditioners import PyramidEncoder
from condflows.conditioners.layers import BoundedNet, net_forward, start_at_zero


def flow_matching(channels: int = 3, depth: int = 3, width: int = 96, *, condition_channels: int | None = None,
                  classes: int | None = None, features: Sequence[int] = (32, 48, 64, 64)) -> "FlowMatching":
    """Build a model that draws photos given label maps, at any resolution that ``2 ** depth`` divides.

    Args:
        channels: channels of the photo.
        depth: number of levels, of a half, a quarter, ... of the photo's size.
        width: channels of the first level; the others have 2, 3, ... times as many.
        condition_channels: channels of the condition, an image; those of the photo if None.
        classes: number of labels, where the condition is a map of label ids ``(batch, 1, height, width)``, 255 where
            nothing is known; None where it is an image.
        features: channels of the encoder's maps, one for each level or more.
    """
    if len(features) < depth:
        raise ValueError(f"flow_matching expects features for {depth} levels, got {tuple(features)}")
    conditions = 1 if classes is not None else condition_channels or channels
    return FlowMatching(channels, width, PyramidEncoder(conditions, tuple(features)[:depth], classes))


class FlowMatching(nn.Module):
    """Velocity and encoder, their loss, and samples; images are in [0, 1], on the paths in -1 to 1."""

    solver_steps = 20

    def __init__(self, channels: int, width: int, encoder: PyramidEncoder):
        super().__init__()
        self.channels, self.encoder = channels, encoder
        self.velocity = Velocity(channels, width, encoder.features)

    def forward(self, x_b: Tensor, context: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Return the mean square error of the velocity ``(batch,)`` at a time of each path from noise to photo."""
        photo = 2 * x_b - 1
        points = torch.lerp(noise, photo, time[:, None, None, None])
        velocity = self.velocity(points, time, self.encoder(context))
        return (velocity - (photo - noise)).square().flatten(1).mean(1)

    def sample(self, num_samples: int, context: Tensor, temperature: float = 1.0,
               generator: torch.Generator | None = None, guidance: float = 0.0) -> Tensor:
        """Draw photos ``(context_size, num_samples, channels, height, width)``; the temperature scales the noise.

        The velocity is v(labels) + guidance (v(labels) - v(nothing)), as in arXiv 2207.12598.
        """
        unit, size = 2**len(self.encoder.features), context.shape[2:]
        if any(side % unit for side in size):
            raise ValueError(f"flow_matching expects height and width that are multiples of {unit}, got {tuple(size)}; "
                             "resize the label map, or train with another depth")
        if guidance and self.encoder.classes is None:
            raise ValueError(f"flow_matching has guidance only where it is given labels, got {guidance}; leave it at 0")
        labels = [context, torch.full_like(context, self.encoder.nothing)] if guidance else [context]
        maps = [level.repeat_interleave(num_samples, 0) for level in self.encoder(torch.cat(labels))]

        def velocity(points: Tensor, time: float) -> Tensor:
            both = self.velocity(points.repeat(len(labels), 1, 1, 1), points.new_tensor([time]), maps)
            given, nothing = both[:len(points)], both[-len(points):]
            return given + guidance * (given - nothing)

        noise = torch.randn(len(context) * num_samples, self.channels, *size, generator=generator, dtype=maps[0].dtype,
                            device=generator.device if generator else context.device)
        points, step = temperature * noise.to(context.device), 1 / self.solver_steps
        for i in range(self.solver_steps):
            middle = points + step / 2 * velocity(points, i * step)
            points = points + step * velocity(middle, (i + 0.5) * step)
        return ((points + 1) / 2).clamp(0, 1).unflatten(0, (len(context), num_samples))


class Velocity(BoundedNet):
    """A U-Net whose finest level has a half of the photo's size; it reads the times and the condition's maps."""

    def __init__(self, channels: int, width: int, features: Sequence[int]):
        super().__init__()
        widths = [width * (level + 1) for level in range(len(features))]
        self.code = nn.Sequential(nn.Linear(64, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width), nn.SiLU())
        self.first = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.given = nn.ModuleList(nn.Conv2d(f, w, 1) for f, w in zip(features, widths, strict=True))
        self.down = nn.ModuleList(Block(w, w, 4 * width) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(w, v, 3, stride=2, padding=1) for w, v in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(v, w, 1) for w, v in pairwise(widths))
        self.up = nn.ModuleList(Block(2 * w, w, 4 * width) for w in widths[:-1])
        self.last = start_at_zero(nn.Sequential(nn.SiLU(), nn.Conv2d(width, 4 * channels, 3, padding=1)))

    @net_forward
    def forward(self, points: Tensor, time: Tensor, maps: Sequence[Tensor]) -> Tensor:
        angles = time[:, None] * math.pi * 2 ** (torch.arange(32, dtype=time.dtype, device=time.device) / 4)
        code = self.code(torch.cat([angles.sin(), angles.cos()], dim=1))
        values, skips = self.first(F.pixel_unshuffle(points, 2)), []
        for level, (given, down) in enumerate(zip(self.given, self.down, strict=True)):
            values = self.shrink[level - 1](values) if level else values
            values = down(values + given(maps[level]), code)
            skips.append(values)
        for level in reversed(range(len(self.up))):
            grown = F.interpolate(self.grow[level](values), scale_factor=2.0, mode="nearest")
            values = self.up[level](torch.cat([grown, skips[level]], dim=1), code)
        return F.pixel_shuffle(self.last(values), 2)


class Block(nn.Module):
    """A residual block: group norm, SiLU and 3x3 convolution, twice; the time's code scales and shifts in between."""

    def __init__(self, inputs: int, outputs: int, code: int):
        super().__init__()
        norms = [nn.GroupNorm(math.gcd(8, channels), channels) for channels in (inputs, outputs)]
        self.first = nn.Sequential(norms[0], nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1), norms[1])
        self.scale_and_shift = nn.Linear(code, 2 * outputs)
        self.second = start_at_zero(nn.Sequential(nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1)))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, values: Tensor, code: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(code)[:, :, None, None].chunk(2, dim=1)
        return self.skip(values) + self.second(self.first(values) * (1 + scale) + shift)
