"""
Forecasts of a time series
==========================

A forecast is a distribution of futures given the past. Where the series may go one way or another, a normal
distribution around a mean does not say so; a flow does.
"""

import matplotlib.pyplot as plt
import torch
from torch.distributions import MultivariateNormal

import condflows as cf
from condflows.conditioners import MLPConditioner

torch.manual_seed(0)
PAST, FUTURE = 8, 24

# %%
# A series with two states, near 1 and near -1, which noise makes it leave from time to time. The last 8 values are
# the condition, the next 24 the data:


def draw(count):
    """Draw pasts (count, 8) and futures (count, 24) of a particle in a double well."""
    x = torch.randn(count).sign()
    series = []
    for _ in range(20 + PAST + FUTURE):
        x = x + 0.25 * (x - x**3) + 0.25 * torch.randn(count)
        series.append(x)
    values = torch.stack(series[20:], dim=1)
    return values[:, PAST:], values[:, :PAST]


# %%
# Values of a window are ordinary vectors. A linear map and a coupling in each step read the past:


def step():
    return cf.glow_step(FUTURE, MLPConditioner(FUTURE // 2, FUTURE, PAST), MLPConditioner(PAST, 2 * FUTURE))


flow = cf.Flow(cf.Chain([cf.Standardize(FUTURE), *(step() for _ in range(6))]), shape=(FUTURE,))
history = cf.fit(flow, *draw(40_000), epochs=4, learning_rate=3e-3, progress=False)
print(history)

# %%
# Futures of two pasts, one that is settled and one that is between the states:

_, pasts = draw(2000)
chosen = torch.stack([pasts[pasts[:, -3:].sub(1).square().sum(1).argmin()], pasts[pasts[:, -1].abs().argmin()]])
with torch.no_grad():
    futures = flow.sample(200, chosen)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
for ax, past, future in zip(axes, chosen, futures, strict=True):
    ax.plot(range(PAST, PAST + FUTURE), future[:40].T, color="C0", alpha=0.25)
    ax.plot(range(PAST), past, "k.-")
    ax.set_xlabel("time")
axes[0].set_title("settled in one state")
axes[1].set_title("between the states")
figure.suptitle("The past, black, and 40 futures that the flow draws for each")
plt.show()

# %%
# The usual forecast to compare with is a linear regression with normal errors. On new data the flow's log-density is
# higher, and its bands of 90% hold the truth nearly as often as they should:

futures, pasts = draw(20_000)
design = torch.cat([pasts, torch.ones(len(pasts), 1)], dim=1)
weights = torch.linalg.lstsq(design, futures).solution
errors = MultivariateNormal(torch.zeros(FUTURE), (futures - design @ weights).T.cov())

futures, pasts = draw(1000)
linear = errors.log_prob(futures - torch.cat([pasts, torch.ones(len(pasts), 1)], dim=1) @ weights).mean()
with torch.no_grad():
    learned = flow.log_prob(futures, pasts).mean()
    low, high = flow.sample(200, pasts).quantile(torch.tensor([0.05, 0.95]), dim=1)
inside = ((low < futures) & (futures < high)).float().mean()
print(f"log-density in nats: flow {learned:.2f}, regression {linear:.2f}; {inside:.1%} inside of bands of 90%")
assert learned > linear + 0.5
assert 0.86 < inside < 0.94

# %%
# Long windows and several series at once are signals ``(batch, channels, length)``, for which ``multiscale`` and the
# nets for images take ``spatial_dims=1``: ``examples/signals.py`` shows them.
