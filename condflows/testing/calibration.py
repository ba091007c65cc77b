"""A check of a flow against held-out data: are the true values where its samples say?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from condflows.base import seeded
from condflows.checks import check_batch, check_count, check_finite, check_inputs
from condflows.flow import Flow
from condflows.modes import evaluating
from condflows.pairs import PairedFlow
from condflows.rows import repeat_rows
from condflows.testing.ranks import LOG_PROB, Calibration
from condflows.trace import Context, context_tensors, map_context

__all__ = ["calibration"]

FEWEST_SAMPLES = 19  # of which the central interval of 90 % leaves one rank out at each end
FEWEST_ROWS = 20  # from which the p-values are right to about a tenth

Statistics = Callable[[Tensor], Tensor]


@torch.no_grad()
def calibration(flow: Any, inputs: Tensor, context: Context = None, num_samples: int = 99,
                statistics: Statistics | None = None, names: Sequence[str] | None = None,
                generator: torch.Generator | None = None, batch_size: int | None = None) -> Calibration:
    r"""Check whether a flow's p(x given c) is calibrated, on held-out pairs: rank true values among its samples.

    For each pair :math:`(x_i, c_i)`, :math:`n` samples :math:`x_{ij}` are drawn given :math:`c_i`, and each quantity
    :math:`q` gets the rank :math:`r_i = \#\{j : q(x_{ij}) < q(x_i)\}`, ties broken at random. If the flow is right,
    ranks are uniform on :math:`0, \ldots, n`; a :class:`Calibration` tests that and says how they deviate. It is
    necessary for a good flow, and not sufficient: one that ignores the context can be calibrated on average.

    Quantities, unless ``statistics`` are given: of vectors each value by itself; of images and signals mean and
    deviation of each channel, besides the values themselves, whose ranks are pooled over the positions of a channel
    (``value_counts``). The last quantity, of a flow that has it, is the log-density :math:`\log p(x \mid c_i)`. It sees
    what no single value does, such as a wrong correlation, and its coverage is that of the regions of highest density.

    The flow runs in eval mode, without gradients, and has its modes back afterwards. Its own device is used; the
    resulting counts alone are moved, to the CPU.

    Shapes: inputs are ``(rows, *shape)``, one context for each row. Log-densities are in nats, all else is in the units
    of the inputs. Paper: simulation-based calibration (arXiv 1804.06788); of the log-density, expected coverage
    (arXiv 2110.06581).

    Args:
        flow: a :class:`condflows.Flow`, a :class:`condflows.PairedFlow`, or anything with ``sample(num_samples,
            context)`` that returns ``(rows, num_samples, *shape)``; of its own or of nflows, ``log_prob(inputs,
            context)`` and ``sample_and_log_prob`` are used too.
        inputs: true values that the flow was not trained on, at least 20 rows; for a pair, x_b.
        context: the condition of each, as ``sample`` takes it; None for a flow without one, of which each row gets
            samples of its own.
        num_samples: the number of samples for each row, n, at least 19. Of 99, levels of coverage are even per cents.
        statistics: maps ``(rows, *shape)`` to quantities ``(rows, K)`` of each row by itself, which replace those above
            but for the log-density.
        names: a name for each of the statistics.
        generator: seeds the noise and the breaking of ties; torch's global generators if None.
        batch_size: the number of samples that are drawn at a time; by default as many as have a million values
            together, at most 65,536.

    Raises:
        TypeError: a flow that has no ``sample``, and inputs that are no floating-point tensor.
        ValueError: too few rows or samples, a context of other rows, statistics or samples of another shape, names that
            are not one for each statistic, NaN or infinite values.

    >>> flow = Flow(ActNorm(2), shape=(2,))  # standard normal
    >>> print(testing.calibration(flow, 0.7 * torch.randn(1000, 2)).summary)  # doctest: +ELLIPSIS
    value 0 under-confident (p ...), value 1 under-confident (p ...), log_prob under-confident (p ...): 3 of 3 ...
    """
    _check(flow, inputs, context, num_samples)
    rows, most = inputs.shape[0], min(2**16, max(1, 2**20 // inputs[0].numel()))
    batch_size = most if batch_size is None else batch_size
    check_count(batch_size, 1, "calibration expects a positive whole number of samples at a time as batch_size")
    pooled = statistics is None and inputs.ndim > 2
    quantities = statistics or (_by_channel if pooled else _unchanged)
    names = _names(_checked(quantities, inputs[:2]).shape[1], statistics, names, pooled)
    names += (LOG_PROB,) if hasattr(flow, "log_prob") else ()

    size = max(1, batch_size // num_samples)
    ranks, counts = [], []
    with seeded(generator, inputs.device), evaluating(flow):
        for x, c in zip(inputs.split(size), _split(context, size, rows), strict=True):
            all_ranks = _ranks(flow, x, c, num_samples, quantities, pooled, batch_size)
            ranks.append(all_ranks[:, :len(names)].cpu())
            if pooled:
                counts.append(_counts(all_ranks[:, len(names):].unflatten(1, (x.shape[1], -1)), num_samples).cpu())
    return Calibration(torch.cat(ranks), int(num_samples), names, torch.cat(counts) if pooled else None)


def _ranks(flow: Any, x: Tensor, context: Context, num_samples: int, quantities: Statistics, pooled: bool,
           batch_size: int) -> Tensor:
    """Return the ranks of some rows' quantities, log-density and, where they are pooled, values ``(rows, columns)``."""
    given = () if context is None else (context,)
    log_prob = flow.log_prob(x, *given) if hasattr(flow, "log_prob") else None
    true = _columns(x, log_prob, quantities, pooled)
    below = torch.zeros(true.shape, dtype=torch.long, device=x.device)
    ties = torch.zeros_like(below)
    for start in range(0, num_samples, batch_size):
        shape = (x.shape[0], min(batch_size, num_samples - start))
        samples, log_probs = _draw(flow, shape, given, x)
        drawn = _columns(samples.flatten(0, 1), log_probs, quantities, pooled).unflatten(0, shape)
        below += (drawn < true.unsqueeze(1)).sum(1)
        ties += (drawn == true.unsqueeze(1)).sum(1)
    # The true value has any place among those that it ties with. The product may round up to ties + 1.
    return below + torch.minimum((torch.rand(ties.shape, device=x.device) * (ties + 1)).long(), ties)


def _draw(flow: Any, shape: tuple[int, int], given: tuple[Any, ...], x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Draw samples ``(rows, num_samples, *shape)`` for rows of x, with their log-densities, all in one dimension."""
    rows, num_samples = shape
    count = num_samples if given else rows * num_samples  # without a context, every row gets its own too
    size = {"size": x.shape[2:]} if isinstance(flow, (Flow, PairedFlow)) else {}
    if hasattr(flow, "log_prob") and hasattr(flow, "sample_and_log_prob"):
        samples, log_probs = flow.sample_and_log_prob(count, *given, **size)
    else:
        samples, log_probs = flow.sample(count, *given, **size), None
    expected = (*(shape if given else (count,)), *x.shape[1:])
    if samples.shape != expected:
        raise ValueError(f"calibration expects of {type(flow).__name__} samples of shape {expected}, got "
                         f"{tuple(samples.shape)}; pass inputs of the shape that it models")
    check_finite(samples, "calibration", "samples", "testing.invertibility_report shows where a flow breaks")
    samples = samples if given else samples.unflatten(0, shape)
    if log_probs is None and hasattr(flow, "log_prob"):
        each = [map_context(lambda tensor: repeat_rows(tensor, rows * num_samples), context) for context in given]
        log_probs = flow.log_prob(samples.flatten(0, 1), *each)
    return samples, None if log_probs is None else log_probs.flatten()


def _columns(values: Tensor, log_prob: Tensor | None, quantities: Statistics, pooled: bool) -> Tensor:
    """Return all that is ranked of values ``(rows, *shape)``, side by side."""
    columns = [_checked(quantities, values)]
    if log_prob is not None:
        if log_prob.isnan().any():
            raise ValueError(f"calibration expects log-densities, got NaN for {int(log_prob.isnan().sum())} of "
                             f"{len(log_prob)} values; testing.invertibility_report shows where a flow breaks")
        columns.append(log_prob.unsqueeze(1))
    return torch.cat([*columns, values.flatten(1)] if pooled else columns, dim=1)


def _checked(quantities: Statistics, values: Tensor) -> Tensor:
    """Return the quantities of values, and refuse them where they are not finite ``(rows, K)``."""
    result = quantities(values)
    if not isinstance(result, Tensor) or result.ndim != 2 or result.shape[0] != values.shape[0] or not result.numel():
        came = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"calibration expects statistics of shape ({values.shape[0]}, K) for values of shape "
                         f"{tuple(values.shape)}, got {came}; return a row for each row, for example "
                         "values.flatten(1).mean(1, keepdim=True)")
    check_finite(result, "calibration", "statistics", "return numbers that can be compared")
    return result


def _counts(ranks: Tensor, num_samples: int) -> Tensor:
    """Return how many positions of each channel have each rank, ``(rows, channels, num_samples + 1)``."""
    counts = torch.zeros(*ranks.shape[:2], num_samples + 1, dtype=torch.long, device=ranks.device)
    return counts.scatter_add_(2, ranks, torch.ones_like(ranks))


def _by_channel(values: Tensor) -> Tensor:
    channels = values.flatten(2)
    return torch.cat([channels.mean(2), channels.std(2, correction=0)], dim=1)


def _unchanged(values: Tensor) -> Tensor:
    return values


def _names(count: int, statistics: Statistics | None, given: Sequence[str] | None, pooled: bool) -> tuple[str, ...]:
    """Return a name for each quantity: the given ones of statistics, or those of values and channels."""
    if given is not None:
        names = tuple(given)
        if statistics is None or len(names) != count or len({*names, LOG_PROB}) != count + 1:
            raise ValueError(f"calibration expects a name of its own, other than {LOG_PROB}, for each of the statistics"
                             f", got {names} for {count if statistics else 0}; pass as many, or leave them out")
        return names
    if pooled:
        return tuple(f"{name} of channel {i}" for name in ("mean", "deviation") for i in range(count // 2))
    return tuple(f"{'value' if statistics is None else 'statistic'} {i}" for i in range(count))


def _split(context: Context, size: int, rows: int) -> Iterator[Context]:
    """Split a context into as many rows at a time as the inputs."""
    for start in range(0, rows, size):
        yield map_context(lambda tensor, start=start: tensor[start:start + size], context)


def _check(flow: Any, inputs: Tensor, context: Context, num_samples: int) -> None:
    if not callable(getattr(flow, "sample", None)):
        raise TypeError(f"calibration expects a flow, or another model with sample(num_samples, context), got "
                        f"{type(flow).__name__}; wrap it in a class that has one")
    check_inputs(inputs, "calibration")
    check_count(num_samples, FEWEST_SAMPLES, f"calibration expects at least {FEWEST_SAMPLES} samples for each row as "
                "num_samples", "leave it out for 99")
    if inputs.shape[0] < FEWEST_ROWS:
        raise ValueError(f"calibration expects at least {FEWEST_ROWS} held-out rows, got {inputs.shape[0]}; pass more, "
                         "best hundreds")
    check_batch(context, inputs.shape[0], "calibration")
    for name, tensors in (("inputs", [inputs]), ("context", context_tensors(context))):
        for tensor in tensors:
            check_finite(tensor, "calibration", name, "clean the data first")
