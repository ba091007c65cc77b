"""Conditional bits per dimension of a split (section 5.1 of the Full-Glow paper)."""

import math
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from condflows import bits_per_dim
from streets.runs.run import Run


@torch.no_grad()
def bits(run: Run, dataset: Dataset, draws: int, batch_size: int, seed: int) -> dict[str, Any]:
    """Measure the conditional bits per dimension of a split: the mean over the pairs and its standard error.

    One draw of the dequantization noise gives an upper bound on the bits of the 8-bit images; the mean of the densities
    of several draws gives the importance-weighted bound, which is tighter.
    """
    pairs, values = run.pairs(seed), []
    for batch in DataLoader(dataset, batch_size):
        context = pairs.context(batch)
        log_probs = torch.stack([run.model.log_prob(pairs.modelled(batch, i), context) for i in range(draws)])
        log_prob = log_probs.logsumexp(0) - math.log(draws)
        values.append(bits_per_dim(log_prob, batch[pairs.target].shape[1:]).cpu())
    each = torch.cat(values).double()
    if not torch.isfinite(each).all():
        bad = int((~torch.isfinite(each)).sum())
        raise ValueError(f"{run.path} gives {bad} of {len(each)} pairs a likelihood that is not finite: try other "
                         "--weights, or train longer")
    error = float(each.std() / math.sqrt(len(each))) if len(each) > 1 else None
    return {"mean": float(each.mean()), "standard_error": error, "draws": draws, "pairs": len(each)}
