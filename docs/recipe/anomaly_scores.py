"""
Anomaly scores
==============

A value can be usual by itself and odd where it occurs: 25 degrees at noon, or at night. The score
:math:`-\\log p(x \\mid c)` of a flow asks how unlikely a reading is *given its condition*.
"""

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner

torch.manual_seed(0)

# %%
# A sensor reads temperature and load, which both follow the hour of the day. The flow is given the hour as a point on
# a circle, so that midnight has no two sides:


def draw(count):
    """Draw readings (count, 2) and hours (count, 1)."""
    hour = 24 * torch.rand(count, 1)
    day = torch.cos(2 * torch.pi * (hour - 14) / 24)
    temperature = 15 + 9 * day + (1 + 0.5 * day) * torch.randn(count, 1)
    load = 50 + 25 * torch.tanh(3 * day) + 0.8 * (temperature - 15) + 2 * torch.randn(count, 1)
    return torch.cat([temperature, load], dim=1), hour


def on_a_circle(hour):
    turn = 2 * torch.pi * hour / 24
    return torch.cat([turn.sin(), turn.cos()], dim=1)


def step():
    return cf.glow_step(2, MLPConditioner(1, 2, context_features=2), actnorm=MLPConditioner(2, 4))


flow = cf.Flow(cf.Chain([cf.Standardize(2), *(step() for _ in range(4))]), shape=(2,))
readings, hours = draw(10_000)
history = cf.fit(flow, readings, on_a_circle(hours), epochs=8, learning_rate=3e-3, progress=False)
print(history)

# %%
# The threshold is the score that one in a hundred of held-out normal readings exceeds. Here are the densities of
# normal readings at three hours, and beside them a reading of night that came at noon:

held_out, their_hours = draw(5000)
with torch.no_grad():
    scores = -flow.log_prob(held_out, on_a_circle(their_hours))
threshold = scores.quantile(0.99)

shown = torch.tensor([[2.0], [8.0], [14.0]])
figure = plots.density(flow, on_a_circle(shown), limits=((0, 30), (10, 95)), names=("temperature", "load"),
                       titles=["2 o'clock", "8 o'clock", "14 o'clock"])
figure.axes[2].plot(6, 20, "r*", markersize=12)
figure.suptitle("Density of normal readings at three hours; the star is an anomaly at 14 o'clock")
plt.show()

# %%
# Anomalies to test with are the same readings 6 to 18 hours later. A score that is not given the hour is the same for
# both. The area under the ROC curve is the probability that an anomaly scores higher than a normal reading; 0.5 is a
# guess:

new, new_hours = draw(5000)
odd_hours = (new_hours + 6 + 12 * torch.rand_like(new_hours)) % 24


with torch.no_grad():
    normal, odd = (-flow.log_prob(new, on_a_circle(hour)) for hour in (new_hours, odd_hours))
area = (odd[:, None] > normal).float().mean()
print(f"area under the ROC curve: {area:.3f}")
print(f"{(normal > threshold).float().mean():.1%} false alarms, {(odd > threshold).float().mean():.1%} found")
assert area > 0.95
