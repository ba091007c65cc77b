"""
A conditional density
=====================

A flow is an invertible map from data to noise. This page starts with one such map, chains a few of them, lets each
read a context, and trains the result on data whose density :math:`p(x | c)` is known exactly, so that the two can
be compared.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import torch
from torch import nn

import condflows as cf
from condflows import plots
from condflows.conditioners import MLPConditioner

torch.manual_seed(0)

# %%
# One bijector
# ------------
#
# An affine coupling leaves the first half of the channels as it is. A net of the first half scales
# and shifts the other: :math:`y_1 = x_1` and :math:`y_2 = s(x_1) \, x_2 + t(x_1)`. The net comes from outside and may
# be any module. It returns raw log-scales and raw shifts, both of which the coupling bounds softly.


class Bend(nn.Module):
    def forward(self, first, context=None):
        return torch.cat([first / 2, first**2], dim=1)


coupling = cf.AffineCoupling(2, Bend())

x = torch.randn(1000, 2)
y, logabsdet = coupling(x)
restored, inverse_logabsdet = coupling.inverse(y)
print(y.shape, logabsdet.shape, f"round trip to {(restored - x).abs().max():.0e}")
assert torch.allclose(restored, x, atol=1e-4)
assert torch.allclose(inverse_logabsdet, -logabsdet, atol=1e-4)

# %%
# Both directions return the log-determinant of their Jacobian, one value for each sample: the logarithm of the factor
# by which the map enlarges an area at that point. Autograd agrees:

jacobian = torch.func.jacrev(lambda point: coupling(point[None])[0][0])(x[0])
assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, logabsdet[0], atol=1e-5)
print(f"at ({x[0, 0]:.2f}, {x[0, 1]:.2f}) areas grow by {logabsdet[0].exp():.2f}")

# %%
# A grid of squares shows what the map does. On the right its cells are bent by the shift, and larger where the scale
# is: the area of each has grown by the factor above. No net could make this map lose its inverse, as the first
# coordinate passes unchanged and scale and shift can be computed from it again.

lines, fine = torch.linspace(-2, 2, 9), torch.linspace(-2, 2, 100)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
for value in lines:
    across, along = value.expand(100), fine
    for line in (torch.stack([across, along], 1), torch.stack([along, across], 1)):
        axes[0].plot(*line.T, color="tab:blue", linewidth=0.8)
        axes[1].plot(*coupling(line)[0].T, color="tab:blue", linewidth=0.8)
axes[0].set(title="x", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
axes[1].set(title="y = coupling(x)", xlabel="$y_1$", ylabel="$y_2$")
figure.suptitle("A grid before and after a coupling")
plt.show()

# %%
# A chain that reads a context
# ----------------------------
#
# A coupling never moves the first coordinate, so flows alternate couplings with maps that mix the channels.
# :func:`condflows.glow_step` is the usual triple: an actnorm (a scale and a shift for each channel), a 1x1 convolution
# (for vectors, a matrix) and a coupling. It is a :class:`condflows.Chain`, which is a bijector again, and so is a chain
# of chains. Log-determinants add up.
#
# The coupling's net is now an :class:`~condflows.conditioners.MLPConditioner` that reads a context beside the first
# half, here one number for each sample. That is all that makes an operation conditional; the class stays the same. The
# net bounds what it reads, so a context should be of order 1. :class:`condflows.Standardize` in front of it sees to
# that, whatever unit the number has; :func:`condflows.initialize` fits its mean and deviation.

standardize = cf.Standardize(1)


def step():
    net = MLPConditioner(1, 2, context_features=1, hidden=(128,))
    return cf.glow_step(2, coupling=standardize.before(net))


chain = cf.Chain([step() for _ in range(6)])
context = torch.zeros(1000, 1)
z, logabsdet = chain(x, context)
restored, _ = chain.inverse(z, context)
assert torch.allclose(restored, x, atol=1e-4)

# %%
# Data with a known answer
# ------------------------
#
# A robot is somewhere in the plane, with a normal prior, :math:`x \sim N(0, I)`. It measures its distance :math:`c` to
# a beacon, with a normal error of deviation 0.2. Where is it, given the distance? By Bayes' rule the density is
# proportional to prior times likelihood, and a sum over a grid gives the factor. The flow knows neither of them: it
# sees pairs of a position and a measured distance.

beacon, deviation = torch.tensor([-1.0, 0.0]), 0.2


def draw(count):
    positions = torch.randn(count, 2)
    distances = (positions - beacon).norm(dim=1, keepdim=True)
    return positions, distances + deviation * torch.randn(count, 1)


axis = torch.linspace(-3.5, 3.5, 141)
cell = (axis[1] - axis[0]) ** 2
grid = torch.cartesian_prod(axis, axis).flip(1)  # (x_1, x_2), row by row as in an image


def log_joint(points, distance):
    misfit = ((points - beacon).norm(dim=1) - distance) / deviation
    return -0.5 * misfit**2 - 0.5 * points.square().sum(1)


def exact_log_density(points, distances):
    """Return the log-density of points, for one distance that all rows of distances have."""
    distance = distances[0]
    return log_joint(points, distance) - log_joint(grid, distance).logsumexp(0) - cell.log()


def on_grid(log_density, distance):
    with torch.no_grad():
        return log_density(grid, torch.full((len(grid), 1), distance)).exp()


# %%
# Training
# --------
#
# A :class:`condflows.Flow` is the density of data that a bijector maps to standard normal noise. :func:`condflows.fit`
# trains it: the actnorms are set from data, as :func:`condflows.initialize` does, a tenth of the points is held out,
# and the negative log-likelihood, in nats, is minimized. A loop of your own would call ``flow.log_prob``;
# :doc:`/fitting` has more.

flow = cf.Flow(chain, shape=(2,))
history = cf.fit(flow, *draw(100_000), epochs=5, batch_size=512, learning_rate=1e-2, progress=False)
print(history)

# %%
# Learned beside exact
# --------------------
#
# :func:`condflows.plots.density` draws flows and functions alike. The white cross is the beacon. Above each pair stands
# the probability that the two densities share, 1 if they are equal.

shown = (0.5, 1.0, 2.0, 3.0)
titles = []
for distance in shown:
    exact, learned = on_grid(exact_log_density, distance), on_grid(flow.log_prob, distance)
    overlap = torch.minimum(exact, learned).sum() * cell
    assert overlap > 0.85
    titles.append(f"distance {distance}\n{overlap:.0%} shared")

distances = torch.tensor(shown)[:, None]
models = {"exact": exact_log_density, "learned": flow}
figure = plots.density(models, distances, limits=(-3.5, 3.5), titles=titles)
for ax in figure.axes[:8]:
    ax.plot(*beacon, "w+")
figure.suptitle("Exact and learned density for four distances")
plt.show()

# %%
# One flow has learned all of these, and any distance between. It also shows what a flow cannot do: noise has no hole,
# and a continuous invertible map does not make one. Where the exact density is a closed ring, the learned one is a
# ring that is cut open, where the density is low.
#
# Samples
# -------
#
# Samples are exact draws from the learned density: normal noise, through the inverse. ``sample(n, context)`` has one
# row for each context. A temperature below 1 narrows the noise; at 0 the result is a single point, that of noise 0.

with torch.no_grad():
    samples = flow.sample(5000, context=distances)
print(samples.shape)
for distance, some in zip(shown, samples, strict=True):
    mean = (on_grid(exact_log_density, distance)[:, None] * grid).sum(0) * cell
    print(f"distance {distance}: mean x_1 {some[:, 0].mean():.2f}, exact {mean[0]:.2f}")
    assert (some.mean(0) - mean).abs().max() < 0.15

# %%
# The means of the samples are those of the exact densities. Samples at four temperatures, all for distance 2 and of the
# same noise:

temperatures = (0, 0.4, 0.7, 1)
figure = plots.temperatures(flow, distances[2:3], temperatures, titles=["distance 2"], limits=(-3.5, 3.5))
for ax in figure.axes:
    ax.plot(*beacon, "k+")
figure.suptitle("Samples at four temperatures")
plt.show()

# %%
# Temperature 1 draws from the density that was learned, stray points inside the ring included. Lower temperatures leave
# out what the flow has put far from the centre of its noise: the strays, and then the two ends of the arc.
