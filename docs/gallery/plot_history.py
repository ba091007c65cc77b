"""
The course of a training
========================

:func:`condflows.plots.history` draws losses, the best epoch and the learning rate.
"""

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
# A training on 400 points. On points that are held out the loss soon stops to fall, while it still falls on those of
# training. The flow ends with the weights of the circle.

steps = [cf.glow_step(2, MLPConditioner(1, 2, context_features=1, hidden=(64,))) for _ in range(4)]
flow = cf.Flow(cf.Chain(steps), shape=(2,))
history = cf.fit(flow, *draw(400), held_out=draw(400), epochs=60, batch_size=50, learning_rate=5e-3, patience=None,
                 progress=False)

figure = plots.history(history)
figure.axes[0].set_title("Loss on 400 points, and on 400 others")
plt.show()
