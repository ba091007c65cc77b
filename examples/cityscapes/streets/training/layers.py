"""Layers that see the batches of all processes as one, so that several processes compute what one does."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from models.pix2pix import SamplingDropout
from streets.system import processes


def over_all_processes(model: nn.Module) -> None:
    """Replace the layers of a model whose outputs depend on the whole batch, in place; weights and names stay."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is SamplingDropout:
                setattr(parent, name, SharedDropout(layer.p))
            elif type(layer) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm2d.of(layer))


class SharedDropout(SamplingDropout):
    """Dropout of which every process draws the noise of the whole batch, with one seed, and takes its own part."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        batch, start = len(input), processes.rank() * len(input)
        noise = F.dropout(torch.ones(processes.world() * batch, *input.shape[1:], device=input.device), self.p)
        return input * noise[start:start + batch]


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization, in training over the batch of all processes; torch's own is for GPUs alone."""

    @classmethod
    def of(cls, layer: Any) -> "SharedBatchNorm2d":
        """Make one with the parameters and averages of a layer."""
        shared = cls(layer.num_features, layer.eps, layer.momentum)
        shared.weight, shared.bias = layer.weight, layer.bias
        for name, average in layer.named_buffers():
            setattr(shared, name, average)
        return shared

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = processes.world() * input.numel() // input.shape[1]
        mean = all_reduce(input.sum((0, 2, 3))) / count
        centred = input - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]
