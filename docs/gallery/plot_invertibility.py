"""
Errors of the round trip
========================

:func:`condflows.plots.invertibility` draws the report of :func:`condflows.testing.invertibility_report`: the error of
the round trip of each operation, and the scales that may explain it.
"""

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner
from condflows.testing import invertibility_report

torch.manual_seed(0)


def draw(count):
    """Draw points close to a spiral."""
    angle = 9 * torch.rand(count, 1).sqrt()
    return angle / 3 * torch.cat([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)


flow = cf.Flow(cf.Chain([cf.glow_step(2, MLPConditioner(1, 2, hidden=(32,))) for _ in range(6)]), shape=(2,))
cf.initialize(flow, draw(1000))
optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
for _ in range(300):
    loss = -flow.log_prob(draw(256)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
# On points like those of training, every operation inverts to the precision of float32. The grey bars are steps, and
# the longest of them the whole flow: its error is larger than those of its operations, as each step back amplifies the
# errors of those before it.

figure = plots.invertibility(invertibility_report(flow, draw(1000)))
figure.suptitle("Points like those of training")
plt.show()

# %%
# A thousand times as far out, errors grow with the values:

figure = plots.invertibility(invertibility_report(flow, 1000 * draw(1000)))
figure.suptitle("Points a thousand times as far out")
plt.show()
