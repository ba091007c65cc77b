"""Reconstruction: how far images are from themselves after a way to noise and back."""

import math
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from streets.runs.run import Run


@torch.no_grad()
def reconstruction(run: Run, dataset: Dataset, batch_size: int, seed: int) -> dict[str, Any]:
    """Measure the largest and the mean difference between images, in 0 to 1, and what comes back from their noise.

    The measure is of the arithmetic, not of the training: an exact inverse gives 0. A difference that is not finite is
    None.
    """
    pairs, model, largest, total, count = run.pairs(seed), run.model, 0.0, 0.0, 0
    for batch in DataLoader(dataset, batch_size):
        context, x_b = pairs.context(batch), pairs.modelled(batch)
        difference = (model.transform_from_noise(model.transform_to_noise(x_b, context), context) - x_b).abs()
        largest = max(largest, float(difference.max()))
        total, count = total + float(difference.double().sum()), count + difference.numel()
    if not math.isfinite(total):
        return {"largest": None, "mean": None}
    return {"largest": largest, "mean": total / count}
