"""
Pairs of flows and Full-Glow
============================

On the last page every coupling had the same context, the label map. In Full-Glow
(`arXiv 2012.05846 <https://arxiv.org/abs/2012.05846>`_) the label map has a flow of its own, the source. Every
operation of the photo's flow, the target, reads the output of the same operation of the source. This page shows how
these outputs get there, builds the model, and trains it for about a minute.
"""

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner

torch.manual_seed(0)

# %%
# A trace
# -------
#
# ``forward_with_trace`` returns, beside outputs and log-determinant, a :class:`condflows.Trace`: the output of every
# operation, nested like the composition.

source = cf.Chain([cf.ActNorm(3), cf.LUConv1x1(3)])
z, logabsdet, trace = source.forward_with_trace(torch.randn(5, 3, 16, 16))
print(trace, [tuple(entry.shape) for entry in trace])

# %%
# As the context of another composition, a tensor goes to every part. A trace is dealt out: the n-th part gets
# the n-th entry. To see it, let the parts of a target have conditioners that print what they get and change
# nothing.


class Report(torch.nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.num_outputs = num_outputs

    def forward(self, context):
        place = [entry is context for entry in trace].index(True)
        print("a conditioner reads entry", place)
        return torch.zeros(len(context), self.num_outputs)


target = cf.Chain([cf.ActNorm(3, Report(6)), cf.LUConv1x1(3, Report(21))])
outputs, logabsdet = target(torch.randn(5, 3, 16, 16), trace)

# %%
# So the two must have the same structure, and no index is written anywhere. Another structure is refused, with both of
# them in the message:

try:
    cf.Chain([target, cf.ActNorm(3)])(torch.randn(5, 3, 16, 16), trace)
except ValueError as error:
    print(error)

# %%
# Full-Glow
# ---------
#
# :func:`condflows.multiscale` builds both flows, which gives them the same structure. A step of the target has a
# conditioner in all three of its operations. Each is built for the channels of the source at its place, here
# as many as the target has, as map and photo have 3 channels each. A :class:`~condflows.conditioners.GlobalConditioner`
# pools what it reads to one vector for each sample: 2 values a channel for an actnorm, and for a 1x1 convolution
# the offsets of the factors of its matrix.

width, steps = 32, (3, 2, 1, 1)
small = {
    "conv_channels": (8,),
    "hidden": (32,),
    "grid": 2,
}  # the default is larger, as in the paper


def source_step(c):
    return cf.glow_step(c, CouplingConditioner(c, width))


def target_step(c):
    return cf.glow_step(
        c,
        coupling=CouplingConditioner(c, width, context_channels=c, context_width=width),
        actnorm=GlobalConditioner(c, 2 * c, **small),
        conv=GlobalConditioner(c, 2 * c * c + c, **small),
    )


def prior(c):
    return cf.AffineCoupling(c, ConvConditioner(c))


pair = cf.PairedFlow(
    cf.Flow(cf.multiscale(3, steps, source_step, prior, cf.ActNorm), shape=(3, 16, 16)),
    cf.Flow(cf.multiscale(3, steps, target_step, prior, cf.ActNorm), shape=(3, 16, 16)),
)

# %%
# Without ``actnorm=`` and ``conv=`` this is C-Flow. With all three reading the label map itself it is C-Glow, and with
# the priors alone reading the source it is Dual-Glow; :doc:`/models` has them all.
#
# Training
# --------
#
# The scenes are those of the last page. A :class:`condflows.PairedFlow` takes the label map as its context, passes it
# through the source and gives the trace to the target. The loss is the paper's: the negative log-likelihood of the
# photo given the map, and with a small weight that of the map.

y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
# Mean colours of ball, ground and sky.
palette = torch.tensor([[0.75, 0.35, 0.25], [0.35, 0.5, 0.2], [0.45, 0.6, 0.8]])


def between(low, high, count):
    return low + (high - low) * torch.rand(count, 1, 1)


def draw(count):
    """Draw label maps and photos, dequantized, (count, 3, 16, 16)."""
    distance = torch.hypot(x - between(3, 12, count), y - between(3, 12, count))
    ball = distance < between(2.5, 4.5, count)
    ground = ~ball & (y > between(5, 11, count))
    masks = torch.stack([ball, ground, ~ball & ~ground], dim=1).float()
    colours = (palette + 0.12 * torch.randn(count, 3, 3)) * between(0.5, 1.2, count)
    photos = torch.einsum("nkyx,nkc->ncyx", masks, colours)
    photos = photos + 0.02 * torch.randn(count, 3, 16, 16)
    return [cf.dequantize((255 * t).byte()) for t in (masks, photos.clamp(0, 1))]




def joint(pair, photos, labels):
    log_prob_labels, log_prob_photos = pair.log_probs(x_a=labels, x_b=photos)
    return -(log_prob_photos + 1e-4 * log_prob_labels)


labels, photos = draw(5000)
cf.fit(pair, photos, labels, loss=joint, epochs=1, batch_size=16, learning_rate=1e-2, progress=False)

labels, photos = draw(1000)
with torch.no_grad():
    own, other = (
        cf.bits_per_dim(pair.log_prob(photos, context=maps), (3, 16, 16)).mean()
        for maps in (labels, labels.roll(1, 0))
    )
print(f"new scenes: {own:.2f} bits per dimension; with the map of another {other:.2f}")
assert own < min(5.4, other - 0.5)

# %%
# Training never saw these scenes. A photo with a label map that is not its own is less likely, as it should be.
#
# Samples
# -------
#
# Six label maps, and samples at three temperatures.

labels, photos = draw(6)
columns = {"map": labels, "photo": photos}
with torch.no_grad():
    for count, temperature in ((1, 0), (3, 0.7), (3, 1)):
        samples = pair.sample(count, context=labels, temperature=temperature)
        assert samples.shape == (6, count, 3, 16, 16)
        columns[f"T = {temperature}"] = samples
figure = plots.images(columns, transposed=True)
figure.suptitle("Label map, photo, and samples at three temperatures")
plt.show()

# %%
# Sky, ground and ball are where the map has them. At temperature 0 every map gets average colours and no grain. At 0.7
# light and colours vary as they do in photos. At 1 a sample is a fair draw from what was learned, and shows what was
# not: edges of balls are soft, and a region's colour is not the same all over. A likelihood weighs such errors little
# against the grain of 768 values, and more training removes them slowly.
#
# Content transfer
# ----------------
#
# The noise of a photo holds all that its label map leaves open. Decoded on another map, light and colours of the photo
# come along (section 5.4 of the paper). On its own map the photo itself comes back. In this picture the top row has
# four new maps, and each other row a photo and its transfers.

labels, photos = draw(6)
new_labels, _ = draw(4)
with torch.no_grad():
    restored = pair.transfer(photos, labels, labels)
    moved = [pair.transfer(photos, labels, new.expand(6, -1, -1, -1)) for new in new_labels]
assert torch.allclose(restored, photos, atol=1e-3)

blank = torch.ones(1, 3, 16, 16)
columns = {"map": labels, "photo": photos, "own map": restored}
columns = {name: torch.cat([blank, images]) for name, images in columns.items()}
columns["new map"] = torch.cat([new_labels[None], torch.stack(moved, dim=1)])
figure = plots.images(columns, transposed=True)
for ax in figure.axes[:3]:
    ax.spines[:].set_visible(False)
figure.suptitle("Photos moved to the label maps of other scenes")
plt.show()

# %%
# Light and the colours of sky and ground go along; the ball is drawn where the new map has it, though not always in its
# colour, and where it was before it often leaves a stain: noise has places, and this flow has not learned to carry
# colour from one place to another. How much of the colours a transfer keeps can be measured, as the correlation of the
# mean colours of a photo and of its transfer to the map of another:

labels, photos = draw(300)
with torch.no_grad():
    moved = pair.transfer(photos, labels, labels.roll(1, 0))
means = torch.stack([photos.mean((2, 3)), moved.mean((2, 3))])
correlation = torch.corrcoef((means - means.mean(1, keepdim=True)).flatten(1))[0, 1]
print(f"correlation {correlation:.2f}")
assert correlation > 0.8
