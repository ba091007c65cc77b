"""
Bounded targets, and a single one
=================================

A share lies between 0 and 1, a mark between 0 and 100. A flow that begins with :class:`condflows.Logit` gives no
probability to values outside. With a single value there is nothing to couple, and a mixture of normal distributions is
the flow's base instead.
"""

import matplotlib.pyplot as plt
import torch
from torch.distributions import Beta, Categorical, MixtureSameFamily

import condflows as cf
from condflows.estimator import tabular_flow

torch.manual_seed(0)

# %%
# How full are a shop's shelves, given the hour of the day? Mostly full, and empty where the delivery was late, which
# is more likely in the evening. This truth is known, to compare with:


def truth(hour):
    late = 0.05 + 0.025 * hour[:, 0]
    full_or_empty = Beta(torch.tensor([8.0, 1.5]).expand(len(hour), 2), torch.tensor([2.0, 8.0]).expand(len(hour), 2))
    return MixtureSameFamily(Categorical(torch.stack([1 - late, late], dim=1)), full_or_empty)


def draw(count):
    hour = 24 * torch.rand(count, 1)
    return truth(hour).sample()[:, None], hour


# %%
# :func:`condflows.estimator.tabular_flow` is a flow of rows of numbers given others; of one number it is a mixture,
# whose weights, means and deviations a net predicts. ``Logit(0, 1)`` goes in front, and the base stays:

inside = tabular_flow(num_targets=1, num_features=1, components=6)
flow = cf.Flow(cf.Chain([cf.Logit(0, 1), inside.transform]), shape=(1,), base=inside.base)
history = cf.fit(flow, *draw(20_000), epochs=10, learning_rate=3e-3, progress=False)

# %%
# The density of the flow and the true one, morning and evening. It is 0 at once outside of the bounds:

hours = torch.tensor([[6.0], [22.0]])
grid = torch.linspace(-0.1, 1.1, 601)[:, None]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for ax, hour in zip(axes, hours, strict=True):
    given = hour.expand(len(grid), 1)
    with torch.no_grad():
        learned = flow.log_prob(grid, given).exp()
    within = (grid[:, 0] > 0) & (grid[:, 0] < 1)
    ax.plot(grid[within], truth(given[within]).log_prob(grid[within, 0]).exp(), "k--", label="truth")
    ax.plot(grid, learned, label="flow")
    ax.set(title=f"{hour.item():.0f} o'clock", xlabel="how full")
axes[0].set_ylabel("density")
axes[0].legend()
figure.suptitle("Density of how full the shelves are, learned and true")
plt.show()

# %%
# Of new data the flow is worse than the truth by this many nats, and all samples are inside:

y, hour = draw(20_000)
with torch.no_grad():
    lost = (truth(hour).log_prob(y[:, 0]) - flow.log_prob(y, hour)).mean()
    samples = flow.sample(100, hours)
print(f"{lost:.3f} nats are lost; samples from {samples.min():.3f} to {samples.max():.3f}")
assert lost < 0.03
assert ((samples > 0) & (samples < 1)).all()

# %%
# A value on a bound, such as a share of exactly 0, has the density 0 too, and ``fit`` refuses it. Bounds a little
# further out, ``Logit(-0.01, 1.01)``, let it in. Each of several targets may have its own: ``Logit([0, 0], [1, 100])``.
#
# Positive values without an upper bound, such as prices: give the flow their logarithm, and subtract that logarithm
# from the log-densities to have those of the values themselves.
