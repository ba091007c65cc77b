"""Distributions: a flow on standard normal noise, and a pair of flows of which one conditions the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from numbers import Real
from typing import Any

import torch
from nflows.distributions.base import Distribution
from nflows.flows.base import Flow as NFlow
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.bijector import Bijector, apply, at_least_float32, check_batch, check_count, check_inputs, check_like
from condflows.chain import Chain, Inverse
from condflows.glow import Split, Squeeze
from condflows.trace import Condition, Context, Trace, context_tensors, kinds

__all__ = ["Flow", "PairedFlow"]


class StandardNormal(Distribution):
    """Independent standard normals in any shape, summed in at least float32."""

    def _log_prob(self, inputs: Tensor, context: Context) -> Tensor:
        energy = 0.5 * inputs.to(at_least_float32(inputs.dtype)).square().flatten(1).sum(1)
        return -energy - 0.5 * math.log(2 * math.pi) * inputs.shape[1:].numel()


class Flow(NFlow):
    """The density of data that a bijector maps to standard normal noise; an ``nflows.flows.Flow``.

    Args:
        transform: maps data to noise; a condflows bijector or an nflows transform.
        shape: of one input without the batch, None where a size is open: ``(3, 64, 64)``, ``(3, None, None)``.
            Sampling fills open sizes from an image context (a trace or the first tensor that is an image); left out
            altogether, the number of channels is read off the transform too. To sample, the transform must keep the
            shape, as those of :func:`condflows.multiscale` do.

    >>> from condflows import ActNorm
    >>> flow = Flow(ActNorm(2), shape=(2,))
    >>> samples = flow.sample(5)
    >>> samples.shape, flow.log_prob(samples).shape
    (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(self, transform: Transform, shape: Sequence[int | None] | None = None):
        super().__init__(transform, StandardNormal())
        self.shape = None if shape is None else tuple(shape)

    @property
    def transform(self) -> Bijector:
        """The map from data to noise; where it comes from nflows, with nflows' methods alone."""
        return self._transform  # type: ignore[return-value]

    def forward(self, inputs: Tensor, context: Context = None) -> Tensor:  # type: ignore[override]
        """``log_prob``, so that wrappers for distributed training and compilation see it."""
        return self.log_prob(inputs, context)

    def log_prob(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Log-density ``(batch,)`` of the inputs given their contexts, in nats."""
        self._check(inputs, context)
        noise, logabsdet, _ = apply(self.transform, inputs, context, inverse=False, record=False)
        return self._distribution.log_prob(noise) + logabsdet

    def sample(self, num_samples: int, context: Context = None, temperature: float = 1.0,  # type: ignore[override]
               generator: torch.Generator | None = None, batch_size: int | None = None) -> Tensor:
        """Samples ``(num_samples, *shape)``, or ``(context_size, num_samples, *shape)`` with a context.

        ``temperature`` multiplies the deviation of the noise; at 0 the result is deterministic. ``generator`` draws
        the noise, on its own device. Without gradients, what the library's operations make of a condition is made
        once for all of its samples; ``batch_size`` is how many of them are made at a time, all unless given.
        """
        return self.sample_and_log_prob(num_samples, context, temperature, generator, batch_size)[0]

    def sample_and_log_prob(  # type: ignore[override]
            self, num_samples: int, context: Context = None, temperature: float = 1.0,
            generator: torch.Generator | None = None, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """``sample``, and the log-densities of the samples under the flow (at temperature 1), in nats."""
        check_count(num_samples, 1, "expected a positive whole number of samples")
        batch_size = num_samples if batch_size is None else batch_size
        check_count(batch_size, 1, "expected a positive whole number of samples at a time as batch_size")
        if not (isinstance(temperature, Real) and math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"expected a finite temperature of at least 0, got {temperature!r}")
        tensors = context_tensors(context)
        batch = (len(tensors[0]) if tensors else 1, int(num_samples))
        like = next(self.parameters(), tensors[0] if tensors else torch.empty(()))
        device = generator.device if generator is not None else like.device
        noise = torch.randn(math.prod(batch), *self._noise_shape(context), generator=generator, device=device,
                            dtype=like.dtype)
        noise = (temperature * noise.to(like.device)).unflatten(0, batch)
        check_batch(context, noise, "Flow")
        parts, made = [], {}
        for part in noise.split(int(batch_size), dim=1):
            condition = Condition(context, part.shape[1], made)
            condition = condition.expand() if torch.is_grad_enabled() else condition  # checkpoints make all anew
            samples, logabsdet, _ = apply(self.transform, part.flatten(0, 1), condition, inverse=True, record=False)
            log_prob = self._distribution.log_prob(part.flatten(0, 1)) - logabsdet
            parts.append([result.unflatten(0, part.shape[:2]) for result in (samples, log_prob)])
        samples, log_prob = (torch.cat(results, 1) for results in zip(*parts, strict=True))
        return (samples, log_prob) if tensors else (samples[0], log_prob[0])

    def transform_to_noise(self, inputs: Tensor, context: Context = None) -> Tensor:
        """The noise of the inputs, of the same shape."""
        self._check(inputs, context)
        return self.transform(inputs, context)[0]

    def transform_from_noise(self, noise: Tensor, context: Context = None) -> Tensor:
        """The data of a noise, of the same shape."""
        self._check(noise, context)
        return self.transform.inverse(noise, context)[0]

    def _check(self, inputs: Tensor, context: Context) -> None:
        check_inputs(inputs, "Flow")
        check_like(inputs, self, "Flow")
        check_batch(context, inputs, "Flow")
        if self.shape is not None and (
            len(self.shape) != inputs.ndim - 1
            or any(size not in (None, got) for size, got in zip(self.shape, inputs.shape[1:], strict=True))
        ):
            raise ValueError(f"Flow expects inputs of shape (batch, {', '.join(map(str, self.shape))}), "
                             f"got {tuple(inputs.shape)}; resize them or build the flow with another shape")

    def _noise_shape(self, context: Context) -> tuple[int, ...]:
        shape = self.shape
        if shape is not None and None not in shape:
            return shape  # type: ignore[return-value]
        tensors = context_tensors(context)
        # The last output of a trace has the size of the data; of other contexts the first image counts.
        images = [tensor for tensor in (tensors[-1:] if isinstance(context, Trace) else tensors) if tensor.ndim > 2]
        if not images:
            raise ValueError(f"Flow has the open shape {shape} and expects an image context to take the size from; "
                             "build it with Flow(transform, shape=...)")
        size = images[0].shape[2:]
        if shape is None:
            return _num_channels(self.transform, len(size)), *size
        if len(shape) != 1 + len(size) or shape[0] is None:
            raise ValueError(f"Flow has shape {shape} and got an image context of shape {tuple(images[0].shape)}; "
                             "their spatial dimensions must agree, and the channels must be given")
        return tuple(want if want is not None else got for want, got in zip(shape, (0, *size), strict=True))


def _num_channels(transform: nn.Module, spatial_dims: int) -> int:
    """The channels of the data, from the first operation that has a fixed number."""
    squeezed = Fraction(1)
    for module in _in_order(transform):
        squeeze = module.bijector if isinstance(module, Inverse) else module
        if isinstance(squeeze, Squeeze):
            squeezed *= Fraction(squeeze.factor) ** (spatial_dims if squeeze is module else -spatial_dims)
        elif hasattr(module, "num_channels"):
            return int(module.num_channels / squeezed)  # type: ignore[operator]
        elif isinstance(module, (Split, Inverse)):
            break  # half of the channels, or another order
    raise ValueError("Flow cannot tell the number of channels from its transform; build it with shape=(C, None, None)")


def _in_order(transform: nn.Module) -> Iterator[nn.Module]:
    """The operations of a composition as data meets them."""
    if isinstance(transform, Chain):
        for part in transform.parts:
            yield from _in_order(part)
    elif isinstance(transform, Split) and transform.prior is not None:
        yield from _in_order(transform.prior)
    else:
        yield transform


class PairedFlow(nn.Module):
    r"""Two flows: p(x_a), and p(x_b given x_a), whose every operation may read the source's operation beside it.

    The source's trace is the context of the target, so both are compositions of the same structure. The context is
    the source image x_a, or ``(x_a, side)`` to append side information, for example a boundary map, to every entry
    of the trace. ``source`` and ``target`` are :class:`Flow` and stay usable alone.

    Args:
        source: the flow, or bijector, of x_a.
        target: the flow, or bijector, of x_b given the source's trace.

    Paper: Full-Glow (arXiv 2012.05846) section 4; C-Flow (arXiv 1912.07009).
    """

    def __init__(self, source: Flow | Bijector, target: Flow | Bijector):
        super().__init__()
        self.source = source if isinstance(source, Flow) else Flow(source)
        self.target = target if isinstance(target, Flow) else Flow(target)
        if not isinstance(self.source.transform, Bijector):
            raise TypeError(f"PairedFlow expects a condflows bijector as its source, got "
                            f"{type(self.source.transform).__name__}; put it into a condflows.Chain")

    def forward(self, x_a: Tensor, x_b: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``log_probs``, so that wrappers for distributed training and compilation see it."""
        return self.log_probs(x_a, x_b, side)

    def log_probs(self, x_a: Tensor, x_b: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(log p(x_a), log p(x_b given x_a))``, each ``(batch,)`` in nats; checkpoints of both keep no trace."""
        self.source._check(x_a, side)
        self.target._check(x_b, x_a)
        z_a, logabsdet_a, z_b, logabsdet_b = _together(self.source.transform, self.target.transform, x_a, x_b, side)
        return (self.source._distribution.log_prob(z_a) + logabsdet_a,
                self.target._distribution.log_prob(z_b) + logabsdet_b)

    def log_prob(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Log-density ``(batch,)`` of x_b given x_a, in nats."""
        return self.target.log_prob(inputs, self._trace(context))

    def sample(self, num_samples: int, context: Context = None, temperature: float = 1.0,
               generator: torch.Generator | None = None, batch_size: int | None = None) -> Tensor:
        """Samples ``(context_size, num_samples, *shape)`` of x_b; the source reads each x_a once."""
        return self.target.sample(num_samples, self._trace(context), temperature, generator, batch_size)

    def sample_and_log_prob(
            self, num_samples: int, context: Context = None, temperature: float = 1.0,
            generator: torch.Generator | None = None, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """``sample``, and the conditional log-densities of the samples (at temperature 1), in nats."""
        return self.target.sample_and_log_prob(num_samples, self._trace(context), temperature, generator, batch_size)

    def transform_to_noise(self, inputs: Tensor, context: Context = None) -> Tensor:
        """The noise of x_b given x_a."""
        return self.target.transform_to_noise(inputs, self._trace(context))

    def transform_from_noise(self, noise: Tensor, context: Context = None) -> Tensor:
        """The x_b of a noise given x_a."""
        return self.target.transform_from_noise(noise, self._trace(context))

    def transfer(self, content: Tensor, content_context: Context, new_context: Context) -> Tensor:
        """The content of one x_b on the structure of another x_a (section 5.4): its noise, decoded there."""
        return self.transform_from_noise(self.transform_to_noise(content, content_context), new_context)

    def _trace(self, context: Context) -> Tensor | Trace:
        if context is None:
            raise ValueError("PairedFlow expects the source image as context, got None; pass context=x_a")
        x_a, side = context if isinstance(context, (tuple, list)) and len(context) == 2 else (context, None)
        if not isinstance(x_a, Tensor):
            raise TypeError(f"PairedFlow expects as context the source image x_a, or (x_a, side information), got "
                            f"{type(context).__name__}; pass context=x_a")
        self.source._check(x_a, side)
        return _beside(self.source.transform.forward_with_trace(x_a)[2], side)


def _beside(entry: Tensor | Trace, side: Tensor | None) -> Tensor | Trace:
    """What the target reads: what the source recorded, with side information."""
    return entry if side is None else Trace([entry]).concat(side)[0]


def _saves(bijector: Any) -> bool:
    """Whether it, or a part of it, is checkpointed."""
    return getattr(bijector, "checkpoint", False) or any(map(_saves, getattr(bijector, "parts", None) or ()))


def _together(source: Any, target: Any, x_a: Tensor, x_b: Tensor, side: Tensor | None) -> tuple[Tensor, ...]:
    """Source and target forward, part beside part: outputs and log-determinant of the one, then of the other.

    Checkpoints keep no trace: groups of steps make theirs again, and a step all of it but what its last part gave.
    Without them, one flow after the other has the lower peak, for gradients take the place of activations sooner.
    """
    def run(y_a: Tensor, y_b: Tensor) -> tuple[Tensor, ...]:
        total_a, total_b = (x.new_zeros(len(x), dtype=at_least_float32(x.dtype)) for x in (x_a, x_b))
        for i, parts in enumerate(zip(source.parts, target.parts, strict=True)):
            (y_a, leave_a), (y_b, leave_b) = source._enter(i, y_a), target._enter(i, y_b)
            y_a, logabsdet_a, y_b, logabsdet_b = _together(*parts, y_a, y_b, side)
            y_a, total_a, y_b, total_b = leave_a(y_a), total_a + logabsdet_a, leave_b(y_b), total_b + logabsdet_b
        return y_a, total_a, y_b, total_b

    def read(x_a: Tensor, x_b: Tensor, *last: Any) -> tuple[Tensor, Tensor]:
        trace = Trace([*Chain(source.parts[:-1]).forward_with_trace(x_a)[2], *last])
        return Chain(target.parts)(x_b, _beside(trace, side))

    keeps = torch.is_grad_enabled()
    alike = (type(source) is type(target) in (Chain, Split) and kinds(source) == kinds(target)
             and source.checkpoint == target.checkpoint and not (source._compiled or target._compiled)
             and not (target._forward_pre_hooks or target._forward_hooks) and (_saves(source) or not keeps))
    saving = alike and source.checkpoint and keeps
    if alike and (not saving or any(map(_saves, source.parts))):
        return recompute(run, x_a, x_b, use_reentrant=False) if saving else run(x_a, x_b)
    y_a, logabsdet_a, entry = apply(source, x_a, None, inverse=False, record=True)
    if saving:
        return y_a, logabsdet_a, *recompute(read, x_a, x_b, *tuple(entry)[-1:], use_reentrant=False)
    return y_a, logabsdet_a, *apply(target, x_b, _beside(entry, side), inverse=False, record=False)[:2]
