"""
The course of a training
========================

:func:`condflows.plots.history` draws losses, the best epoch and the learning rate.
"""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner

torch.manual_seed(0)


def draw(count):
    """Draw points of an arc around 0, and its radius, which is the condition."""
    radius, angle = 1 + torch.rand(count, 1), 0.9 * torch.randn(count, 1)
    distance = radius + 0.15 * torch.randn(count, 1)
    return distance * torch.cat([angle.cos(), angle.sin()], 1), radius


# %%
# A training on 400 points. On points that were held out the loss soon stops to fall, while it still falls on those of
# training. The loop is written out here; any object with these four attributes will do.

steps = [cf.glow_step(2, MLPConditioner(1, 2, context_features=1, hidden=(64,))) for _ in range(4)]
flow = cf.Flow(cf.Chain(steps), shape=(2,))
points, radii = draw(400)
others = draw(400)
cf.initialize(flow, points, radii)
optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
course = SimpleNamespace(train=[], held_out=[], learning_rates=[], best_epoch=None)
for _ in range(60):
    course.learning_rates.append(schedule.get_last_lr()[0])
    losses = []
    for batch in torch.randperm(400).split(50):
        loss = -flow.log_prob(points[batch], radii[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    schedule.step()
    course.train.append(sum(losses) / len(losses))
    with torch.no_grad():
        course.held_out.append(-flow.log_prob(*others).mean().item())
course.best_epoch = course.held_out.index(min(course.held_out))

figure = plots.history(course)
figure.axes[0].set_title("Loss on 400 points, and on 400 others")
plt.show()
