"""Layers that see the batches of all processes as one, so that several processes compute what one does."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

import processes


class SamplingDropout(nn.Dropout):
    """Dropout in training and in evaluation: it is where the generator's noise comes from.

    In training every process draws the noise of the whole batch, with one seed, and takes its own part.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return F.dropout(input, self.p, training=True)
        batch, start = len(input), processes.rank() * len(input)
        noise = F.dropout(torch.ones(processes.world() * batch, *input.shape[1:], device=input.device), self.p)
        return input * noise[start:start + batch]


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization, in training over the batch of all processes; torch's own is for GPUs alone."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or processes.world() == 1:
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
