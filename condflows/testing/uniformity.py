"""Tests of ranks against the discrete uniform distribution, and words for how they deviate from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["central_ranks", "chi_squared_tail", "hotelling_test", "polynomials", "smooth_test", "word"]

NOTICEABLE = 2.0
"""The number of standard deviations from which a component names a deviation that the test has found."""


def polynomials(num_samples: int, degree: int) -> Tensor:
    """Return the polynomials of degrees 1 to ``degree``, ``(num_samples + 1, degree)``, at the ranks 0 to num_samples.

    Of a uniform rank each has mean 0 and variance 1, and no two are correlated. All are positive at the highest rank.
    """
    ranks = torch.linspace(-1, 1, num_samples + 1, dtype=torch.float64)
    orthonormal = torch.linalg.qr(torch.stack([ranks**power for power in range(degree + 1)], dim=1)).Q
    return (orthonormal * orthonormal[-1].sign() * math.sqrt(num_samples + 1))[:, 1:]


def chi_squared_tail(values: Tensor, degrees: int) -> Tensor:
    """Return the probability that a chi-squared variable of an even number of degrees of freedom exceeds values."""
    half = values / 2
    return (-half).exp() * sum(half**j / math.factorial(j) for j in range(degrees // 2))


def smooth_test(ranks: Tensor, num_samples: int, degree: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Test each column of ranks ``(rows, K)`` against the uniform distribution by Neyman's smooth test.

    Returns p-values ``(K,)``; and of each polynomial the mean ``(K, degree)``, and that in standard deviations.
    """
    means = polynomials(num_samples, degree)[ranks].mean(0)
    scores = means * math.sqrt(ranks.shape[0])
    return chi_squared_tail(scores.square().sum(1), degree), means, scores


def hotelling_test(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Test whether two features have mean 0, given ``(rows, C, 2)`` with independent rows, by Hotelling's test.

    Returns p-values ``(C,)``; and of each feature the mean ``(C, 2)``, and that in standard errors.
    """
    rows = features.shape[0]
    means = features.mean(0)
    centred = features - means
    # A millionth of a deviation, so that features that are the same in all rows have an inverse too.
    covariance = torch.einsum("rci,rcj->cij", centred, centred) / (rows - 1) + 1e-12 * torch.eye(2, dtype=means.dtype)
    squared = rows * (means * torch.linalg.solve(covariance, means)).sum(1)
    scores = means * (rows / covariance.diagonal(dim1=1, dim2=2)).sqrt()
    # The tail of the F distribution with 2 and rows - 2 degrees of freedom, which has this closed form.
    return (1 + squared / (rows - 1)) ** (1 - rows / 2), means, scores


def central_ranks(num_samples: int, level: float) -> tuple[int, float]:
    """Return how many ranks at each end lie outside of a central interval, and the exact probability of those inside.

    It is as close to the level as whole ranks allow.
    """
    outside = round((num_samples + 1) * (1 - level) / 2) if 0 < level < 1 else 0
    if outside == 0 or 2 * outside > num_samples:
        raise ValueError(f"expected a level of an interval that has some of the {num_samples + 1} ranks inside and "
                         f"some at both ends, got {level!r}; choose another level, or a larger num_samples")
    return outside, 1 - 2 * outside / (num_samples + 1)


def word(means: Tensor, scores: Tensor, of_density: bool) -> str:
    """Return the word for ranks that are not uniform, by the first two polynomials' means and standard scores.

    Args:
        means: the means of the first two polynomials, or of more.
        scores: the same in units of their standard deviations.
        of_density: the ranks are those of log-densities, where a low rank is a value far out in the tails.
    """
    shifts, spreads = (abs(float(score)) >= NOTICEABLE for score in scores[:2])
    # In units of their largest values: ranks at one end, all of them or some among uniform ones, raise both as much.
    shift, spread = float(means[0]) / math.sqrt(3), float(means[1]) / math.sqrt(5)
    if of_density and shifts:
        return "under-confident" if shift > 0 else "over-confident"
    if not of_density and shifts and abs(shift) >= 0.8 * abs(spread):
        return "biased low" if shift > 0 else "biased high"
    if not of_density and spreads:
        return "over-confident" if spread > 0 else "under-confident"
    return "wrong shape"
