"""
Between two images
==================

:func:`condflows.plots.interpolation` draws the way from one image to another under one condition. It leads from noise
to noise, along an arc on which the length of the noise stays what it is at the ends.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import condflows as cf
from condflows import plots
from condflows.conditioners import ConvConditioner, CouplingConditioner

torch.manual_seed(0)


def draw(count):
    """Draw pictures of clouds, (count, 1, 16, 16), and how cloudy each of their four quarters is."""
    sums = sum(weight * F.interpolate(torch.randn(count, 1, size, size), size=16, mode="bicubic")
               for size, weight in ((2, 0.9), (4, 0.7), (8, 0.4)))
    clouds = 0.1 + 0.8 * torch.sigmoid(2 * sums) + 0.02 * torch.randn(count, 1, 16, 16)
    return clouds, F.avg_pool2d(clouds, 8)


def step(c):
    return cf.glow_step(c, CouplingConditioner(c, width=32, context_channels=1, context_width=8))


def prior(c):
    return cf.AffineCoupling(c, ConvConditioner(c))


flow = cf.Flow(cf.multiscale(1, (3, 2), step, prior, top=cf.ActNorm), shape=(1, 16, 16))
cf.initialize(flow, *draw(256))
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 200)
for _ in range(200):
    loss = -flow.log_prob(*draw(16)).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
    optimizer.step()
    schedule.step()

# %%
# From real clouds to a sample of the flow that is as cloudy in each of its quarters. What the condition says stays as
# it is on the way:

clouds, quarters = draw(4)
with torch.no_grad():
    samples = flow.sample(1, quarters)[:, 0]
figure = plots.interpolation(flow, clouds, samples, quarters, steps=9)
figure.suptitle("From real clouds, at the left, to a sample, at the right")
plt.show()
