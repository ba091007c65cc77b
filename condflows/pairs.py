"""Two flows, of which one conditions the other, operation by operation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from condflows.base import log_density
from condflows.bijector import Bijector, zero_logabsdet
from condflows.chain import Chain, recomputes
from condflows.checks import check_batch
from condflows.composition import Record, recording, takes_record
from condflows.distribution import FlowDistribution
from condflows.flow import Flow
from condflows.hooks import Method, calls_only, is_own
from condflows.rows import context_for
from condflows.split import Split, halves, whole
from condflows.trace import Context, Trace, kinds

__all__ = ["PairedFlow"]

Results = tuple[Tensor, Tensor, Tensor, Tensor]
Together = Callable[..., Results]


def images_by_name(method: Method) -> Method:
    """Let a method of pairs warn where it is given images by position, of which ``log_prob`` has another order."""

    @wraps(method)
    def run(self: Any, *images: Any, **named: Any) -> Any:
        if images and not torch.compiler.is_compiling():
            warnings.warn("images by position are easily swapped, as log_prob takes x_b first; pass them by name: "
                          "pair(x_a=..., x_b=...), pair.log_probs(x_a=..., x_b=...)", FutureWarning, stacklevel=2)
        return method(self, *images, **named)
    return run  # type: ignore[return-value]


class PairedFlow(nn.Module):
    r"""Two flows, p(x_a) and p(x_b given x_a); each operation of the second may read its counterpart in the first.

    With :math:`f` the target's transform, :math:`T(x_a)` the trace of the source and :math:`z = f(x_b, T(x_a))`,

    .. math:: \log p(x_b \mid x_a) = \log \mathcal{N}(z) + \log \left| \det \partial z / \partial x_b \right|

    and ``transfer`` is :math:`f^{-1}(f(x_b, T(x_a)), T(x_a'))`. The source's trace is the context of the target, so
    both are compositions of the same structure. The context of a pair is the source image x_a, or ``(x_a, side)`` to
    append side information, for example a boundary map, to every entry of the trace. ``source`` and ``target`` are
    :class:`Flow` and stay usable alone.

    Shapes: ``x_a`` is ``(batch, channels_a, *spatial_a)`` and ``x_b`` ``(batch, channels_b, *spatial_b)``; the two
    spatial sizes agree unless every net resizes what it reads, as
    :class:`condflows.conditioners.CouplingConditioner` does. Log-densities are ``(batch,)``, in nats.
    Paper: Full-Glow (arXiv 2012.05846) section 4; C-Flow (arXiv 1912.07009).

    Args:
        source: the flow, or bijector, of x_a.
        target: the flow, or bijector, of x_b given the source's trace.

    Raises:
        ValueError: a context that is missing, a target of another structure than the source; and the errors of
            :class:`Flow`.
        TypeError: a context that is no tensor ``x_a`` and no pair ``(x_a, side)``, and a source that is no condflows
            bijector.

    >>> net = conditioners.MLPConditioner
    >>> source = glow_step(2, coupling=net(1, 2))
    >>> target = glow_step(2, coupling=net(1, 2, context_features=2), actnorm=net(2, 4))
    >>> pair = PairedFlow(Flow(source, shape=(2,)), Flow(target, shape=(2,)))
    >>> x_a, x_b = torch.randn(5, 2), torch.randn(5, 2)
    >>> pair.log_prob(x_b, context=x_a).shape
    torch.Size([5])
    >>> pair.sample(3, context=x_a).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, source: Flow | Bijector, target: Flow | Bijector):
        super().__init__()
        self.source = source if isinstance(source, Flow) else Flow(source)
        self.target = target if isinstance(target, Flow) else Flow(target)
        if not isinstance(self.source.transform, Bijector):
            raise TypeError(f"PairedFlow expects a condflows bijector as its source, got "
                            f"{type(self.source.transform).__name__}; put it into a condflows.Chain")

    @images_by_name
    def forward(self, x_a: Tensor, x_b: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``log_probs``, as wrappers for distributed training and compilation call ``forward`` only."""
        return self.log_probs(x_a=x_a, x_b=x_b, side=side)

    @images_by_name
    def log_probs(self, x_a: Tensor, x_b: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(log p(x_a), log p(x_b given x_a))``, each ``(batch,)`` in nats.

        Pass the images by name, ``pair.log_probs(x_a=..., x_b=...)``: two images of one shape are easily swapped, as
        ``log_prob`` takes x_b first. Images by position give a warning, and an error in a later version.

        Where both flows are checkpointed, no trace is kept: see :func:`side_by_side`.
        """
        check_batch(side, x_a.shape[0], "Flow")
        source, target = self.source.transform, self.target.transform
        run = side_by_side(source, target)
        if run is not _one_after_the_other and _is_plain(self.source) and _is_plain(self.target):
            self.source._check(x_a, None)
            self.target._check(x_b, x_a)
            z_a, logabsdet_a, z_b, logabsdet_b = run(source, target, x_a, x_b, side)
            return (log_density(self.source._distribution, z_a, None) + logabsdet_a,
                    log_density(self.target._distribution, z_b, None) + logabsdet_b)
        log_p_a, trace = self._read_source(x_a)
        return log_p_a, self.target(x_b, beside(trace, side))

    def log_prob(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Return the log-density ``(batch,)`` of x_b given x_a, in nats."""
        return self.target(inputs, self._trace(context))

    def sample(self, num_samples: int, context: Context = None, temperature: float | Tensor = 1.0,
               generator: torch.Generator | None = None, batch_size: int | None = None,
               size: Sequence[int] | None = None) -> Tensor:
        """Draw samples ``(context_size, num_samples, *shape)`` of x_b, as :meth:`Flow.sample` does.

        The source reads each x_a once. Where the target's shape is open, samples have the size of x_a, unless ``size``
        is given.
        """
        return self.target.sample(num_samples, self._trace(context), temperature, generator, batch_size, size)

    def sample_and_log_prob(
            self, num_samples: int, context: Context = None, temperature: float | Tensor = 1.0,
            generator: torch.Generator | None = None, batch_size: int | None = None,
            size: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Draw samples as ``sample`` does, with their conditional log-densities (at temperature 1), in nats."""
        return self.target.sample_and_log_prob(num_samples, self._trace(context), temperature, generator, batch_size,
                                               size)

    def transform_to_noise(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Return the noise of x_b given x_a."""
        return self.target.transform_to_noise(inputs, self._trace(context))

    def transform_from_noise(self, noise: Tensor, context: Context = None) -> Tensor:
        """Return the x_b that the noise maps to given x_a."""
        return self.target.transform_from_noise(noise, self._trace(context))

    def to_distribution(self, context: Context, size: Sequence[int] | None = None) -> FlowDistribution:
        """Return the density of x_b given x_a, read once, as a ``torch.distributions.Distribution``.

        Args:
            context: x_a or ``(x_a, side)``, whose rows are the distribution's batch.
            size: the spatial size of its samples where the target's shape leaves it open, as in ``sample``.
        """
        return self.target.to_distribution(self._trace(context), size)

    def transfer(self, content: Tensor, content_context: Context, new_context: Context) -> Tensor:
        """Transfer the content of one x_b to the structure of another x_a: decode its noise there (section 5.4)."""
        return self.transform_from_noise(self.transform_to_noise(content, content_context), new_context)

    def _trace(self, context: Context) -> Tensor | Trace:
        """Return the target's context for x_a or ``(x_a, side)``: the source's trace of x_a, with ``side`` appended."""
        if context is None:
            raise ValueError("PairedFlow expects the source image as context, got None; pass context=x_a")
        x_a, side = context if isinstance(context, (tuple, list)) and len(context) == 2 else (context, None)
        if not isinstance(x_a, Tensor):
            raise TypeError(f"PairedFlow expects as context the source image x_a, or (x_a, side information), got "
                            f"{type(context).__name__}; pass context=x_a")
        check_batch(side, x_a.shape[0], "Flow")
        return beside(self._read_source(x_a)[1], side)

    def _read_source(self, x_a: Tensor) -> tuple[Tensor, Tensor | Trace]:
        """Return the log-density of x_a and the source's trace of it, from one call of the source."""
        trace = Record()
        records = takes_record(self.source.forward) and takes_record(self.source.log_prob)
        log_p_a = self.source(x_a, **({"record": trace} if records else {}))
        if not trace:  # a flow of another class, whose methods do not record
            trace.append(self.source.transform.forward_with_trace(x_a)[2])
        return log_p_a, trace[0]


def beside(entry: Tensor | Trace, side: Tensor | None) -> Tensor | Trace:
    """Append side information, if any, to a trace of the source or to one entry of it."""
    return entry if side is None else Trace([entry]).concat(side)[0]


def side_by_side(source: Any, target: Any) -> Together:
    """Choose how to run source and target forward: part by part in turn if that saves memory, else one after the other.

    In turn, each part of the target runs right after its counterpart in the source, so only one part's trace exists at
    a time; a checkpoint of both keeps their two inputs and recomputes both. The function that is returned takes
    ``(source, target, x_a, x_b, side)`` and returns outputs and log-determinant of the source, then of the target.
    """
    if not _pairs_up(source, target):
        return _one_after_the_other
    run: Together = _splits if isinstance(source, Split) else _chains
    return partial(recompute, run, use_reentrant=False) if recomputes(source) else run


def _one_after_the_other(source: Any, target: Any, x_a: Tensor, x_b: Tensor, side: Tensor | None) -> Results:
    trace: list[Tensor | Trace] = []
    y_a, logabsdet_a = recording(source, trace)(x_a, None)
    context = context_for(target.forward, beside(trace[0], side), x_b.shape[0])
    return y_a, logabsdet_a, *recording(target, None)(x_b, context)


def _chains(source: Chain, target: Chain, y_a: Tensor, y_b: Tensor, side: Tensor | None) -> Results:
    total_a, total_b = zero_logabsdet(y_a), zero_logabsdet(y_b)
    for part_a, part_b in zip(source.parts, target.parts, strict=True):
        y_a, logabsdet_a, y_b, logabsdet_b = side_by_side(part_a, part_b)(part_a, part_b, y_a, y_b, side)
        total_a, total_b = total_a + logabsdet_a, total_b + logabsdet_b
    return y_a, total_a, y_b, total_b


def _splits(source: Split, target: Split, x_a: Tensor, x_b: Tensor, side: Tensor | None) -> Results:
    (prior_a, inner_a), (prior_b, inner_b) = source.parts, target.parts
    x_a, total_a, x_b, total_b = side_by_side(prior_a, prior_b)(prior_a, prior_b, x_a, x_b, side)
    (first_a, second_a), (first_b, second_b) = halves(x_a), halves(x_b)
    y_a, logabsdet_a, y_b, logabsdet_b = side_by_side(inner_a, inner_b)(inner_a, inner_b, first_a, first_b, side)
    return (whole(y_a, first_a, second_a), zero_logabsdet(x_a) + total_a + logabsdet_a,
            whole(y_b, first_b, second_b), zero_logabsdet(x_b) + total_b + logabsdet_b)


def _pairs_up(source: Any, target: Any) -> bool:
    """Tell whether source and target are compositions that can run in turn, and whether that saves memory.

    With gradients and without checkpoints, one flow after the other has the lower peak, as gradients replace
    activations sooner.
    """
    kind = Split if isinstance(source, Split) else Chain
    return (calls_only(source, kind) and calls_only(target, kind) and kinds(source) == kinds(target)
            and source.checkpoint == target.checkpoint and (_saves(source) or not torch.is_grad_enabled()))


def _is_plain(flow: Flow) -> bool:
    """Tell whether a call of the flow runs ``Flow.log_prob`` alone, and only its transform reads the context."""
    return (calls_only(flow, Flow) and is_own(flow, Flow, "log_prob") and flow.base is None
            and calls_only(flow._embedding_net, nn.Identity))


def _saves(bijector: Any) -> bool:
    """Tell whether the bijector, or a part of it, is checkpointed."""
    return getattr(bijector, "checkpoint", False) or any(map(_saves, getattr(bijector, "parts", None) or ()))
