"""
A density in the plane
======================

:func:`condflows.plots.density` draws the density of a flow of two values, one panel for each condition. A function
that returns log-densities, here those of the truth, is drawn like a flow, with the same scale of colours.
"""

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner

torch.manual_seed(0)
radius_deviation, angle_deviation = 0.15, 0.9
of_angle = torch.distributions.Normal(0, angle_deviation)


def draw(count):
    """Draw points of an arc around 0, and its radius, which is the condition."""
    radius = 1 + torch.rand(count, 1)
    distance = radius + radius_deviation * torch.randn(count, 1)
    angle = of_angle.sample((count, 1))
    return distance * torch.cat([angle.cos(), angle.sin()], 1), radius


def truth(points, radius):
    distance, angle = points.norm(dim=1), torch.atan2(points[:, 1], points[:, 0])
    of_distance = torch.distributions.Normal(radius[:, 0], radius_deviation)
    return of_distance.log_prob(distance) + of_angle.log_prob(angle) - distance.log()


# %%
# A flow of six steps, each of whose couplings reads the radius:

steps = [cf.glow_step(2, MLPConditioner(1, 2, context_features=1, hidden=(64,))) for _ in range(6)]
flow = cf.Flow(cf.Chain(steps), shape=(2,))
cf.initialize(flow, *draw(1000))
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 300)
for _ in range(300):
    loss = -flow.log_prob(*draw(256)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %%
# The limits are given here, as the truth has no samples to find them from. White points are samples of the flow:

radii = torch.tensor([[1.0], [1.5], [2.0]])
titles = ["radius 1", "radius 1.5", "radius 2"]
figure = plots.density({"truth": truth, "flow": flow}, radii, limits=((-2, 2.8), (-2.4, 2.4)), titles=titles)
figure.suptitle("The true density, and that of the flow, for three radii")
plt.show()

# %%
# Of a flow alone, with points over it, and limits that are found from the flow's samples:

with torch.no_grad():
    samples = flow.sample(300, radii)
figure = plots.density(flow, radii, points=samples, titles=titles)
figure.suptitle("The density of the flow, with samples of it")
plt.show()
