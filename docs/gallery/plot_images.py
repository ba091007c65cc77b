"""
Images in a grid
================

:func:`condflows.plots.images` draws conditions, samples and real images below each other. Samples go in as
:meth:`condflows.Flow.sample` returns them.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import condflows as cf
from condflows import plots
from condflows.conditioners import ConvConditioner, CouplingConditioner

torch.manual_seed(0)


def draw(count):
    """Draw pictures of clouds, (count, 1, 16, 16), and what is left of them at a quarter of the resolution."""
    sums = sum(weight * F.interpolate(torch.randn(count, 1, size, size), size=16, mode="bicubic")
               for size, weight in ((2, 0.9), (4, 0.7), (8, 0.4)))
    clouds = 0.1 + 0.8 * torch.sigmoid(2 * sums) + 0.02 * torch.randn(count, 1, 16, 16)
    return F.avg_pool2d(clouds, 4), clouds


# %%
# A flow of clouds given the coarse picture of them:


def step(c):
    return cf.glow_step(c, CouplingConditioner(c, width=32, context_channels=1, context_width=8))


def prior(c):
    return cf.AffineCoupling(c, ConvConditioner(c))


flow = cf.Flow(cf.multiscale(1, (3, 2), step, prior, top=cf.ActNorm), shape=(1, 16, 16))
coarse, clouds = draw(256)
cf.initialize(flow, clouds, coarse)
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 200)
for _ in range(200):
    coarse, clouds = draw(16)
    loss = -flow.log_prob(clouds, coarse).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
    optimizer.step()
    schedule.step()

# %%
# Eight coarse pictures, three samples of each, and the real clouds. Samples differ in what the coarse picture
# leaves open:

coarse, clouds = draw(8)
with torch.no_grad():
    samples = flow.sample(3, coarse)
figure = plots.images({"coarse": coarse, "sample": samples, "real": clouds})
figure.suptitle("Samples between the coarse pictures that they were made from and real clouds")
plt.show()

# %%
# The same in columns, for three of them:

figure = plots.images({"coarse": coarse[:3], "sample": samples[:3], "real": clouds[:3]}, transposed=True)
figure.suptitle("Three conditions, one in each row")
plt.show()

# %%
# A batch, in rows of eight:

figure = plots.images(draw(24)[1].split(8))
figure.suptitle("Real clouds")
plt.show()
