"""Parts of the library's tests that several files use."""

import torch
from torch import nn

from condflows.trace import map_context


class Constant(nn.Module):
    """A conditioner or coupling net that returns what it was given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, *inputs):
        return self.value


def make_context(entry, inputs, seed, dtype=torch.float64):
    """Make a random context of an entry of the registry, or None where it takes none."""
    if entry.context is None:
        return None
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    context = entry.context(len(inputs), inputs.shape[2:], random)
    return map_context(lambda tensor: tensor.to(dtype), context)
