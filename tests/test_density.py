"""Fitted conditional densities: they integrate to 1 and are the right ones."""

import math

import pytest
import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform

from condflows import ActNorm, AffineCoupling, Chain, Flow, LUConv1x1, glow_step, initialize
from condflows.conditioners import MLPConditioner


def fit(flow, draw, steps):
    initialize(flow, *draw(2000))
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    for _ in range(steps):
        loss = -flow.log_prob(*draw(256)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow.eval()


def draw_two_dimensional(n):
    """Draw points near an arc whose radius is the context."""
    radius = 1 + 2 * torch.rand(n, 1)
    angle = math.pi * torch.rand(n, 1)
    x = torch.cat([radius * angle.cos(), radius * angle.sin()], 1) + 0.2 * torch.randn(n, 2)
    return x, radius


def draw_one_dimensional(n):
    """Draw from a Gaussian whose mean and deviation are functions of the context."""
    c = 2 * torch.rand(n, 1) - 1
    return 3 * c + (0.5 + c.square()) * torch.randn(n, 1), c


@torch.no_grad()
def test_two_dimensions():
    def step():
        return glow_step(2, MLPConditioner(1, 2, 1, (32, 32)), MLPConditioner(1, 4, hidden=(16,)),
                         MLPConditioner(1, 10, hidden=(16,)))

    with torch.enable_grad():
        flow = fit(Flow(Chain([step() for _ in range(4)]), (2,)), draw_two_dimensional, 200)
    side = torch.linspace(-6, 6, 301)
    grid = torch.cartesian_prod(side, side)
    cell = float(side[1] - side[0]) ** 2
    for radius in (1.0, 2.0, 3.0):
        density = flow.log_prob(grid, torch.full((len(grid), 1), radius)).exp()
        assert float(density.sum()) * cell == pytest.approx(1, abs=0.01)
        # Where the mass is: the mean radius, found from the density itself.
        mean = float((density * grid.norm(dim=1)).sum()) * cell
        assert mean == pytest.approx(radius, abs=0.25)


@torch.no_grad()
def test_one_dimension():
    with torch.enable_grad():
        flow = fit(Flow(Chain([ActNorm(1, MLPConditioner(1, 2, hidden=(32, 32)))]), (1,)), draw_one_dimensional, 600)
    grid = torch.linspace(-15, 15, 4001)[:, None]
    for c in (-0.8, 0.0, 0.5):
        density = flow.log_prob(grid, torch.full((4001, 1), c)).exp()
        width = 30 / 4000
        assert float(density.sum()) * width == pytest.approx(1, abs=1e-3)
        mean = float((density * grid[:, 0]).sum()) * width
        deviation = float((density * (grid[:, 0] - mean).square()).sum() * width) ** 0.5
        assert mean == pytest.approx(3 * c, abs=0.25)
        assert deviation == pytest.approx(0.5 + c**2, rel=0.2)


@torch.no_grad()
def test_mixed_with_a_spline_of_nflows():
    """Fit an nflows transform among ours; the result is still a density."""

    def spline():
        return MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            features=2, hidden_features=16, context_features=1, num_bins=4, tails="linear", tail_bound=3.0)

    with torch.enable_grad():
        flow = fit(Flow(Chain([ActNorm(2, MLPConditioner(1, 4)), spline(), LUConv1x1(2),
                               AffineCoupling(2, MLPConditioner(1, 2, 1, (16,)))]), (2,)), draw_two_dimensional, 60)
    side = torch.linspace(-8, 8, 251)
    grid = torch.cartesian_prod(side, side)
    density = flow.log_prob(grid, torch.full((len(grid), 1), 2.0)).exp()
    assert float(density.sum()) * float(side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.01)
