"""
Super-resolution
================

Interpolation already gives most of a larger image. So let the flow model what that lacks: the difference between the
real image and the one that was enlarged, given the latter.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images

import condflows as cf
from condflows import plots
from condflows.conditioners import CouplingConditioner, MapConditioner, PyramidEncoder

torch.manual_seed(0)

# %%
# scikit-learn has two photos. Pieces of 16x16 pixels from the left of both are for training, those from the right for
# testing:


def pieces(photos, stride):
    """Cut photos (count, 3, height, width) into pieces (count, 3, 16, 16)."""
    cut = photos.unfold(2, 16, stride).unfold(3, 16, stride)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


photos = torch.stack([torch.tensor(photo) for photo in load_sample_images().images]).permute(0, 3, 1, 2)
photos = F.avg_pool2d(photos / 256, 2)
width = photos.shape[3]
train = pieces(photos[..., : 3 * width // 5], stride=4)
test = pieces(photos[..., 4 * width // 5 :], stride=16)


def enlarge(images):
    """Halve images and enlarge them again by interpolation: all that is known of the real ones."""
    return F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")


# %%
# Differences are small, so both they and the details that the nets read are scaled to the order of 1:

SCALE = 10


def read(images):
    """Return the context: an enlarged image, and how it differs from a blurred one."""
    blurred = F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    return torch.cat([images, SCALE * (images - blurred)], dim=1)


# %%
# An encoder makes features of the context, which all steps share. The actnorms read them too, pixel by pixel:

encoder = PyramidEncoder(6, features=(32,))


def step(c):
    coupling = CouplingConditioner(c, width=48, context_channels=32, context_width=0)
    return cf.glow_step(c, coupling, actnorm=MapConditioner(32, 2 * c, width=32))


flow = cf.Flow(cf.multiscale(3, (4,), step), shape=(3, 16, 16), embedding_net=encoder)


def prepare(differences, context):
    """Mirror half of the batches, and add the noise of one grey level that integers need."""
    if torch.rand(()) < 0.5:
        differences, context = differences.flip(3), context.flip(3)
    return differences + SCALE / 256 * (torch.rand_like(differences) - 0.5), context


history = cf.fit(flow, SCALE * (train - enlarge(train)), read(enlarge(train)), prepare=prepare, epochs=4,
                 batch_size=64, learning_rate=3e-3, progress=False)
print(history)

# %%
# Eight pieces with much detail. Samples have the grain of real photos; their mean is the best guess of each pixel:

known = enlarge(test)
with torch.no_grad():
    samples = known[:, None] + flow.sample(32, read(known)) / SCALE
mean = samples.mean(1)
shown = test.flatten(1).std(1).topk(8).indices
rows = {"enlarged": known, "sample": samples[:, :2], "mean of 32": mean, "real": test}
figure = plots.images({name: images[shown] for name, images in rows.items()}, limits=(0, 1))
figure.suptitle("Enlarged pieces of photos, two samples and the mean of 32 samples, and the real pieces")
plt.show()

# %%
# The peak signal-to-noise ratio, in decibels, is higher for better guesses:


def psnr(images):
    return -10 * (images - test).square().mean().log10()


print(f"{psnr(mean):.1f} dB, interpolation alone {psnr(known):.1f} dB")
assert psnr(mean) > psnr(known) + 0.3
