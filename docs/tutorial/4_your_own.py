r"""
A bijector of your own
======================

Whatever has a ``forward`` and an ``inverse`` can take part in all of the last pages. This page adds a bijector for
heavy tails, proves it, uses it, and asks a flow where it inverts badly.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import condflows as cf
from condflows import plots
from condflows.testing import check_bijector, invertibility_report

torch.manual_seed(0)

# %%
# Two methods
# -----------
#
# The map is :math:`y = \mathrm{asinh}(r x) / r` with one learned sharpness :math:`r > 0` for each channel: nearly the
# identity around 0, and logarithmic far out. Its inverse is :math:`x = \sinh(r y) / r`, and its derivative
# :math:`1 / \sqrt{1 + (r x)^2}`.


class Tails(cf.Bijector):
    def __init__(self, num_channels):
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.zeros(num_channels))

    def forward(self, inputs, context=None):
        sharpness = self._sharpness(inputs)
        return (sharpness * inputs).asinh() / sharpness, self._logabsdet(sharpness * inputs)

    def inverse(self, inputs, context=None):
        sharpness = self._sharpness(inputs)
        scaled = (sharpness * inputs).sinh()
        return scaled / sharpness, -self._logabsdet(scaled)

    def _sharpness(self, inputs):
        return self.log_sharpness.exp().view(1, -1, *(1 for _ in inputs.shape[2:]))

    def _logabsdet(self, scaled):
        return -0.5 * scaled.square().log1p().flatten(1).sum(1)


# %%
# The proof
# ---------
#
# One line checks every law on a float64 copy: shapes, round trips, the log-determinant against autograd's Jacobian,
# gradients of inputs and parameters in both directions, batches against single samples, no side effects.

check_bijector(Tails(3), torch.randn(2, 3, 2, 2))

# %%
# A mistake is named. Here the log-determinant forgets the square root:


class Forgetful(Tails):
    def _logabsdet(self, scaled):
        return -scaled.square().log1p().flatten(1).sum(1)


try:
    check_bijector(Forgetful(3), torch.randn(2, 3, 2, 2))
except AssertionError as error:
    print(error)
else:
    raise RuntimeError("the mistake was not found")

# %%
# In a flow
# ---------
#
# Student's t with two degrees of freedom has such tails. Two flows of it: of an actnorm alone, which is a normal
# distribution, and of two actnorms with the new bijector between.


def fit(bijector):
    flow = cf.Flow(bijector, shape=(1,))
    cf.fit(flow, student.sample((200_000, 1)), epochs=1, batch_size=512, learning_rate=2e-2, progress=False)
    return flow


student = torch.distributions.StudentT(2.0)
normal, tailed = fit(cf.ActNorm(1)), fit(cf.Chain([cf.ActNorm(1), Tails(1), cf.ActNorm(1)]))

points = student.sample((20_000, 1))
exact = student.log_prob(points).mean()
with torch.no_grad():
    means = [flow.log_prob(points).mean() for flow in (normal, tailed)]
print("actnorm alone {:.3f} nats, with Tails {:.3f}, exact {:.3f}".format(*means, exact))
assert exact - means[1] < 0.05 < exact - means[0]

# %%
# The densities, on a logarithmic axis:

axis = torch.linspace(-30, 30, 601)[:, None]
figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
ax.plot(axis, student.log_prob(axis).exp(), color="silver", linewidth=4, label="exact")
with torch.no_grad():
    ax.plot(axis, normal.log_prob(axis).exp(), label="actnorm alone")
    ax.plot(axis, tailed.log_prob(axis).exp(), label="with Tails")
ax.set(title="Density with and without heavy tails", yscale="log", ylim=(1e-6, 1), xlabel="x", ylabel="density")
ax.legend()
plt.show()

# %%
# A normal distribution is too wide in the middle, and has next to nothing in the tails. With the new bijector the
# middle agrees, and the tails are close; far out, where training saw few points, they are too thin.
#
# Where a flow inverts badly
# --------------------------
#
# A bijector can be correct and still lose digits in float32. :func:`~condflows.testing.invertibility_report` inverts
# every part of a flow on what reaches it, and prints the largest value that entered and the largest absolute error
# of the round trip. For actnorms, couplings and 1x1 convolutions it adds the scales. Here are points a hundred times as
# far out as those of training, as a table and as a picture:

report = invertibility_report(tailed, 100 * points)
print(report)
assert report[0].error < 1e-3 * report[0].largest
figure = plots.invertibility(report)
figure.suptitle("Errors of the round trip far out")
plt.show()

# %%
# The new bijector loses more than the actnorms around it, as its hyperbolic sine magnifies rounding errors. Relative to
# the values the error is still small.
#
# Where to go next
# ----------------
#
# - :doc:`/conditioning`: a context that is a vector, an image of another size, a class label, or several of them.
# - :doc:`/bijectors`: more on writing a bijector, with a context and as a composition.
# - :doc:`/models` and :doc:`/choosing`: the published models, and which of them at which size.
# - :doc:`/numerical_safety`: what bounds the inverse, and what to change where the report shows a large error.
# - :doc:`/memory`, :doc:`/performance` and :doc:`/scaling`: from these pages' minute on one core to real images.
# - :doc:`/reproducing`: the paper's experiments on street photos.
# - :doc:`/api`: every public name.
