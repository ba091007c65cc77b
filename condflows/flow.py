"""The density of data: a bijector on standard normal noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nflows.flows.base import Flow as NFlow
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.base import StandardNormal, TorchBase, as_base, base_shape, draw, log_density, reads_context
from condflows.bijector import Bijector
from condflows.checks import (
    check_batch,
    check_broadcasts,
    check_count,
    check_inputs,
    check_invertible,
    check_like,
    check_temperature,
)
from condflows.composition import recording, records
from condflows.distribution import FlowDistribution
from condflows.rows import context_for
from condflows.shapes import checked_shape, sample_shape
from condflows.trace import Context, context_rows, context_tensors
from condflows.warn import warn_of_unread_context

__all__ = ["Base", "Flow"]

Base = Any
"""A ``Distribution`` of nflows or ``torch.distributions``, a callable from contexts to the latter, or None."""


class Flow(NFlow):
    r"""The density of data that a bijector maps to noise, standard normal by default; an ``nflows.flows.Flow``.

    With :math:`f` the transform, :math:`z = f(x, c)` and :math:`q` the density of the base distribution,

    .. math:: \log p(x \mid c) = \log q(z \mid c) + \log \left| \det \partial z / \partial x \right|

    where :math:`\log q(z) = - (\|z\|^2 + D \log 2 \pi) / 2` in :math:`D` dimensions for the standard normal, and a
    sample at temperature :math:`\tau` is :math:`x = f^{-1}(\mu + \tau (\epsilon - \mu), c)`, with :math:`\epsilon`
    drawn from the base distribution and :math:`\mu` its location, 0 for the standard normal.

    Shapes: inputs are ``(batch, *shape)``, with a context of as many rows; log-densities ``(batch,)``, in nats.
    Paper: Glow (arXiv 1807.03039) section 2.

    Args:
        transform: maps data to noise; a condflows bijector or an nflows transform. To sample, it must keep the shape.
        shape: the shape of one input without the batch, with None for an open size: ``(10,)``, ``(3, 64, 64)``,
            ``(3, None, None)``. By default that of the transform or of the base, if one of them knows it, as the
            transforms of :func:`condflows.multiscale` do. Only sampling needs it.
        base: the distribution of the noise: None for the standard normal; one of nflows; a
            ``torch.distributions.Distribution``, whose batch and event shape together are that of one input or
            broadcast to it; or a callable, best an ``nn.Module``, that maps the flow's context to one with a batch of
            as many rows.
        embedding_net: turns the context into what transform and base read, once for each condition: for example a
            :class:`condflows.conditioners.PyramidEncoder`; None for the context itself.

    Raises:
        ValueError: inputs of another shape than ``shape``, a context of another batch size, a number of samples that is
            not positive, a temperature that is negative or not finite, or other than 1 with a base that has no standard
            deviation to scale, sampling where the shape is not known, a base of another shape.
        TypeError: inputs of another dtype or device than the parameters, a base that is no distribution.

    >>> flow = Flow(ActNorm(2), shape=(2,))
    >>> samples = flow.sample(5)
    >>> samples.shape, flow.log_prob(samples).shape
    (torch.Size([5, 2]), torch.Size([5]))
    >>> flow = Flow(ActNorm(3, conditioners.GlobalConditioner(1, 6)), shape=(3, None, None))
    >>> images = torch.rand(2, 1, 8, 8)
    >>> samples, log_prob = flow.sample_and_log_prob(5, context=images, temperature=0.7)
    >>> samples.shape, log_prob.shape
    (torch.Size([2, 5, 3, 8, 8]), torch.Size([2, 5]))

    With heavy tails, and with a mixture that the context decides:

    >>> flow = Flow(LUConv1x1(2), shape=(2,), base=torch.distributions.StudentT(4.0))
    >>> flow.log_prob(flow.sample(5)).shape
    torch.Size([5])
    >>> class Mixture(torch.nn.Linear):
    ...     def forward(self, context):
    ...         weights, means = super().forward(context).split([3, 3 * 2], 1)
    ...         normals = torch.distributions.Independent(torch.distributions.Normal(means.unflatten(1, (3, 2)), 1), 1)
    ...         chosen = torch.distributions.Categorical(logits=weights)
    ...         return torch.distributions.MixtureSameFamily(chosen, normals)
    >>> flow = Flow(LUConv1x1(2), shape=(2,), base=Mixture(4, 3 + 3 * 2))
    >>> flow.sample(5, context=torch.randn(10, 4)).shape
    torch.Size([10, 5, 2])
    """

    def __init__(self, transform: Transform, shape: Sequence[int | None] | None = None, base: Base = None,
                 embedding_net: nn.Module | None = None):
        super().__init__(transform, as_base(base), embedding_net)
        if shape is None:
            shape = transform.data_shape if isinstance(transform, Bijector) else None
            shape = base_shape(base) if shape is None else shape
        self.shape = None if shape is None else checked_shape(shape)

    @property
    def transform(self) -> Bijector:
        """The map from data to noise; an nflows transform has the methods of nflows only."""
        return self._transform  # type: ignore[return-value]

    @property
    def base(self) -> Base:
        """The base distribution as it was given; None for the standard normal."""
        base: Any = self._distribution
        return None if isinstance(base, StandardNormal) else base.given if isinstance(base, TorchBase) else base

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
        context = self._embedded(context)
        own = context_for(self.transform.forward, context, inputs.shape[0])
        noise, logabsdet = recording(self.transform, record)(inputs, own)
        return log_density(self._distribution, noise, context) + logabsdet

    def sample(self, num_samples: int, context: Context = None, temperature: float | Tensor = 1.0,  # type: ignore[override]
               generator: torch.Generator | None = None, batch_size: int | None = None,
               size: Sequence[int] | None = None) -> Tensor:
        """Draw samples ``(num_samples, *shape)``, or ``(context_size, num_samples, *shape)`` with a context.

        Args:
            num_samples: the number of samples for each condition.
            context: conditions, one a row. What depends on a condition alone is computed once for all of its samples.
            temperature: multiplies the standard deviation of the noise; at 0 the result is deterministic. A tensor
                that broadcasts to the shape of one sample gives each value of its noise another, the same ones for all
                samples, see :func:`condflows.by_level`. Bases that have no location and scale take 1 alone.
            generator: draws the noise, on its own device.
            batch_size: the number of samples for each condition that are drawn at a time; all by default.
            size: the spatial size of the samples where ``shape`` leaves it open; by default that of the images in the
                context, or of the last entry of a trace.
        """
        parts, _ = self._draw(num_samples, context, temperature, generator, batch_size, size)
        return _together([samples for samples, _, _ in parts], context)

    def sample_and_log_prob(  # type: ignore[override]
            self, num_samples: int, context: Context = None, temperature: float | Tensor = 1.0,
            generator: torch.Generator | None = None, batch_size: int | None = None,
            size: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Draw samples as ``sample`` does, with their log-densities under the flow (at temperature 1), in nats."""
        samples, log_probs = [], []
        parts, embedded = self._draw(num_samples, context, temperature, generator, batch_size, size)
        for part, rows, logabsdet in parts:
            samples.append(part)
            log_prob = log_density(self._distribution, rows, embedded) - logabsdet
            log_probs.append(log_prob.unflatten(0, part.shape[:2]))
        return _together(samples, context), _together(log_probs, context)

    def _draw(self, num_samples: int, context: Context, temperature: float | Tensor, generator: torch.Generator | None,
              batch_size: int | None,
              size: Sequence[int] | None) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Context]:
        """Draw parts of the samples, ``(context_size, n, *shape)``, with their noise and log-determinants.

        Returns them and the embedded context.
        """
        check_count(num_samples, 1, "expected a positive whole number of samples")
        batch_size = num_samples if batch_size is None else batch_size
        check_count(batch_size, 1, "expected a positive whole number of samples at a time as batch_size")
        temperature = check_temperature(temperature)
        check_invertible(self.transform)
        tensors = context_tensors(context)
        batch = (context_rows(context), int(num_samples))
        like = next(self.parameters(), tensors[0] if tensors else torch.empty(()))
        check_batch(context, batch[0], "Flow")
        self._note(context)
        shape = sample_shape(self.shape, context, size)
        check_broadcasts(temperature, shape)
        embedded = self._embedded(context)
        noise = draw(self._distribution, batch, shape, embedded, temperature, generator, like)
        parts = []
        for part in noise.split(int(batch_size), dim=1):
            rows = part.flatten(0, 1)
            own = context_for(self.transform.inverse, embedded, rows.shape[0])
            samples, logabsdet = self.transform.inverse(rows, own)
            parts.append((samples.unflatten(0, part.shape[:2]), rows, logabsdet))
        return parts, embedded

    def transform_to_noise(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Return the noise of the inputs, of the same shape."""
        self._check(inputs, context)
        return self.transform(inputs, self._embedded(context))[0]

    def transform_from_noise(self, noise: Tensor, context: Context = None) -> Tensor:
        """Return the data that the noise maps to, of the same shape."""
        self._check(noise, context)
        return self.transform.inverse(noise, self._embedded(context))[0]

    def to_distribution(self, context: Context = None, size: Sequence[int] | None = None) -> FlowDistribution:
        """Return the flow at these conditions as a ``torch.distributions.Distribution``.

        Args:
            context: the conditions, one a row, which are the distribution's batch; or None.
            size: the spatial size of its samples where ``shape`` leaves it open, as in ``sample``.
        """
        return FlowDistribution(self, context, size)

    def _embedded(self, context: Context) -> Context:
        """Return what transform and base read of a context."""
        if context is None:
            return None
        embedded = self._embedding_net(context)
        if embedded is not context and context_tensors(context):
            check_batch(embedded, context_rows(context), "Flow, of its embedding net,")
        return embedded

    def _note(self, context: Context) -> None:
        """Warn once where nothing reads the context."""
        if context is not None and not getattr(self, "_noted", False) and not torch.compiler.is_compiling():
            self._noted = True
            warn_of_unread_context(self, self.transform, reads_context(self._distribution), context)

    def _check(self, inputs: Tensor, context: Context) -> None:
        self._note(context)
        check_inputs(inputs, "Flow")
        check_like(inputs, self, "Flow")
        check_batch(context, inputs.shape[0], "Flow")
        if self.shape is not None and (
            len(self.shape) != inputs.ndim - 1
            or any(size is not None and size != got for size, got in zip(self.shape, inputs.shape[1:], strict=True))
        ):
            raise ValueError(f"Flow expects inputs of shape (batch, {', '.join(map(str, self.shape))}), "
                             f"got {tuple(inputs.shape)}; resize them or build the flow with another shape")


def _together(parts: list[Tensor], context: Context) -> Tensor:
    """Join parts along the samples of each condition; without a context there is no dimension of conditions."""
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return whole if context_tensors(context) else whole[0]
