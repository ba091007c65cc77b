"""The density of data: a bijector on standard normal noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from nflows.distributions.base import Distribution
from nflows.flows.base import Flow as NFlow
from nflows.transforms.base import Transform
from torch import Tensor

from condflows.bijector import Bijector, at_least_float32
from condflows.checks import check_batch, check_count, check_inputs, check_invertible, check_like
from condflows.composition import recording, records
from condflows.rows import context_for
from condflows.trace import Context, Trace, context_tensors

__all__ = ["Flow"]


class StandardNormal(Distribution):
    """The standard normal distribution in any shape; log-densities are summed in at least float32."""

    def _log_prob(self, inputs: Tensor, context: Context) -> Tensor:
        energy = 0.5 * inputs.to(at_least_float32(inputs.dtype)).square().flatten(1).sum(1)
        return -energy - 0.5 * math.log(2 * math.pi) * math.prod(inputs.shape[1:])


class Flow(NFlow):
    r"""The density of data that a bijector maps to standard normal noise; an ``nflows.flows.Flow``.

    With :math:`f` the transform and :math:`z = f(x, c)`,

    .. math:: \log p(x \mid c) = \log \mathcal{N}(z; 0, I) + \log \left| \det \partial z / \partial x \right|

    where :math:`\log \mathcal{N}(z; 0, I) = - (\|z\|^2 + D \log 2 \pi) / 2` in :math:`D` dimensions, and a sample at
    temperature :math:`\tau` is :math:`x = f^{-1}(\tau \epsilon, c)`, :math:`\epsilon` standard normal.

    Shapes: inputs are ``(batch, *shape)``, with a context of as many rows; log-densities ``(batch,)``, in nats.
    Paper: Glow (arXiv 1807.03039) section 2.

    Args:
        transform: maps data to noise; a condflows bijector or an nflows transform. To sample, it must keep the shape.
        shape: the shape of one input without the batch, with None for an open size: ``(10,)``, ``(3, 64, 64)``,
            ``(3, None, None)``. By default that of the transform, if the transform knows it, as those of
            :func:`condflows.multiscale` do. Only sampling needs it.

    Raises:
        ValueError: inputs of another shape than ``shape``, a context of another batch size, a number of samples that is
            not positive, a temperature that is negative or not finite, and sampling where the shape is not known.
        TypeError: inputs of another dtype or device than the parameters.

    >>> flow = Flow(ActNorm(2), shape=(2,))
    >>> samples = flow.sample(5)
    >>> samples.shape, flow.log_prob(samples).shape
    (torch.Size([5, 2]), torch.Size([5]))
    >>> flow = Flow(ActNorm(3, conditioners.GlobalConditioner(1, 6)), shape=(3, None, None))
    >>> images = torch.rand(2, 1, 8, 8)
    >>> samples, log_prob = flow.sample_and_log_prob(5, context=images, temperature=0.7)
    >>> samples.shape, log_prob.shape
    (torch.Size([2, 5, 3, 8, 8]), torch.Size([2, 5]))
    """

    def __init__(self, transform: Transform, shape: Sequence[int | None] | None = None):
        super().__init__(transform, StandardNormal())
        known = transform.data_shape if shape is None and isinstance(transform, Bijector) else shape
        self.shape = None if known is None else _checked_shape(known)

    @property
    def transform(self) -> Bijector:
        """The map from data to noise; an nflows transform has the methods of nflows only."""
        return self._transform  # type: ignore[return-value]

    @records
    def forward(self, inputs: Tensor, context: Context = None,  # type: ignore[override]
                record: list[Any] | None = None) -> Tensor:
        """Return ``log_prob``, as wrappers for distributed training and compilation call ``forward`` only."""
        return self.log_prob(inputs, context) if record is None else self.log_prob(inputs, context, record)

    @records
    def log_prob(self, inputs: Tensor, context: Context = None,  # type: ignore[override]
                 record: list[Any] | None = None) -> Tensor:
        """Return the log-density ``(batch,)`` of the inputs given their contexts, in nats.

        A list passed as ``record`` receives the trace of the transform.
        """
        self._check(inputs, context)
        check_invertible(self.transform)
        context = context_for(self.transform.forward, context, inputs.shape[0])
        noise, logabsdet = recording(self.transform, record)(inputs, context)
        return self._distribution.log_prob(noise) + logabsdet

    def sample(self, num_samples: int, context: Context = None, temperature: float = 1.0,  # type: ignore[override]
               generator: torch.Generator | None = None, batch_size: int | None = None,
               size: Sequence[int] | None = None) -> Tensor:
        """Draw samples ``(num_samples, *shape)``, or ``(context_size, num_samples, *shape)`` with a context.

        Args:
            num_samples: the number of samples for each condition.
            context: conditions, one a row. What depends on a condition alone is computed once for all of its samples.
            temperature: multiplies the standard deviation of the noise; at 0 the result is deterministic.
            generator: draws the noise, on its own device.
            batch_size: the number of samples for each condition that are drawn at a time; all by default.
            size: the spatial size of the samples where ``shape`` leaves it open; by default that of the images in the
                context, or of the last entry of a trace.
        """
        return self.sample_and_log_prob(num_samples, context, temperature, generator, batch_size, size)[0]

    def sample_and_log_prob(  # type: ignore[override]
            self, num_samples: int, context: Context = None, temperature: float = 1.0,
            generator: torch.Generator | None = None, batch_size: int | None = None,
            size: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Draw samples as ``sample`` does, with their log-densities under the flow (at temperature 1), in nats."""
        check_count(num_samples, 1, "expected a positive whole number of samples")
        batch_size = num_samples if batch_size is None else batch_size
        check_count(batch_size, 1, "expected a positive whole number of samples at a time as batch_size")
        if not (isinstance(temperature, Real) and math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"expected a finite temperature of at least 0, got {temperature!r}")
        check_invertible(self.transform)
        tensors = context_tensors(context)
        batch = (tensors[0].shape[0] if tensors and tensors[0].ndim else 1, int(num_samples))
        like = next(self.parameters(), tensors[0] if tensors else torch.empty(()))
        device = generator.device if generator is not None else like.device
        noise = torch.randn(math.prod(batch), *_sample_shape(self.shape, context, size), generator=generator,
                            device=device, dtype=like.dtype)
        noise = (temperature * noise.to(like.device)).unflatten(0, batch)
        check_batch(context, noise, "Flow")
        parts = []
        for part in noise.split(int(batch_size), dim=1):
            rows = part.flatten(0, 1)
            own = context_for(self.transform.inverse, context, rows.shape[0])
            samples, logabsdet = self.transform.inverse(rows, own)
            log_prob = self._distribution.log_prob(rows) - logabsdet
            parts.append([result.unflatten(0, part.shape[:2]) for result in (samples, log_prob)])
        samples, log_prob = (torch.cat(results, 1) for results in zip(*parts, strict=True))
        return (samples, log_prob) if tensors else (samples[0], log_prob[0])

    def transform_to_noise(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Return the noise of the inputs, of the same shape."""
        self._check(inputs, context)
        return self.transform(inputs, context)[0]

    def transform_from_noise(self, noise: Tensor, context: Context = None) -> Tensor:
        """Return the data that the noise maps to, of the same shape."""
        self._check(noise, context)
        return self.transform.inverse(noise, context)[0]

    def _check(self, inputs: Tensor, context: Context) -> None:
        check_inputs(inputs, "Flow")
        check_like(inputs, self, "Flow")
        check_batch(context, inputs, "Flow")
        if self.shape is not None and (
            len(self.shape) != inputs.ndim - 1
            or any(size is not None and size != got for size, got in zip(self.shape, inputs.shape[1:], strict=True))
        ):
            raise ValueError(f"Flow expects inputs of shape (batch, {', '.join(map(str, self.shape))}), "
                             f"got {tuple(inputs.shape)}; resize them or build the flow with another shape")


def _checked_shape(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if not sizes:
        raise ValueError(f"Flow expects as shape the sizes of one input without the batch, got {shape!r}; pass "
                         "shape=(C,) for vectors of C channels, shape=(C, None, None) for images of any size")
    for size in sizes:
        if size is not None:
            check_count(size, 1, "Flow expects as shape positive whole numbers, or None where a size is open")
    return sizes


def _sample_shape(shape: tuple[int | None, ...] | None, context: Context,
                  size: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of one sample: the flow's, with open sizes from ``size`` or from the context's images."""
    if shape is None or None in shape[:1]:
        raise ValueError(f"Flow has the open shape {shape} and cannot tell the number of channels from its transform; "
                         "build it with shape=(C,) for vectors, or with shape=(C, None, None) for images")
    if size is not None:
        fits = isinstance(size, Sequence) and len(size) == len(shape) - 1
        if not fits or any(want not in (None, got) for want, got in zip(shape[1:], size, strict=True)):
            raise ValueError(f"Flow has shape {shape} and expects as size what that leaves open, one whole number for "
                             f"each spatial dimension, got {size!r}")
        for got in size:
            check_count(got, 1, "Flow expects a positive whole number for each spatial dimension as size")
        return shape[0], *map(int, size)  # type: ignore[return-value]
    if None not in shape:
        return shape  # type: ignore[return-value]
    return tuple(want if want is not None else got  # type: ignore[return-value]
                 for want, got in zip(shape, (0, *_image_size(shape, context)), strict=True))


def _image_size(shape: tuple[int | None, ...], context: Context) -> tuple[int, ...]:
    """Return the spatial size that all images of a context share; for a trace, that of its last entry, the data's."""
    tensors = context_tensors(context)
    images = [tensor for tensor in (tensors[-1:] if isinstance(context, Trace) else tensors) if tensor.ndim > 2]
    if not images:
        raise ValueError(f"Flow has the open shape {shape} and expects an image context to take the size from; "
                         "build it with Flow(transform, shape=...), or pass size=(height, width)")
    fitting = [tensor for tensor in images if tensor.ndim == 1 + len(shape)]
    if not fitting:
        raise ValueError(f"Flow has shape {shape} and got an image context of shape {tuple(images[0].shape)}; "
                         "their spatial dimensions must agree; pass size=...")
    sizes = {tuple(tensor.shape[2:]): None for tensor in fitting}
    if len(sizes) > 1:
        raise ValueError(f"Flow has the open shape {shape} and got images of the sizes {', '.join(map(str, sizes))} as "
                         "context; pass size=... to say which one samples have")
    return next(iter(sizes))
