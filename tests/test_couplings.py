"""Laws of the couplings that are not affine, after training."""

import pytest
import torch

from condflows import ActNorm, Chain, Flow, LUConv1x1, MixtureCoupling, SplineCoupling, initialize
from condflows.conditioners import MLPConditioner

COUPLINGS = {
    "spline": lambda: SplineCoupling(2, MLPConditioner(1, 23, context_features=1, hidden=(32,)), bound=3.0),
    "mixture": lambda: MixtureCoupling(2, MLPConditioner(1, 14, context_features=1, hidden=(32,)), 4),
}


@pytest.mark.parametrize("name", COUPLINGS)
def test_densities_sum_to_one_after_training(name):
    """Sum the density of a trained conditional flow on a grid, beyond the bounds of splines too."""
    flow = Flow(Chain([part for _ in range(3) for part in (ActNorm(2), LUConv1x1(2), COUPLINGS[name]())]), (2,))
    context = torch.rand(2000, 1)
    data = torch.randn(2000, 2) * 0.3 + torch.where(torch.rand(2000, 1) < 0.5, 1.5, -1.5) * (0.5 + context)
    initialize(flow, data, context)
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    first = float(-flow.log_prob(data, context).mean())
    for _ in range(60):
        optimizer.zero_grad()
        loss = -flow.log_prob(data, context).mean()
        loss.backward()
        optimizer.step()
    assert float(loss) < first - 0.3
    axis = torch.linspace(-9, 9, 500)
    grid, area = torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2
    with torch.no_grad():
        for one in (0.0, 1.0):
            total = flow.log_prob(grid, torch.full((len(grid), 1), one)).exp().sum() * area
            assert total == pytest.approx(1, abs=2e-3)
