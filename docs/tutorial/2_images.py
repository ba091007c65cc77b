"""
Images and levels
=================

The density of the last page was in two dimensions; that of a colour image of 16x16 is in 768. Two more operations make
the same steps work there: a squeeze, which turns space into channels, and a split, which finishes half of the channels
early. This page looks at both, and trains a multiscale flow of photos given a label map.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import ConvConditioner, CouplingConditioner

torch.manual_seed(0)

# %%
# Label maps and photos
# ---------------------
#
# A scene has sky, ground and a ball. Its label map says where each of them is, painted blue, green and red. The photo
# has a colour for each of them and a light for all, drawn at random, and a little noise on every pixel.

y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
# Mean colours of ball, ground and sky.
palette = torch.tensor([[0.75, 0.35, 0.25], [0.35, 0.5, 0.2], [0.45, 0.6, 0.8]])


def between(low, high, count):
    return low + (high - low) * torch.rand(count, 1, 1)


def draw(count):
    """Draw label maps and photos, uint8 (count, 3, 16, 16)."""
    distance = torch.hypot(x - between(3, 12, count), y - between(3, 12, count))
    ball = distance < between(2.5, 4.5, count)
    ground = ~ball & (y > between(5, 11, count))
    masks = torch.stack([ball, ground, ~ball & ~ground], dim=1).float()
    colours = (palette + 0.12 * torch.randn(count, 3, 3)) * between(0.5, 1.2, count)
    photos = torch.einsum("nkyx,nkc->ncyx", masks, colours)
    photos = photos + 0.02 * torch.randn(count, 3, 16, 16)
    return (255 * masks).byte(), (255 * photos.clamp(0, 1)).byte()


labels, photos = draw(8)
figure = plots.images({"label map": labels, "photo": photos})
figure.suptitle("Eight label maps and their photos")
plt.show()

# %%
# Squeeze and split
# -----------------
#
# :class:`condflows.Squeeze` folds each block of 2x2 positions into channels. Steps as on the last page, with
# convolutions in their couplings, then work on 12 channels. After them, a :class:`condflows.Split` leaves 6 of the 12
# as finished noise and hands the others to an inner bijector, here a squeeze and a step of the next level. Each level
# undoes its squeeze at its end, so noise has the shape of the data:


def step(c):
    return cf.glow_step(c, CouplingConditioner(c, width=32))


level_2 = cf.Chain([cf.Squeeze(), step(24), cf.Inverse(cf.Squeeze())])
level_1 = cf.Chain([cf.Squeeze(), step(12), cf.Split(level_2), cf.Inverse(cf.Squeeze())])

images = cf.dequantize(photos)
_, _, trace = level_1.forward_with_trace(images)
squeezed, _, (before_split, inner), noise = trace
print("squeezed", *squeezed.shape, "| before the split", *before_split.shape)
print("squeezed again", *inner[0].shape, "| level 2 returns", *inner[2].shape)
print("noise", *noise.shape)
assert noise.shape == images.shape

# %%
# ``forward_with_trace`` records the output of every operation, nested like the bijector; the next page conditions
# one flow on the trace of another. :func:`condflows.multiscale` builds this nesting for any number of levels, finest
# first, from a function that builds a step for a number of channels. The priors are Glow's: at a split, a coupling
# that predicts mean and scale of the half that is finished from the half that goes on; at the end, an actnorm.


def prior(c):
    return cf.AffineCoupling(c, ConvConditioner(c))


glow = cf.multiscale(3, (3, 2, 1, 1), step, prior, top=cf.ActNorm)
noise, logabsdet = glow(images)
restored, _ = glow.inverse(noise)
assert noise.shape == images.shape
assert torch.allclose(restored, images, atol=1e-4)
assert glow(torch.rand(1, 3, 32, 48))[0].shape == (1, 3, 32, 48)  # any size that 16 divides

# %%
# Bits per dimension
# ------------------
#
# The values of a photo are integers, on which a density could grow without limit. :func:`condflows.dequantize` spreads
# each value evenly over its bin of width 1/256. The likelihood of the result bounds that of the integers, and
# :func:`condflows.bits_per_dim` states it in the usual unit: how many bits a value of the image takes. A uniform
# density takes 8.
#
# The flow above is an unconditional Glow. To condition it on the label map, its couplings get 3 context channels, and
# ``log_prob`` gets a context. Each coupling resizes the map to its own level.


def conditional_step(c):
    net = CouplingConditioner(c, width=32, context_channels=3, context_width=32)
    return cf.glow_step(c, net)


glow = cf.multiscale(3, (3, 2, 1, 1), conditional_step, prior, top=cf.ActNorm)
flow = cf.Flow(glow, shape=(3, 16, 16))


def pairs(count):
    return [cf.dequantize(images) for images in draw(count)]


labels, photos = draw(10_000)
history = cf.fit(flow, photos, labels, prepare=lambda *images: [*map(cf.dequantize, images)], epochs=1, batch_size=32,
                 learning_rate=1e-2, progress=False)
bits = cf.bits_per_dim(-torch.tensor(history.held_out), (3, 16, 16))
print(f"held out: {bits.item():.2f} bits per dimension")

labels, photos = pairs(500)
with torch.no_grad():
    own, other = (
        cf.bits_per_dim(flow.log_prob(photos, maps), photos.shape[1:]).mean()
        for maps in (labels, labels.roll(1, 0))
    )
print(f"new scenes: {own:.2f} bits per dimension; with the map of another {other:.2f}")
assert own < min(5.4, other - 0.3)

# %%
# Every scene was seen once, so the flow could learn none by heart. ``prepare`` dequantizes each batch when its turn
# comes. A photo is less likely given the map of another scene, as it should be.
#
# Samples
# -------
#
# Ten label maps, three samples for each of them at temperature 0.7, and the photos that go with the maps.

labels, photos = pairs(10)
with torch.no_grad():
    samples = flow.sample(3, context=labels, temperature=0.7)
figure = plots.images({"label map": labels, "sample": samples, "photo": photos})
figure.suptitle("Three samples between each label map and its photo")
plt.show()

# %%
# The horizon and the ball are where the map has them, and the samples of one map differ in light and colours, as photos
# do. They are not photos yet: edges of balls are soft and colours uneven after so short a training.
#
# To put a number on how closely the samples follow their maps: of the variance inside a picture, what share do the
# regions of the map explain?


def explained(images, masks):
    masks = masks.round()[:, None]
    sums, sizes = (t.sum((3, 4), keepdim=True) for t in (images[:, :, None] * masks, masks))
    within = images - (masks * sums / sizes.clamp(min=1)).sum(2)
    total = images - images.mean((2, 3), keepdim=True)
    return 1 - within.square().sum() / total.square().sum()


labels, photos = pairs(200)
with torch.no_grad():
    samples = flow.sample(1, context=labels, temperature=0.7)[:, 0]
own, other = explained(samples, labels), explained(samples, labels.roll(1, 0))
print(f"photos {explained(photos, labels):.0%}")
print(f"samples {own:.0%}, with the maps of others {other:.0%}")
assert own > other + 0.2

# %%
# What a level holds
# ------------------
#
# Noise has the shape of the image, and each level has its part of it. After a squeeze, the second half of the channels
# is what the finest level finished, and the first half, squeezed again, holds the coarser levels. Here the noise of ten
# photos is decoded with some of these parts set to 0.

squeeze = cf.Squeeze()


def without_finest(noise, levels):
    """Return the noise with its finest levels set to 0."""
    if levels == 0:
        return noise
    goes_on, finished = squeeze(noise)[0].chunk(2, dim=1)
    goes_on = without_finest(goes_on, levels - 1)
    return squeeze.inverse(torch.cat([goes_on, 0 * finished], dim=1))[0]


labels, photos = pairs(10)
with torch.no_grad():
    noise = flow.transform_to_noise(photos, labels)
    parts = [0 * noise, *(without_finest(noise, levels) for levels in (3, 2, 1, 0))]
    rows = [flow.transform_from_noise(part, labels) for part in parts]
assert torch.allclose(rows[-1], photos, atol=1e-3)
names = ["no noise", "level 4", "levels 4, 3", "levels 4, 3, 2", "all levels"]
figure = plots.images(dict(zip(names, rows, strict=True)))
figure.suptitle("Photos rebuilt from the noise of more and more levels")
plt.show()

# %%
# The map alone gives an average scene. The coarsest level, one position with all of its channels, has nearly all of the
# colours and the light. The others correct the ball's colour and sharpen its edge, and the finest adds the rest of the
# grain. The last row is the photos themselves, as nothing is lost.
