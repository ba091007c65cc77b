"""Conditional bits per dimension of a split (section 5.1 of the Full-Glow paper)."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from condflows import bits_per_dim
from streets.data.pairs import Pairs
from streets.runs.building import with_learned_noise
from streets.runs.run import Run


@torch.no_grad()
def bits_of_each(model: Any, pairs: Pairs, dataset: Dataset, draws: int, batch_size: int) -> Tensor:
    """Return bounds of the bits of each pair of a split ``(2, pairs)``: of one draw of the noise, and of all draws.

    One draw of the dequantization noise gives an upper bound on the bits of the images, here a mean over the draws; the
    mean of the densities of several draws gives the importance-weighted bound, which is tighter.
    """
    values = []
    for batch in DataLoader(dataset, batch_size):
        context = pairs.context(batch)
        drawn = (with_learned_noise(model, pairs.modelled(batch, i)) for i in range(draws))
        bounds = torch.stack([model.log_prob(x_b, context) - log_q for x_b, log_q in drawn])
        both = torch.stack([bounds.mean(0), bounds.logsumexp(0) - math.log(draws)])
        values.append(bits_per_dim(both, batch[pairs.target].shape[1:], pairs.wanted.bits).cpu())
    return torch.cat(values, dim=1).double()


@torch.no_grad()
def bits(run: Run, dataset: Dataset, draws: int, batch_size: int, seed: int) -> dict[str, Any]:
    """Measure the conditional bits per dimension of a split: the mean over the pairs and its standard error.

    The mean is that of the bound of all draws, and ``mean_of_one_draw`` that of one, see :func:`bits_of_each`.
    """
    of_one, each = bits_of_each(run.model, run.pairs(seed), dataset, draws, batch_size)
    if not torch.isfinite(each).all():
        bad = int((~torch.isfinite(each)).sum())
        raise ValueError(f"{run.path} gives {bad} of {len(each)} pairs a likelihood that is not finite: try other "
                         "--weights, or train longer")
    error = float(each.std() / math.sqrt(len(each))) if len(each) > 1 else None
    return {"mean": float(each.mean()), "standard_error": error, "draws": draws, "pairs": len(each),
            "mean_of_one_draw": float(of_one.mean())}
