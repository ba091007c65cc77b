"""
An image given an image and a vector
====================================

A scene's shape is an image, the direction of its light a vector. A context may be a dictionary of both;
:class:`condflows.conditioners.Select` tells each net which parts it reads.
"""

import matplotlib.pyplot as plt
import torch

import condflows as cf
from condflows import plots
from condflows.conditioners import CouplingConditioner, MLPConditioner, Select

torch.manual_seed(0)
y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")

# %%
# A ball of random size and place is lit from a random side. How bright it is, is left open, and so is the grain of
# the photo:


def between(low, high, count):
    return low + (high - low) * torch.rand(count, 1, 1)


def photos_of(right, down, radius, light):
    """Draw photos (count, 1, 16, 16) of balls with these centres, radii and lights (count, 2)."""
    across, along = (x - right) / radius, (y - down) / radius
    height = (1 - across**2 - along**2).clamp(min=0).sqrt()
    shade = (across * light[:, :1, None] + along * light[:, 1:, None] + 0.8 * height).clamp(min=0) / 1.3
    brightness = between(0.7, 1.0, len(light))
    photo = 0.1 + 0.8 * brightness * shade * (height > 0) + 0.02 * torch.randn(len(light), 16, 16)
    return (height > 0).float()[:, None], photo[:, None]


def draw(count):
    """Draw photos and their contexts: masks (count, 1, 16, 16) and lights (count, 2)."""
    angle = 2 * torch.pi * torch.rand(count, 1)
    light = torch.cat([angle.cos(), angle.sin()], dim=1)
    mask, photo = photos_of(between(-0.3, 0.3, count), between(-0.3, 0.3, count), between(0.4, 0.65, count), light)
    return photo, {"mask": mask, "light": light}


# %%
# The couplings read both. The vector is repeated at every position, as more channels of the image:


def step(c):
    both = CouplingConditioner(c, width=32, context_channels=1 + 2, context_width=16)
    return cf.glow_step(c, Select(["mask", "light"], both), actnorm=Select("light", MLPConditioner(2, 2 * c)))


flow = cf.Flow(cf.multiscale(1, (4, 4), step), shape=(1, 16, 16))
history = cf.fit(flow, *draw(4000), epochs=5, batch_size=40, learning_rate=3e-3, progress=False)
print(history)

# %%
# One mask, and light from eight sides:

_, context = draw(1)
angle = torch.arange(8) * torch.pi / 4
lights = torch.stack([angle.cos(), angle.sin()], dim=1)
with torch.no_grad():
    samples = flow.sample(3, {"mask": context["mask"].expand(8, -1, -1, -1), "light": lights})
figure = plots.images({"mask": context["mask"].expand(8, -1, -1, -1), "sample": samples}, limits=(0, 1))
figure.suptitle("A mask, and three samples with light from each of eight sides")
plt.show()

# %%
# How much does the flow read from each part? As much as its log-density of new photos falls with the masks or the
# lights of others:

photo, context = draw(1000)
with torch.no_grad():
    right = flow.log_prob(photo, context).mean()
    for part in context:
        wrong = flow.log_prob(photo, {**context, part: context[part].roll(1, 0)}).mean()
        print(f"{part}: {(right - wrong) / photo[0].numel():.2f} nats for each pixel")
        assert right - wrong > 50

# %%
# Where the mask has another size than the photo, nets average it down or repeat it up. Samples have the size that the
# flow's ``shape`` says, ``(1, 16, 16)`` here; if that is left open, as in ``(1, None, None)``, they have the size of
# the context's image, and ``sample(3, context, size=(32, 32))`` asks for another.
