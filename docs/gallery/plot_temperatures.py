"""
Temperatures
============

:func:`condflows.plots.temperatures` draws samples at several temperatures. The noise is the same along a row, so that
neighbours differ by the temperature alone.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import condflows as cf
from condflows import plots
from condflows.conditioners import ConvConditioner, CouplingConditioner, MLPConditioner

torch.manual_seed(0)


def train(flow, draw, iterations, batch):
    cf.initialize(flow, *draw(256))
    optimizer = torch.optim.Adam(flow.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, iterations)
    for _ in range(iterations):
        loss = -flow.log_prob(*draw(batch)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
        optimizer.step()
        schedule.step()


# %%
# Images
# ------
#
# Clouds given a coarse picture of them, as on the page about images:


def draw_clouds(count):
    sums = sum(weight * F.interpolate(torch.randn(count, 1, size, size), size=16, mode="bicubic")
               for size, weight in ((2, 0.9), (4, 0.7), (8, 0.4)))
    clouds = 0.1 + 0.8 * torch.sigmoid(2 * sums) + 0.02 * torch.randn(count, 1, 16, 16)
    return clouds, F.avg_pool2d(clouds, 4)


def step(c):
    return cf.glow_step(c, CouplingConditioner(c, width=32, context_channels=1, context_width=8))


def prior(c):
    return cf.AffineCoupling(c, ConvConditioner(c))


of_clouds = cf.Flow(cf.multiscale(1, (3, 2), step, prior, top=cf.ActNorm), shape=(1, 16, 16))
train(of_clouds, draw_clouds, 120, 16)
_, coarse = draw_clouds(3)
figure = plots.temperatures(of_clouds, coarse, (0.0, 0.4, 0.7, 1.0, 1.2))
figure.suptitle("Clouds at five temperatures, three conditions")
plt.show()

# %%
# At temperature 0 a condition has one image, smooth as no single real one is. Detail comes with the temperature.
#
# Points
# ------
#
# Points around an arc whose radius is the condition, a thousand for each panel:


def draw_points(count):
    radius, angle = 1 + torch.rand(count, 1), 0.9 * torch.randn(count, 1)
    distance = radius + 0.15 * torch.randn(count, 1)
    return distance * torch.cat([angle.cos(), angle.sin()], 1), radius


steps = [cf.glow_step(2, MLPConditioner(1, 2, context_features=1, hidden=(32,))) for _ in range(4)]
of_points = cf.Flow(cf.Chain(steps), shape=(2,))
train(of_points, draw_points, 150, 128)
figure = plots.temperatures(of_points, torch.tensor([[1.0], [2.0]]), titles=["radius 1", "radius 2"])
figure.suptitle("Points at four temperatures, two conditions")
plt.show()
