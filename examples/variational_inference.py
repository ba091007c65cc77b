"""Flows fitted to posteriors whose density is known up to a constant: no data at all, and a check by their weights.

    python examples/variational_inference.py            trains, and writes runs/variational_inference.png
    python examples/variational_inference.py --tiny     a few epochs

Of four posteriors of one flow the KL divergences are 0.003, 0.004, 0.006 and 0.040 nats, of a flow for the last alone
0.007; weights give the log-evidence to 0.009, at 92 to 99% effective samples. Of two modes far apart a flow finds the
one that it starts from, which its weights cannot tell: 100% effective samples, and a log-evidence of -0.693 for 0.
"""

import math
from functools import partial
from pathlib import Path

import torch
import tyro
from matplotlib.artist import setp
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal

import condflows as cf
from condflows.conditioners import MLPConditioner

OBSERVATIONS = [[0.0, 0.0], [1.0, 1.0], [-1.0, 0.5], [0.3, 2.5]]


def simulator(theta: Tensor) -> Normal:
    """Return the distribution of x: theta_1 and theta_1^2 + theta_2, each with noise. Posteriors are banana-shaped."""
    return Normal(torch.stack([theta[:, 0], theta[:, 0].square() + theta[:, 1]], dim=1), torch.tensor([1.0, 0.3]))


def log_joint(theta: Tensor, x: Tensor) -> Tensor:
    """Return log p(theta) + log p(x | theta): the log-density of the posterior, up to the unknown log p(x)."""
    return Normal(0, 1).log_prob(theta).sum(1) + simulator(theta).log_prob(x).sum(1)


def two_modes(theta: Tensor) -> Tensor:
    """Return the log-density of two equal normals, 8 deviations apart: at 0, where a flow starts, and at 8."""
    return Normal(torch.tensor([[0.0, 0], [8, 0]]), 1.0).log_prob(theta[:, None]).sum(2).logsumexp(1) - math.log(2)


def pareto_k(log_weights: Tensor) -> float:
    """Return k of the tail of the weights, which have moments up to 1/k: over 0.7, their mean is not to be trusted."""
    tail = math.ceil(min(len(log_weights) / 5, 3 * math.sqrt(len(log_weights))))
    values = (log_weights.double() - log_weights.max()).exp().sort().values
    excess = values[-tail:] - values[-tail - 1]
    # A generalized Pareto distribution, fitted as by Zhang and Stephens (2009), with a weak prior of k = 0.5.
    size = 30 + int(math.sqrt(tail))
    slopes = (1 - (size / torch.arange(0.5, size).double()).sqrt()) / (3 * excess[int(tail / 4 - 0.5)]) + 1 / excess[-1]
    shapes = torch.log1p(-slopes[:, None] * excess).mean(1)
    slope = (tail * ((-slopes / shapes).log() - shapes)).softmax(0) @ slopes
    return float(tail * torch.log1p(-slope * excess).mean() + 5) / (tail + 10)


def main(epochs: int = 20, batch_size: int = 256, depth: int = 8, learning_rate: float = 5e-3, seed: int = 0,
         tiny: bool = False, out: Path = Path("runs/variational_inference.png")) -> None:
    if min(epochs, batch_size, depth, learning_rate) <= 0 or out.suffix != ".png":
        raise SystemExit("variational_inference.py: error: --epochs, --batch-size, --depth and --learning-rate must be "
                         "positive, and --out end in .png")
    epochs, depth = (4, 4) if tiny else (epochs, depth)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)

    amortized, alone, halved = (
        cf.Flow(cf.Chain([cf.glow_step(2, MLPConditioner(1, 2, features)) for _ in range(depth)]), shape=(2,))
        for features in (2, 0, 0))
    cases = [(f"x = {x}", amortized, torch.tensor([x]), partial(log_joint, x=torch.tensor(x))) for x in OBSERVATIONS]
    cases += [(f"x = {OBSERVATIONS[-1]} alone", alone, None, cases[-1][-1]), ("two modes", halved, None, two_modes)]
    options: dict = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "progress": False}
    cf.fit(amortized, target=log_joint, context=simulator(torch.randn(20_000, 2)).sample(), **options)
    for _, flow, _, target in cases[-2:]:
        cf.fit(flow, target=target, steps_per_epoch=20, **options)

    first, second = torch.linspace(-6, 14, 301), torch.linspace(-6, 6, 181)
    grid, box = torch.cartesian_prod(second, first).flip(1), (-6, 14, -6, 6)
    figure = Figure(figsize=(2.6 * len(cases), 7.9), layout="constrained")
    axes = figure.subplots(3, len(cases))
    for column, (title, flow, x, target) in zip(axes.T, cases, strict=True):
        with torch.no_grad():
            samples, log_q = flow.sample_and_log_prob(10_000, x)
            learned = flow.log_prob(grid, None if x is None else x.expand(len(grid), 2)).exp().view(181, 301)
        log_weights = target(samples.view(-1, 2)) - log_q.view(-1)
        evidence = target(grid).logsumexp(0) + math.log(20 / 300 * 12 / 180)
        exact = (target(grid) - evidence).exp().view(181, 301)
        print(f"{title}: KL divergence {evidence - log_weights.mean():.3f}; log-evidence "
              f"{log_weights.logsumexp(0) - math.log(10_000):.3f}, exactly {evidence:.3f}; effective samples "
              f"{1 / log_weights.softmax(0).square().sum() / 10_000:.0%}, Pareto k {pareto_k(log_weights):.2f}")
        column[0].imshow(exact, origin="lower", extent=box)
        column[1].imshow(learned, origin="lower", extent=box, vmin=0, vmax=exact.max())
        column[2].plot(*samples.view(-1, 2)[:2000].T, ".", markersize=1.5, alpha=0.5)
        column[2].contour(first, second, exact, levels=exact.max() * torch.tensor([0.01, 0.1, 0.5]), colors="k")
        column[0].set_title(title)
        setp(column, xlim=(-3, 11) if flow is halved else (-2.5, 2.5))
    for row, label in zip(axes, ("exact density", "learned density", "samples, exact contours"), strict=True):
        row[0].set_ylabel(label)
    setp(axes, xticks=[], yticks=[], ylim=(-3, 3.5), aspect="auto")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
