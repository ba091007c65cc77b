"""Base distributions of flows: the standard normal, those of nflows and those of torch.distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from nflows.distributions.base import Distribution
from nflows.distributions.normal import ConditionalDiagonalNormal, DiagonalNormal
from nflows.distributions.normal import StandardNormal as NflowsStandardNormal
from torch import Tensor
from torch import distributions as td

from condflows.bijector import at_least_float32
from condflows.rows import repeat_rows
from condflows.torch_base import TorchBase
from condflows.trace import Context, context_tensors, map_context

__all__ = ["StandardNormal", "as_base", "base_shape", "draw", "has_rsample", "log_density", "reads_context", "seeded"]


class StandardNormal(Distribution):
    """The standard normal distribution in any shape; log-densities are summed in at least float32."""

    def log_prob(self, inputs: Tensor, context: Context = None) -> Tensor:
        squares = inputs.to(at_least_float32(inputs.dtype)).square().flatten(1).sum(1)
        return -0.5 * (squares + math.log(2 * math.pi) * math.prod(inputs.shape[1:]))


def as_base(base: Any) -> Distribution:
    """Return a base distribution as nflows' flows hold it: an nflows ``Distribution``."""
    if base is None:
        return StandardNormal()
    if isinstance(base, Distribution):
        return base
    if isinstance(base, td.Distribution) or callable(base):
        return TorchBase(base)  # type: ignore[arg-type]
    raise TypeError(f"Flow expects as base a distribution of nflows or torch.distributions, or a callable that returns "
                    f"one for a context, got {type(base).__name__}; leave it out for a standard normal")


def base_shape(base: Any) -> tuple[int, ...] | None:
    """Return the shape of one input of a base distribution; None where it is not known."""
    if isinstance(base, td.Distribution):
        return tuple(base.event_shape) if base.event_shape and not base.batch_shape else None
    shape = getattr(base, "_shape", None)  # of those of nflows
    return tuple(shape) if isinstance(base, Distribution) and shape is not None else None


def reads_context(base: Distribution) -> bool:
    """Tell whether a base distribution can read a context; those of nflows with parameters to fit are taken to."""
    if isinstance(base, TorchBase):
        return not isinstance(base.given, td.Distribution)
    return not isinstance(base, (StandardNormal, NflowsStandardNormal, DiagonalNormal))


def has_rsample(base: Distribution, context: Context, shape: Sequence[int]) -> bool:
    """Tell whether gradients pass through samples of a base distribution; those of nflows are taken to let them."""
    return base.at(context, shape).has_rsample if isinstance(base, TorchBase) else True


def log_density(base: Distribution, noise: Tensor, context: Context) -> Tensor:
    """Return the log-density of each row of noise, in nats, given a context of as many rows or a divisor of them."""
    if isinstance(base, (StandardNormal, TorchBase)):
        return base.log_prob(noise, context)
    context = map_context(lambda tensor: repeat_rows(tensor, noise.shape[0]), context)
    # nflows' log_prob makes a tensor of its context, which is not possible for several, and calls this.
    run = base.log_prob if context is None or isinstance(context, Tensor) else base._log_prob
    return run(noise.to(at_least_float32(noise.dtype)), context)


def draw(base: Distribution, batch: tuple[int, int], shape: Sequence[int], context: Context,
         temperature: float | Tensor, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw noise ``(conditions, samples, *shape)``, with the deviation from its mean scaled by the temperature.

    Args:
        base: the distribution.
        batch: the numbers of conditions, 1 without a context, and of samples for each.
        shape: the shape of one sample.
        context: a context of one row for each condition.
        temperature: the factor, or a tensor of factors that broadcasts to a sample.
        generator: the source of randomness, or None for torch's global one.
        like: a tensor whose dtype and device the noise gets.
    """
    if isinstance(temperature, Tensor):
        temperature = temperature.to(like)
    if isinstance(base, StandardNormal):
        device = like.device if generator is None else generator.device
        given: Any = {} if generator is None else {"generator": generator}  # compiled for open sizes, None is an error
        noise = torch.randn(math.prod(batch), *shape, **given, device=device, dtype=like.dtype)
        return (temperature * noise.to(like.device)).unflatten(0, batch)
    with seeded(generator, like.device):
        draw_own = base.draw if isinstance(base, TorchBase) else partial(_draw_nflows, base)
        noise = draw_own(batch, shape, context).to(like)
    if noise.shape[2:] != tuple(shape):
        raise ValueError(f"Flow expects of its base {type(base).__name__} samples of shape {tuple(shape)}, got "
                         f"{tuple(noise.shape[2:])}; build both with one shape")
    if not isinstance(temperature, Tensor) and temperature == 1:
        return noise
    location = base.location(context, shape) if isinstance(base, TorchBase) else _location_of_nflows(base, context)
    if location is None:
        made = base.given if isinstance(base, TorchBase) else base
        came = "a tensor" if isinstance(temperature, Tensor) else repr(temperature)
        raise ValueError(f"Flow expects temperature=1, got {came}: its base {type(made).__name__} has no standard "
                         "deviation to scale; leave the temperature out, or choose a normal base")
    return location + temperature * (noise - location)


def _draw_nflows(base: Any, batch: tuple[int, int], shape: Sequence[int], context: Context) -> Tensor:
    """Draw noise ``(*batch, *shape)`` from a distribution of nflows."""
    try:  # as in log_density
        noise = (base.sample if context is None or isinstance(context, Tensor) else base._sample)(batch[1], context)
    except NotImplementedError as error:
        raise NotImplementedError(f"{type(base).__name__} of nflows cannot be sampled; for a normal base with a "
                                  "learned mean and deviation, end the transform with a condflows.ActNorm "
                                  "instead") from error
    return noise if context_tensors(context) else noise.unsqueeze(0)


def _location_of_nflows(base: Any, context: Context) -> Tensor | float | None:
    """Return what the temperature scales around, broadcasting to the noise; None where nflows does not say it."""
    if isinstance(base, ConditionalDiagonalNormal):
        return base.mean(context).unsqueeze(1)
    return 0.0 if isinstance(base, NflowsStandardNormal) else None


@contextmanager
def seeded(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators from another generator, and restore them at the end."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
