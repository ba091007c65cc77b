"""
Samples of several values
=========================

:func:`condflows.plots.corner` draws samples in pairs of values: histograms on the diagonal, and contours that hold 50 %
and 90 % of the samples below it.
"""

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner

torch.manual_seed(0)


def simulate(count):
    """Draw the mass, distance and dust of stars, and how bright each looks: a star of more mass, closer, brighter."""
    normal = torch.randn(count, 3)
    stars = torch.exp(torch.tensor([0.4, 0.3, 0.4]) * normal) * torch.tensor([1.0, 1.0, 0.4])
    mass, distance, dust = stars.T
    brightness = 2 * mass.log() - 2 * distance.log() - dust + 0.1 * torch.randn(count)
    return stars, brightness[:, None]


# %%
# A flow of the three values given the brightness, trained on simulated stars. Its first operation keeps all values
# between 0 and 8:


def step():
    return cf.glow_step(3, MLPConditioner(2, 2, context_features=1, hidden=(64,)), MLPConditioner(1, 6, hidden=(32,)))


flow = cf.Flow(cf.Chain([cf.Logit(0, 8), *(step() for _ in range(4))]), shape=(3,))
cf.initialize(flow, *simulate(1000))
optimizer = torch.optim.Adam(flow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 300)
for _ in range(300):
    loss = -flow.log_prob(*simulate(256)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %%
# A new star. The flow knows its brightness alone. Beside its samples are those of all stars:

star, brightness = simulate(1)
with torch.no_grad():
    posterior = flow.sample(5000, brightness)[0]
prior, _ = simulate(5000)
figure = plots.corner({"all stars": prior, "given the brightness": posterior}, ["mass", "distance", "dust"],
                      truths=star[0])
figure.suptitle(f"Stars of brightness {brightness.item():.2f}, the true one in black")
plt.show()

# %%
# A bright star may have much mass, or be close, or both: the flow has learned the ridge along which mass and distance
# make up for each other. Of the dust, one brightness tells little.
