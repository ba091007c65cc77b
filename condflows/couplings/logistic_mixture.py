"""Mixtures of logistic distributions (Flow++, arXiv 1902.00275), elementwise."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from condflows.bounds import soft_bound
from condflows.hooks import is_transformed

__all__ = ["Mixture"]

STANDARD = 0.1  # the weight of a standard component that is always there
MEAN = 5.0  # bounds the other components' means
LOG_SCALE = 3.0  # bounds the logarithms of their scales
FAR = 1e30  # values beyond count as this
LARGEST = 1e4  # of the raw weights, of which an infinite one would have no softmax
STEPS = {torch.float32: 30, torch.float64: 50}  # at most; compiled and exported programs take them all


class Mixture(NamedTuple):
    """Mixtures of logistic distributions, whose distribution functions are seen through a logit.

    ``log_weight``, ``mean`` and ``log_scale`` are ``(batch, components, ...)``.
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> Mixture:
        """Read raw weights, means and log-scales ``(batch, 3, K, ...)``, and add the standard component.

        Zeros are standard components alone. Means are multiplied by factors of both signs, as components that are equal
        and get equal gradients would stay equal.
        """
        count = raw.shape[2]
        factors = torch.linspace(-1.5, 1.5, count + count % 2, dtype=raw.dtype, device=raw.device)[:count]
        weights, means, log_scales = raw.unbind(1)
        zero = torch.zeros_like(weights[:, :1])
        weights = math.log(1 - STANDARD) + weights.clamp(-LARGEST, LARGEST).log_softmax(1)
        means = soft_bound(means * factors.view(-1, *[1] * (means.ndim - 2)), MEAN)
        log_scales = soft_bound(log_scales, LOG_SCALE)
        return cls(torch.cat([weights, zero + math.log(STANDARD)], 1), torch.cat([means, zero], 1),
                   torch.cat([log_scales, zero], 1))

    def logit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit of the distribution function at x, and the logarithm of its derivative.

        What lies below and above x are sums of positive terms, so none loses its digits where the other is near 1. The
        derivative is their product's, of which the smaller factor cancels against the components' shares in it.
        """
        z = (x.clamp(-FAR, FAR).unsqueeze(1) - self.mean) * (-self.log_scale).exp()
        below, above = self.log_weight + F.logsigmoid(z), self.log_weight + F.logsigmoid(-z)
        log_below, log_above = below.logsumexp(1), above.logsumexp(1)
        is_above_smaller = (log_above < log_below).unsqueeze(1)
        smaller, larger = torch.where(is_above_smaller, above, below), torch.where(is_above_smaller, below, above)
        rates = smaller.log_softmax(1) + larger - self.log_weight - self.log_scale
        return log_below - log_above, rates.logsumexp(1) - larger.logsumexp(1)

    def unlogit(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x whose logit is y, and the logarithm of the derivative of ``logit`` there.

        Two more steps of Newton's method, from what is rounding error by now and counts as 0, have the first and second
        derivatives of the implicit function.
        """
        y = y.clamp(-FAR, FAR)
        x = self._root(y)
        for _ in range(2 if torch.is_grad_enabled() or is_transformed() else 0):
            value, log_slope = self.logit(x)
            error = value - y
            x = x - (error - error.detach()) * (-log_slope).exp()
        return x, self.logit(x)[1]

    @torch.no_grad()
    def _root(self, y: Tensor) -> Tensor:
        """Find x whose logit is y, to the precision of the dtype, between the roots of the components.

        Steps of Newton's method are taken where they stay between the bounds and are at most half as long as the step
        before; elsewhere the bounds are halved. What a step would change by rounding alone waits for the last step.
        """
        roots = self.mean + self.log_scale.exp() * y.unsqueeze(1)
        low, high = roots.amin(1), roots.amax(1)
        x, last = low + 0.5 * (high - low), high - low
        has_values = (type(y) is Tensor and y.device.type != "meta" and not is_transformed()
                      and not (y.is_cuda and torch.cuda.is_current_stream_capturing()))
        for _ in range(STEPS[y.dtype]):
            value, log_slope = self.logit(x)
            per_unit = (-log_slope).exp()
            step = (y - value) * per_unit
            is_found = step.abs() <= 4 * torch.finfo(y.dtype).eps * (x.abs() + (1 + y.abs()) * per_unit)
            if has_values and bool((is_found | step.isnan()).all()):
                break
            low, high = torch.where(value < y, x, low), torch.where(value < y, high, x)
            newton, middle = x + step, low + 0.5 * (high - low)
            is_safe = (newton > low) & (newton < high) & (step.abs() <= 0.5 * last)
            moved = torch.where(is_found, x, torch.where(is_safe, newton, middle))
            x, last = moved, (moved - x).abs()
        value, log_slope = self.logit(x)
        return x + (y - value) * (-log_slope).exp()
