"""pix2pix (arXiv 1611.07004): a generator and a discriminator that reads label map and photo; no likelihood.

    generator      U-Net with skips; its noise is dropout, in training and in sampling
    discriminator  PatchGAN: every output judges 70x70 pixels
    loss           binary cross-entropy, and 100 times the L1 distance to the photo for the generator
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pix2pix(channels: int = 3, depth: int = 8, width: int = 64, *, condition_channels: int | None = None) -> "Pix2Pix":
    """Build a generator of photos from label maps, at any resolution that ``2 ** depth`` divides, and a discriminator.

    Args:
        channels: channels of the photo.
        depth: number of times that the generator halves the label map, 8 for 256x256.
        width: channels of the first convolution of generator and discriminator.
        condition_channels: channels of the label map; those of the photo if None.
    """
    return Pix2Pix(channels, depth, width, condition_channels or channels)


class Pix2Pix(nn.Module):
    """Generator and discriminator, their losses, and samples; images are in [0, 1]."""

    l1_weight = 100.0  # of the L1 distance in the generator's loss

    def __init__(self, channels: int, depth: int, width: int, condition_channels: int):
        super().__init__()
        self.unit = 2**depth
        # From the inside out: 512, ..., 512, 256, 128, 64 channels for a depth of 8 and a width of 64.
        inner: Level | None = None
        for level in reversed(range(1, depth)):
            outer, own = (width * min(8, 2**i) for i in (level - 1, level))
            inner = Level(outer, own, inner, dropout=depth - 4 <= level < depth - 1)
        self.generator = Outermost(condition_channels, width, channels, inner)
        features = [condition_channels + channels, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Conv2d(features[i], features[i + 1], 4, 2, 1, bias=not i),
                       nn.BatchNorm2d(features[i + 1]) if i else nn.Identity(), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(4 * width, 8 * width, 4, 1, 1, bias=False), nn.BatchNorm2d(8 * width), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))
        self.apply(_initialize)

    def generate(self, x_a: Tensor) -> Tensor:
        """Turn label maps ``(B, condition_channels, H, W)`` into photos ``(B, channels, H, W)``."""
        if any(size % self.unit for size in x_a.shape[2:]):
            raise ValueError(f"pix2pix expects height and width that are multiples of {self.unit}, got "
                             f"{tuple(x_a.shape[2:])}; resize the label map, or train with another depth")
        return (self.generator(2 * x_a - 1) + 1) / 2

    def discriminate(self, x_a: Tensor, x_b: Tensor) -> Tensor:
        """Judge photos beside their label maps: a logit for each patch, positive for a real photo."""
        return self.discriminator(2 * torch.cat([x_a, x_b], dim=1) - 1)

    def generator_losses(self, x_a: Tensor, x_b: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the adversarial loss, and the L1 distance between images in the generator's range of -1 to 1."""
        judged = self.discriminate(x_a, fake)
        return F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged)), 2 * (fake - x_b).abs().mean()

    def discriminator_loss(self, x_a: Tensor, x_b: Tensor, fake: Tensor) -> Tensor:
        """Return the cross-entropy of telling real photos from generated ones."""
        real, fake = self.discriminate(x_a, x_b), self.discriminate(x_a, fake.detach())
        return 0.5 * (F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
                      + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)))

    def sample(self, num_samples: int, context: Tensor, temperature: float = 1.0,
               generator: torch.Generator | None = None) -> Tensor:
        """Draw photos ``(context_size, num_samples, channels, height, width)``, which differ by their dropout alone.

        In evaluation, batch normalization uses its running averages; the authors' script uses those of the test image.
        """
        if temperature != 1:
            raise ValueError(f"pix2pix has no temperature, got {temperature}; leave it at 1")
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else None))
        with torch.random.fork_rng([context.device] if context.is_cuda else []):
            torch.manual_seed(seed)
            return self.generate(context.repeat_interleave(num_samples, 0)).unflatten(0, (len(context), num_samples))


class SamplingDropout(nn.Dropout):
    """Dropout in training and in evaluation: it is the only noise of the generator."""

    def forward(self, input: Tensor) -> Tensor:
        ones = torch.ones(input.shape, device=input.device)
        return input * F.dropout(ones, self.p) if self.training else F.dropout(input, self.p)


class Level(nn.Module):
    """A level of the U-Net: it halves the size, applies the inner levels, doubles the size, appends its input."""

    def __init__(self, outer: int, own: int, inner: nn.Module | None, dropout: bool):
        super().__init__()
        self.down = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(outer, own, 4, 2, 1, bias=False),
                                  nn.BatchNorm2d(own) if inner else nn.Identity())
        self.inner = inner or nn.Identity()
        self.up = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * own if inner else own, outer, 4, 2, 1, bias=False),
                                nn.BatchNorm2d(outer), SamplingDropout(0.5) if dropout else nn.Identity())

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs, self.up(self.inner(self.down(inputs)))], dim=1)


class Outermost(nn.Sequential):
    """The whole U-Net: its first and its last convolution, with all levels between them."""

    def __init__(self, inputs: int, width: int, outputs: int, inner: nn.Module | None):
        super().__init__(nn.Conv2d(inputs, width, 4, 2, 1), inner or nn.Identity(), nn.ReLU(),
                         nn.ConvTranspose2d(2 * width if inner else width, outputs, 4, 2, 1), nn.Tanh())


def _initialize(module: nn.Module) -> None:
    """Draw the initial weights of a layer from the authors' distributions."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
