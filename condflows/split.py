"""The multiscale split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nflows.transforms.base import Transform
from nflows.transforms.standard import IdentityTransform
from torch import Tensor

from condflows.bijector import zero_logabsdet
from condflows.checks import check_inputs
from condflows.composition import Composition, recording, recording_inverse, records
from condflows.rows import context_for, shares_context
from condflows.trace import Context, Trace, route

__all__ = ["Split"]

_identity = IdentityTransform()


class Split(Composition):
    r"""A split of the channels: one half is finished here, the other half goes on through ``inner``.

    With :math:`g` the prior (the identity where there is none) and :math:`h` the inner bijector,

    .. math:: (u, v) = g(x), \quad y = (h(u), v)

    where :math:`u` is the first ``C - C // 2`` channels. With an :class:`condflows.AffineCoupling` as its prior this is
    Glow's learned prior: :math:`v = s(u) x_2 + t(u)` is standard normal, so :math:`x_2` given :math:`u` has mean
    :math:`-t(u)/s(u)` and standard deviation :math:`1/s(u)`.

    Shapes: ``(batch, C, *spatial)`` to the same. Log-determinant, in nats:
    :math:`\log |\det \partial g / \partial x| + \log |\det \partial h / \partial u|`. The trace has two entries: the
    output of ``prior`` (all channels; the input where there is none), and that of ``inner``.
    Paper: RealNVP (arXiv 1605.08803) section 3.6; Glow (arXiv 1807.03039).

    Args:
        inner: a bijector on the first half of the channels that keeps their shape.
        prior: a bijector on all channels that is applied first, or None.

    Raises:
        ValueError: fewer than two channels, an ``inner`` that changes the shape, a trace of another structure.

    >>> prior = AffineCoupling(4, conditioners.ConvConditioner(4))
    >>> split = Split(ActNorm(2), prior)
    >>> outputs, logabsdet, trace = split.forward_with_trace(torch.randn(5, 4, 8, 8))
    >>> [entry.shape for entry in trace]
    [torch.Size([5, 4, 8, 8]), torch.Size([5, 2, 8, 8])]
    """

    def __init__(self, inner: Transform, prior: Transform | None = None):
        super().__init__()
        self.prior = prior
        self.inner = inner

    @property
    def parts(self) -> Sequence[Transform]:  # type: ignore[override]
        """The prior (the identity where there is none) and the inner bijector."""
        return _identity if self.prior is None else self.prior, self.inner

    @records
    @shares_context
    def forward(self, inputs: Tensor, context: Context = None,
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "Split")
        (prior, inner), (of_prior, of_inner) = self.parts, route(context, self)
        entries: Any = None if record is None else []
        values, logabsdet = recording(prior, entries)(inputs, context_for(prior.forward, of_prior, inputs.shape[0]))
        first, second = halves(values)
        outputs, more = recording(inner, entries)(first, context_for(inner.forward, of_inner, inputs.shape[0]))
        if record is not None:
            record.append(Trace(entries))
        return whole(outputs, first, second), zero_logabsdet(inputs) + logabsdet + more

    @records
    @shares_context
    def inverse(self, inputs: Tensor, context: Context = None,
                record: list[Any] | None = None) -> tuple[Tensor, Tensor]:
        check_inputs(inputs, "Split")
        (prior, inner), (of_prior, of_inner) = self.parts, route(context, self)
        entries: Any = None if record is None else []
        first, second = halves(inputs)
        values, logabsdet = recording_inverse(inner, entries)(
            first, context_for(inner.inverse, of_inner, inputs.shape[0]))
        outputs, more = recording_inverse(prior, entries)(
            whole(values, first, second), context_for(prior.inverse, of_prior, inputs.shape[0]))
        if record is not None:
            record.append(Trace(entries[::-1]))
        return outputs, zero_logabsdet(inputs) + logabsdet + more


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split the channels into those that go on and those that are finished."""
    channels = values.shape[1]
    if channels < 2:
        advice = "put a Squeeze before it" if values.ndim > 2 else "leave the Split out"
        raise ValueError(f"Split expects at least 2 channels, got shape {tuple(values.shape)}; {advice}")
    first, second = values.split([channels - channels // 2, channels // 2], dim=1)
    return first, second


def whole(outputs: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Join the inner bijector's outputs for the first half with the second half."""
    if outputs.shape != first.shape:
        raise ValueError(f"Split expects its inner bijector to keep the shape {tuple(first.shape)}, "
                         f"got {tuple(outputs.shape)}; end it with the Inverse of its Squeeze")
    return torch.cat([outputs, second], dim=1)
