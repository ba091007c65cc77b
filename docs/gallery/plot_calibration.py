"""
Calibration
===========

:func:`condflows.plots.calibration` draws the ranks of true values among samples of a flow, beside what chance would
give. Lines of a calibrated flow stay inside the band.
"""

from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner
from condflows.testing import calibration

torch.manual_seed(0)


def simulate(count):
    """Draw the position and speed of a ball, and three noisy measurements of where it is, at times 0, 1 and 2."""
    ball = torch.randn(count, 2)
    return ball, ball[:, :1] + ball[:, 1:] * torch.arange(3) + 0.5 * torch.randn(count, 3)


steps = [cf.glow_step(2, MLPConditioner(1, 2, 3, hidden=(32,)), MLPConditioner(3, 4, hidden=(32,))) for _ in range(3)]
flow = cf.Flow(cf.Chain(steps), shape=(2,))
cf.fit(flow, *simulate(80_000), epochs=1, learning_rate=1e-2, progress=False)

# %%
# The rank of a true value is the number of samples below it. Given the flow is right, all ranks are equally likely.
# Lines far outside the band are how a wrong flow shows, here the same flow at temperatures below and above 1, whose
# samples are too narrow and too wide:

balls, measured = simulate(1000)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", sharey=True)
for ax, temperature in zip(axes, (0.7, 1.0, 1.4), strict=True):
    samples = SimpleNamespace(sample=partial(flow.sample, temperature=temperature))
    plots.calibration(calibration(samples, balls, measured, 199, Tensor.double, ("position", "speed")), axes=ax)
    ax.set_title(f"temperature {temperature}")
figure.suptitle("Ranks of 1000 true values of position and speed")
plt.show()
