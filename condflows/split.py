"""The multiscale split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from condflows.bijector import Composition, Recorded, apply, check_inputs
from condflows.trace import Context, Trace, route

__all__ = ["Split"]


class Split(Composition):
    """Half of the channels are finished here, the other half goes on through ``inner``.

    ``prior`` is a bijector on all channels that is applied first: an :class:`condflows.AffineCoupling` whose net
    predicts scale and mean of the second half from the first is Glow's learned prior. Then the first ``C - C // 2``
    channels go through ``inner``, which keeps their shape, and the rest is already noise.

    Shapes: ``(batch, C, *spatial)`` to the same. Log-determinant: the sum of those of ``prior`` and ``inner``. The
    trace has two entries: the output of ``prior`` (all channels; the input where there is none), and that of
    ``inner``. Paper: RealNVP (arXiv 1605.08803) section 3.6; Glow (arXiv 1807.03039).

    Raises:
        ValueError: fewer than two channels, an ``inner`` that changes the shape, a trace of another structure.

    >>> from condflows import ActNorm
    >>> Split(ActNorm(2))(torch.randn(5, 3, 8))[0].shape
    torch.Size([5, 3, 8])
    """

    def __init__(self, inner: Transform, prior: Transform | None = None):
        super().__init__()
        self.prior = prior
        self.inner = inner

    @property
    def parts(self) -> Sequence[Transform | None]:  # type: ignore[override]
        """The prior and the inner bijector."""
        return self.prior, self.inner

    def _run(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> tuple[Tensor, Tensor, Trace]:
        steps = list(zip((self._through_prior, self._through_inner), route(context, self), strict=True))
        outputs, total, entries = inputs, 0.0, []
        for through, part_context in steps[::-1] if inverse else steps:
            outputs, logabsdet, entry = through(outputs, part_context, inverse, record)
            total, entries = total + logabsdet, [*entries, entry]
        return outputs, total, Trace(entries[::-1] if inverse else entries)  # type: ignore[return-value]

    def _through_prior(self, inputs: Tensor, *rest: Any) -> Any:
        return (inputs, 0.0, inputs) if self.prior is None else apply(self.prior, inputs, *rest)

    def _through_inner(self, inputs: Tensor, context: Context, inverse: bool, record: bool) -> Recorded:
        check_inputs(inputs, "Split")
        channels = inputs.shape[1]
        if channels < 2:
            raise ValueError(f"Split expects at least 2 channels, got shape {tuple(inputs.shape)}; "
                             "put a Squeeze before it")
        first, second = inputs.split([channels - channels // 2, channels // 2], dim=1)
        outputs, logabsdet, entry = apply(self.inner, first, context, inverse, record)
        if outputs.shape != first.shape:
            raise ValueError(f"Split expects its inner bijector to keep the shape {tuple(first.shape)}, "
                             f"got {tuple(outputs.shape)}; end it with the Inverse of its Squeeze")
        return torch.cat([outputs, second], dim=1), logabsdet, entry
