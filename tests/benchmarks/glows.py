"""The same unconditional Glow in condflows and in other libraries.

Per level a squeeze, steps of actnorm, 1x1 convolution and affine coupling, and a split; each coupling's net is three
convolutions (3x3, 1x1, 3x3) of one width. Every contender has ``loss(x)``, the mean negative log-likelihood in nats,
and ``inverse()``, a batch of images from noise that was drawn before.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "cityscapes"))
from models.full_glow import full_glow


def net(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Build a coupling's net as users of the other libraries write it."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 1), nn.ReLU(),
        nn.Conv2d(width, outputs, 3, padding=1),
    )


def normal_nll(noise: Tensor) -> Tensor:
    return 0.5 * noise.square().flatten(1).sum(1) + 0.5 * math.log(2 * math.pi) * noise.shape[1:].numel()


def condflows(steps: Sequence[int], width: int, batch: int, side: int, checkpoint: bool = False,
              grouped: bool = False) -> Any:
    import condflows as cf
    from condflows.conditioners import CouplingConditioner

    glow = cf.multiscale(3, steps, lambda c: cf.glow_step(c, CouplingConditioner(c, width), checkpoint=checkpoint))
    flow = cf.Flow(in_groups(glow) if grouped else glow, (3, None, None))
    noise = torch.randn(batch, 3, side, side)
    return SimpleNamespace(module=flow, loss=lambda x: -flow(x).mean(),
                           inverse=lambda: flow.transform_from_noise(noise))


def in_groups(glow: Any) -> Any:
    """Put the steps into groups of about the square root of their number, each group a checkpoint."""
    from condflows import Chain, Split

    squeeze, *parts = glow.parts
    steps = [part for part in parts if isinstance(part, Chain)]
    size = max(1, math.isqrt(len(steps)))
    groups = [Chain(steps[i : i + size], checkpoint=True) for i in range(0, len(steps), size)]
    rest = parts[len(steps) :]
    for part in rest:
        if isinstance(part, Split):
            part.inner = in_groups(part.inner)
    return Chain([squeeze, *groups, *rest])


def full_glow_pair(steps: Sequence[int], width: int, batch: int, side: int, checkpoint: bool = False,
                   grouped: bool = False) -> Any:
    """Build Full-Glow of ``examples/cityscapes``, with the image as its own condition."""
    pair = full_glow(3, steps, width, checkpoint=checkpoint)
    for flow in (pair.source, pair.target) if grouped else ():
        flow._transform = in_groups(flow.transform)
    noise, condition = torch.randn(batch, 3, side, side), torch.rand(batch, 3, side, side)
    return SimpleNamespace(module=pair, loss=lambda x: -sum(pair(x_a=x, x_b=x)).mean(),
                           inverse=lambda: pair.transform_from_noise(noise, condition))


def full_glow_step(pair: Any, optimizer: torch.optim.Optimizer, x_a: Tensor, x_b: Tensor, bf16: bool) -> None:
    """Run a training step on the paper's objective, with ``bf16`` under autocast."""
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        log_p_a, log_p_b = pair(x_a=x_a, x_b=x_b)
    (-(1e-4 * log_p_a + log_p_b).mean() / x_b[0].numel()).backward()
    optimizer.step()


def condflows_compiled(steps: Sequence[int], width: int, batch: int, side: int) -> Any:
    import condflows as cf

    glow = condflows(steps, width, batch, side)
    cf.compile_steps(glow.module)
    return glow


def condflows_compiled_whole(steps: Sequence[int], width: int, batch: int, side: int) -> Any:
    glow = condflows(steps, width, batch, side)
    glow.module.compile(dynamic=False)
    glow.module.transform_from_noise = torch.compile(glow.module.transform_from_noise, dynamic=False)
    return glow


def normflows(steps: Sequence[int], width: int, batch: int, side: int) -> Any:
    import normflows as nf

    levels, latents, flows, merges = len(steps), [], [], []
    for i in range(levels):
        level = levels - i  # normflows lists the coarsest level first, and each from noise to data
        c, s = (3 * 2 ** (levels + 1), side // 2**levels) if i == 0 else (3 * 2**level, side // 2**level)
        latents.append((c, s, s))
        blocks = [nf.flows.GlowBlock(3 * 2 ** (level + 1), width) for _ in range(steps[level - 1])]
        flows.append([*blocks, nf.flows.Squeeze()])
        merges += [nf.flows.Merge()] if i else []
    model = nf.MultiscaleFlow([nf.distributions.DiagGaussian(shape, trainable=False) for shape in latents], flows,
                              merges, class_cond=False)
    noise = [torch.randn(batch, *shape) for shape in latents]
    return SimpleNamespace(module=model, loss=lambda x: model(x).mean(),
                           inverse=lambda: model.forward_and_log_det(noise)[0])


def nflows(steps: Sequence[int], width: int, batch: int, side: int) -> Any:
    from nflows import transforms as nt

    # nflows calls what torch no longer has.
    torch.triangular_solve = lambda b, a, upper=True, unitriangular=False: (
        torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unitriangular), None)

    class Net(nn.Module):
        def __init__(self, inputs: int, outputs: int):
            super().__init__()
            self.net = net(inputs, width, outputs)

        def forward(self, x: Tensor, context: None = None) -> Tensor:
            return self.net(x)

    def step(c: int) -> list[nn.Module]:
        mask = torch.cat([torch.zeros(c - c // 2), torch.ones(c // 2)])
        return [nt.ActNorm(c), nt.OneByOneConvolution(c), nt.AffineCouplingTransform(mask, Net)]

    transform = nt.MultiscaleCompositeTransform(len(steps))
    shape = (3, side, side)
    for n in steps:
        c, s = shape[0] * 4, shape[1] // 2
        level = nt.CompositeTransform([nt.SqueezeTransform(), *(part for _ in range(n) for part in step(c))])
        shape = transform.add_transform(level, (c, s, s))
    noise = torch.randn(batch, 3 * side * side)

    def loss(x: Tensor) -> Tensor:
        outputs, logabsdet = transform(x)
        return (normal_nll(outputs) - logabsdet).mean()

    return SimpleNamespace(module=transform, loss=loss, inverse=lambda: transform.inverse(noise)[0])


def freia(steps: Sequence[int], width: int, batch: int, side: int, learned: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import FrEIA.framework as ff
        import FrEIA.modules as fm

    def subnet(inputs: int, outputs: int) -> nn.Module:
        return net(inputs, width, outputs)

    nodes: list[Any] = [ff.InputNode(3, side, side)]
    ends, c = [], 3
    for i, n in enumerate(steps):
        c *= 4
        nodes.append(ff.Node(nodes[-1].out0, fm.IRevNetDownsampling, {}))
        for _ in range(n):
            options = {"learned_householder_permutation": c} if learned else {"permute_soft": True}
            nodes.append(ff.Node(nodes[-1].out0, fm.AllInOneBlock, {"subnet_constructor": subnet, **options}))
        if i + 1 < len(steps):
            nodes.append(ff.Node(nodes[-1].out0, fm.Split, {}))
            ends.append(ff.OutputNode(nodes[-1].out1))
            c -= c // 2
    ends.append(ff.OutputNode(nodes[-1].out0))
    model = ff.GraphINN([*nodes, *ends])
    with torch.no_grad():
        noise = [torch.randn_like(z) for z in model(torch.zeros(batch, 3, side, side))[0]]

    def loss(x: Tensor) -> Tensor:
        outputs, logabsdet = model(x)
        return (sum(normal_nll(z) for z in outputs) - logabsdet).mean()

    return SimpleNamespace(module=model, loss=loss, inverse=lambda: model(noise, rev=True)[0])


CONTENDERS: dict[str, Callable[..., Any]] = {
    "condflows": condflows, "normflows": normflows, "nflows": nflows,
    "FrEIA (fixed 1x1)": partial(freia, learned=False), "FrEIA (Householder)": partial(freia, learned=True),
}
BUILDERS: dict[str, Callable[..., Any]] = {
    **CONTENDERS,
    "condflows, steps compiled": condflows_compiled, "condflows, one graph": condflows_compiled_whole,
    "condflows, checkpoint": partial(condflows, checkpoint=True),
    "condflows, grouped": partial(condflows, checkpoint=True, grouped=True),
    "Full-Glow": full_glow_pair, "Full-Glow, checkpoint": partial(full_glow_pair, checkpoint=True),
    "Full-Glow, grouped": partial(full_glow_pair, checkpoint=True, grouped=True),
}
