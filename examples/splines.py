"""Spline and mixture couplings beside affine ones: a checkerboard that its context turns.

    python examples/splines.py              trains three flows, and writes runs/splines.png
    python examples/splines.py --tiny       a few steps

Ends at -2.308 nats for 8 affine couplings, -2.203 for 4 splines and -2.279 for 4 mixtures, where the truth has -2.079
and one normal distribution -3.107; about 20 s each on one core. In the picture only the splines separate the squares.
"""

import math
import time
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.distributions import MultivariateNormal

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner

BINS = 16


def turned(points: Tensor, angle: Tensor) -> Tensor:
    """Turn each point (batch, 2) by its angle (batch, 1), in radians."""
    x, y = points.chunk(2, dim=1)
    return torch.cat([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=1)


def draw(count: int) -> tuple[Tensor, Tensor]:
    """Draw points, uniform on the eight dark squares of a board of 4 by 4, and the angles by which it is turned."""
    angle = torch.rand(count, 1) - 0.5
    column, row = torch.randint(4, (count,)), torch.randint(2, (count,))
    corner = torch.stack([column, 2 * row + column % 2], dim=1) - 2
    return turned(corner + torch.rand(count, 2), angle), angle


def true_log_prob(points: Tensor, angle: Tensor) -> Tensor:
    upright = turned(points, -angle)
    dark = (upright.abs() < 2).all(1) & (upright.floor().sum(1) % 2 == 0)
    return torch.where(dark, -math.log(8), -math.inf)


def spline() -> cf.Bijector:
    return cf.SplineCoupling(2, MLPConditioner(1, 3 * BINS - 1, context_features=1), BINS, bound=3.0)


def mixture() -> cf.Bijector:
    return cf.MixtureCoupling(2, MLPConditioner(1, 3 * BINS + 2, context_features=1), BINS)


def affine() -> cf.Bijector:
    return cf.AffineCoupling(2, MLPConditioner(1, 2, context_features=1))


def chain(coupling, depth: int) -> cf.Chain:
    """Build a chain of steps: an actnorm, a linear map and a coupling, each of which reads the context."""
    return cf.Chain([part for _ in range(depth) for part in (
        cf.ActNorm(2, MLPConditioner(1, 4, hidden=(32,))),
        cf.LUConv1x1(2, MLPConditioner(1, 10, hidden=(32,))),
        coupling(),
    )])


def main(size: int = 100_000, epochs: int = 5, batch_size: int = 512, learning_rate: float = 3e-3, seed: int = 0,
         tiny: bool = False, out: Path = Path("runs/splines.png")) -> None:
    if min(size, epochs, batch_size, learning_rate) <= 0 or out.suffix != ".png":
        raise SystemExit("splines.py: error: --size, --epochs, --batch-size and --learning-rate must be positive, "
                         "and --out end in .png")
    size, epochs = (60_000, 1) if tiny else (size, epochs)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    flows = {name: cf.Flow(chain(coupling, depth), shape=(2,)) for name, coupling, depth in (
        ("affine", affine, 8), ("spline", spline, 4), ("mixture", mixture, 4))}
    points, angle = draw(10_000)
    normal = MultivariateNormal(points.mean(0), points.T.cov()).log_prob(points).mean()
    print(f"log-likelihood of 10000 test points in nats: one normal {normal:.3f}, truth {-math.log(8):.3f}")
    for name, flow in flows.items():
        began = time.perf_counter()
        cf.fit(flow, *draw(size), epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
        with torch.no_grad():
            print(f"{name} {flow.log_prob(points, angle).mean():.3f}, {sum(p.numel() for p in flow.parameters())} "
                  f"parameters, {time.perf_counter() - began:.0f} s")

    models = {"truth": true_log_prob, **{f"{name} couplings": flow for name, flow in flows.items()}}
    angles = torch.linspace(-0.5, 0.5, 5)[:, None]
    titles = [f"{one:g} rad" for one in angles.flatten().tolist()]
    figure = plots.density(models, angles, limits=(-3, 3), resolution=200, vmax=0.2, titles=titles)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
