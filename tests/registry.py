"""Every bijector and composition, conditional and not, over vectors and 1 to 3 spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from nflows.nn.nets import ConvResidualNet, ResidualNet
from nflows.transforms.base import CompositeTransform, Transform
from nflows.transforms.coupling import AffineCouplingTransform, PiecewiseRationalQuadraticCouplingTransform
from torch import Tensor

from condflows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Inverse,
    LUConv1x1,
    MixtureCoupling,
    SplineCoupling,
    Split,
    Squeeze,
    VariationalDequantization,
    glow_step,
    multiscale,
    sigmoid_affine,
)
from condflows.conditioners import (
    ConvConditioner,
    CouplingConditioner,
    GatedConditioner,
    GlobalConditioner,
    MapConditioner,
    MLPConditioner,
)
from models import MODELS
from models.full_glow import full_glow


@dataclass(frozen=True)
class Entry:
    """A bijector's builder, the size of its inputs, and the maker of their context.

    ``context`` maps (batch, spatial size of the inputs, random tensor maker) to a context.
    """

    build: Callable[[], Transform]
    channels: int
    sizes: tuple[int, ...] = ()
    context: Callable[[int, torch.Size, Callable[..., Tensor]], Any] | None = None
    heavy: bool = False


ENTRIES: dict[str, Entry] = {}
VECTOR, IMAGE, COARSE = 3, 2, 2  # context features of a vector, of an image, and of an image at another resolution


def vector(batch, size, random):
    return random(batch, VECTOR)


def image(batch, size, random):
    return random(batch, IMAGE, *size)


def coarse(batch, size, random):
    return random(batch, COARSE, *(2 * n + 1 for n in size))


def pyramid(batch, size, random):
    return tuple(random(batch, IMAGE, *(n // side for n in size)) for side in (2, 4))


def code(batch, size, random):
    return random(batch, 4, *(n // 2 for n in size))


def coupling_net(c, d, context=0, width=6, outputs=2):
    if d == 0:
        return MLPConditioner(c - c // 2, outputs * (c // 2), context, hidden=(width,))
    return CouplingConditioner(c, width, context, spatial_dims=d, context_width=4, num_outputs=outputs * (c // 2))


def spline(c, d, context=0, bins=4):
    return SplineCoupling(c, coupling_net(c, d, context, outputs=3 * bins - 1), bins)


def mixture(c, d, context=0, components=3):
    return MixtureCoupling(c, coupling_net(c, d, context, outputs=3 * components + 2), components)


def global_net(d, context, outputs):
    if d == 0:
        return MLPConditioner(context, outputs, hidden=(6,))
    return GlobalConditioner(context, outputs, spatial_dims=d, conv_channels=(3, 2), grid=2, hidden=(5,))


def plain_step(d, c):
    return glow_step(c, coupling_net(c, d))


def conditional_step(d, context, c, **options):
    # On images the context of the whole is an image; on vectors a vector.
    return glow_step(c, coupling_net(c, d, context), global_net(d, context, 2 * c),
                     global_net(d, context, 2 * c * c + c), **options)


def pyramid_step(d, c):
    return glow_step(c, coupling_net(c, d, IMAGE), MapConditioner(IMAGE, 2 * c, 4, d),
                     global_net(d, IMAGE, 2 * c * c + c))


def prior(d, c):
    return AffineCoupling(c, coupling_net(c, d) if d == 0 else ConvConditioner(c, d))


def traced(build_source, channels, *, side=0):
    """Make a context: the trace of another flow on a random x_a, and if asked for side information appended."""

    def make(batch, size, random):
        torch.manual_seed(1)
        source = build_source().double()
        with torch.no_grad():
            trace = source.forward_with_trace(random(batch, channels, *size))[2]
        return trace.concat(random(batch, side, *size)) if side else trace

    return make


for d in range(4):
    size = (3, 2, 2)[:d] if d != 3 else (2, 1, 2)
    even = (4,) if d == 1 else (2,) * d
    own = vector if d == 0 else image
    k = VECTOR if d == 0 else IMAGE
    name = ("vector", "1d", "2d", "3d")[d]
    add = {
        "actnorm": Entry(partial(ActNorm, 3), 3, size),
        "actnorm one channel": Entry(partial(ActNorm, 1), 1, size),
        "actnorm given its own kind": Entry(lambda d=d, k=k: ActNorm(3, global_net(d, k, 6)), 3, size, own),
        "actnorm given a vector": Entry(lambda: ActNorm(3, MLPConditioner(VECTOR, 6)), 3, size, vector),
        "luconv": Entry(partial(LUConv1x1, 4), 4, size),
        "luconv one channel": Entry(partial(LUConv1x1, 1), 1, size),
        "luconv given its own kind": Entry(lambda d=d, k=k: LUConv1x1(4, global_net(d, k, 36)), 4, size, own),
        "luconv given a vector": Entry(lambda: LUConv1x1(3, MLPConditioner(VECTOR, 21)), 3, size, vector),
        "coupling": Entry(lambda d=d: AffineCoupling(4, coupling_net(4, d)), 4, size),
        "coupling odd": Entry(lambda d=d: AffineCoupling(5, coupling_net(5, d)), 5, size),
        "coupling given its own kind": Entry(
            lambda d=d, k=k: AffineCoupling(3, coupling_net(3, d, k)), 3, size, own),
        "coupling given a vector": Entry(
            lambda d=d: AffineCoupling(3, coupling_net(3, d, VECTOR)), 3, size, vector),
        "coupling with the paper's scale": Entry(
            lambda d=d, k=k: AffineCoupling(2, coupling_net(2, d, k), sigmoid_affine), 2, size, own),
        "spline coupling": Entry(lambda d=d: spline(4, d), 4, size),
        "spline coupling with one bin": Entry(lambda d=d: spline(3, d, bins=1), 3, size),
        "spline coupling given its own kind": Entry(lambda d=d, k=k: spline(3, d, k), 3, size, own),
        "spline coupling given a vector": Entry(lambda d=d: spline(2, d, VECTOR), 2, size, vector),
        "mixture coupling": Entry(lambda d=d: mixture(4, d), 4, size),
        "mixture coupling with one component": Entry(lambda d=d: mixture(3, d, components=1), 3, size),
        "mixture coupling given its own kind": Entry(lambda d=d, k=k: mixture(3, d, k), 3, size, own),
        "flow of learned noise, given the code of an image": Entry(
            lambda d=d: VariationalDequantization(2, steps=2, width=4, spatial_dims=d).flow, 2, even if d else (),
            code),
        "squeeze": Entry(Squeeze, 2, even),
        "squeeze by 3": Entry(partial(Squeeze, 3), 1, tuple(3 for _ in even)),
        "inverse of a squeeze": Entry(lambda: Inverse(Squeeze()), 2**d, size),
        "split": Entry(lambda: Split(ActNorm(3)), 5, size),
        "split with prior": Entry(lambda d=d: Split(LUConv1x1(2), prior(d, 4)), 4, size),
        "split with conditional prior": Entry(
            lambda d=d, k=k: Split(plain_step(d, 2), AffineCoupling(4, coupling_net(4, d, k))), 4, size, own),
        "chain": Entry(lambda: Chain([ActNorm(3), LUConv1x1(3)]), 3, size),
        "empty chain": Entry(lambda: Chain([]), 3, size),
        "chain inverted": Entry(lambda d=d, k=k: Inverse(conditional_step(d, k, 3)), 3, size, own),
        "glow step": Entry(partial(plain_step, d, 4), 4, size),
        "glow step given its own kind": Entry(partial(conditional_step, d, k, 4), 4, size, own),
        "glow step checkpointed": Entry(
            partial(conditional_step, d, k, 4, checkpoint=True), 4, size, own),
        "nflows composite of ours": Entry(
            lambda d=d, k=k: CompositeTransform([ActNorm(3), conditional_step(d, k, 3)]), 3, size, own),
        "multiscale": Entry(
            lambda d=d: multiscale(4 if d == 0 else 1, (1, 1), partial(plain_step, d), partial(prior, d), ActNorm,
                                   spatial_dims=d),
            4 if d == 0 else 1, tuple(4 for _ in even), heavy=True),
        "multiscale given its own kind": Entry(  # C-Glow: the raw condition reaches every operation
            lambda d=d, k=k: multiscale(4 if d == 0 else 1, (1, 1), partial(conditional_step, d, k), partial(prior, d),
                                        spatial_dims=d),
            4 if d == 0 else 1, tuple(4 for _ in even), own, heavy=True),
    }
    if d:
        add["actnorm with a map for every position"] = Entry(
            lambda d=d: ActNorm(3, MapConditioner(IMAGE, 6, 4, d)), 3, size, image)
        add["coupling given a coarser or finer image"] = Entry(
            lambda d=d: AffineCoupling(3, coupling_net(3, d, COARSE)), 3, size, coarse)
        add["multiscale given a pyramid"] = Entry(
            lambda d=d: multiscale(1, (1, 1), partial(pyramid_step, d), partial(prior, d), spatial_dims=d),
            1, tuple(4 for _ in even), pyramid, heavy=True)
        add["coupling with gated net"] = Entry(
            lambda d=d: AffineCoupling(4, GatedConditioner(4, 4, spatial_dims=d)), 4, size)
        add["coupling with gated net given an image"] = Entry(
            lambda d=d: AffineCoupling(3, GatedConditioner(3, 4, COARSE, spatial_dims=d)), 3, size, coarse)
        add["coupling with gated net and attention given a vector"] = Entry(
            lambda d=d: AffineCoupling(3, GatedConditioner(3, 4, VECTOR, 1, 2, d)), 3, size, vector)
        add["paired multiscale given a trace"] = Entry(
            lambda d=d: multiscale(1, (1, 1), lambda c: conditional_step(d, c, c), partial(prior, d), spatial_dims=d),
            1, tuple(4 for _ in even),
            traced(lambda d=d: multiscale(1, (1, 1), partial(plain_step, d), partial(prior, d), spatial_dims=d), 1),
            heavy=True)
    ENTRIES.update({f"{name}: {key}": entry for key, entry in add.items()})


def nflows_spline_coupling():
    return PiecewiseRationalQuadraticCouplingTransform(
        torch.tensor([1.0, 0.0, 1.0]), lambda i, o: ResidualNet(i, o, 8, context_features=VECTOR, num_blocks=1),
        num_bins=4, tails="linear", tail_bound=3.0)


def image_coupling():
    return AffineCouplingTransform(
        torch.tensor([1.0, 0.0, 1.0, 0.0]),
        lambda i, o: ConvResidualNet(i, o, 8, context_channels=IMAGE, num_blocks=1))


ENTRIES["vector: chain with an nflows spline coupling"] = Entry(
    lambda: Chain([ActNorm(3, MLPConditioner(VECTOR, 6)), nflows_spline_coupling(), LUConv1x1(3)]), 3, (), vector)
ENTRIES["2d: chain with an nflows affine coupling"] = Entry(
    lambda: Chain([LUConv1x1(4, global_net(2, IMAGE, 36)), image_coupling(), ActNorm(4)]), 4, (3, 2), image)


def small_full_glow(**options):
    return full_glow(3, (1, 1), 6, context_width=4, grid=2, **options)


ENTRIES["2d: Full-Glow's source"] = Entry(lambda: small_full_glow().source.transform, 3, (4, 4), heavy=True)
ENTRIES["2d: Full-Glow's target"] = Entry(
    lambda: small_full_glow().target.transform, 3, (4, 4),
    traced(lambda: small_full_glow().source.transform, 3), heavy=True)
ENTRIES["2d: Full-Glow's target with side information"] = Entry(
    lambda: small_full_glow(side_channels=1, condition_channels=2).target.transform, 3, (4, 4),
    traced(lambda: small_full_glow(condition_channels=2).source.transform, 2, side=1), heavy=True)


class Joint(Bijector):
    """A whole pair as one bijection of (x_a, x_b): the gradient of the target reaches the source through the trace."""

    def __init__(self, pair):
        super().__init__()
        self.pair = pair

    def forward(self, inputs, context=None):
        x_a, x_b = inputs.chunk(2, dim=1)
        z_a, source_logabsdet, trace = self.pair.source.transform.forward_with_trace(x_a)
        z_b, target_logabsdet = self.pair.target.transform(x_b, trace)
        return torch.cat([z_a, z_b], dim=1), source_logabsdet + target_logabsdet

    def inverse(self, inputs, context=None):
        z_a, z_b = inputs.chunk(2, dim=1)
        x_a, source_logabsdet = self.pair.source.transform.inverse(z_a)
        trace = self.pair.source.transform.forward_with_trace(x_a)[2]
        x_b, target_logabsdet = self.pair.target.transform.inverse(z_b, trace)
        return torch.cat([x_a, x_b], dim=1), source_logabsdet + target_logabsdet


ENTRIES["2d: Full-Glow, source and target together"] = Entry(lambda: Joint(small_full_glow()), 6, (4, 4), heavy=True)
ENTRIES["2d: Full-Glow, together and checkpointed"] = Entry(
    lambda: Joint(small_full_glow(checkpoint=True)), 6, (4, 4), heavy=True)


for name in ("dual_glow", "c_flow"):
    def build(name=name):
        return MODELS[name](3, (1, 1), 6, condition_channels=2, context_width=4)

    ENTRIES[f"2d: {name}'s source"] = Entry(lambda build=build: build().source.transform, 2, (4, 4), heavy=True)
    ENTRIES[f"2d: {name}'s target"] = Entry(
        lambda build=build: build().target.transform, 3, (4, 4),
        traced(lambda build=build: build().source.transform, 2), heavy=True)

C_GLOW = {"condition_channels": 2, "context_width": 4, "context_features": 3}
for name in ("c_glow_v1", "c_glow_v2"):
    ENTRIES[f"2d: {name}"] = Entry(
        lambda name=name: MODELS[name](3, (1, 1), 6, **C_GLOW).transform, 3, (4, 4), image, heavy=True)

ENTRIES["2d: glow"] = Entry(lambda: MODELS["glow"](3, (1, 1), 6).transform, 3, (4, 4), heavy=True)

PARTS_OF_OTHERS = {
    "actnorm", "actnorm one channel", "actnorm given a vector", "luconv", "luconv one channel", "luconv given a vector",
    "coupling", "coupling given a vector", "split", "split with prior", "chain", "empty chain", "glow step",
    "glow step given its own kind", "multiscale",
}
"""Entries whose every part is in another entry too: costly laws leave them out in 1-D and 3-D."""
COSTLY_LAWS = [name for name in ENTRIES if name[:2] not in ("1d", "3d") or name[4:] not in PARTS_OF_OTHERS]
"""Names of the entries on which costly laws run: all of vectors and images, and every kind of the others."""
