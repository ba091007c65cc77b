"""Training of a flow: by maximum likelihood on data, or by samples towards a density that is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from condflows.batches import Epochs, Rows, as_source, first_rows
from condflows.checks import check_count
from condflows.history import History
from condflows.initialize import initialize
from condflows.modes import modes_kept
from condflows.trace import Context, map_context
from condflows.training import Loss, Prepare, Training, prepared, read_checkpoint

__all__ = ["fit"]


def one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Let the learning rate rise to its largest in three tenths of the steps, and fall to 0."""
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], steps)


def negative_log_likelihood(flow: Any, inputs: Tensor, context: Context) -> Tensor:
    """Return minus the log-density of each row, in nats."""
    return -flow.log_prob(inputs, context)


def reverse_kl(target: Callable[..., Tensor], num_samples: int) -> Loss:
    """Build the loss that leads a flow to a density by samples of the flow, one for each context."""
    def loss(flow: Any, inputs: None, context: Context) -> Tensor:
        count = num_samples if context is None else 1
        samples, log_prob = flow.sample_and_log_prob(count, context)
        if context is None:
            return log_prob - target(samples)
        return log_prob.flatten() - target(samples.flatten(0, 1), context)
    return loss


def fit(flow: nn.Module, inputs: Any = None, context: Context = None, *, target: Callable[..., Tensor] | None = None,
        loss: Loss | None = None, prepare: Prepare | None = None, epochs: int = 100,
        batch_size: int = 256, steps_per_epoch: int | None = None, learning_rate: float = 1e-3,
        optimizer: Callable[..., Optimizer] = torch.optim.Adam,
        schedule: Callable[[Optimizer, int], LRScheduler] = one_cycle, clip_norm: float | None = 5.0,
        ema: float | None = None, held_out: Any = None, patience: int | None = 20, initialized: bool = False,
        checkpoint: str | PathLike[str] | None = None, progress: bool = True) -> History:
    r"""Train a flow, in place: on data by maximum likelihood, or by its own samples towards a density.

    With data the loss is :math:`- \log p(x \mid c)`; with a target density :math:`\pi`, which need not be normalized,
    it is :math:`\log q(x \mid c) - \log \pi(x, c)` of samples :math:`x` of the flow :math:`q`, whose mean is the
    divergence :math:`\mathrm{KL}(q \| \pi)` up to a constant.

    Actnorms and standardizations are initialized on the first data, as :func:`initialize` does. Each epoch then goes
    through the data in a new order. After it the held-out part is evaluated, and the best weights by that figure are
    those that the flow has in the end, also after an error or an interrupt; without a held-out part it has the last
    ones. All random numbers follow from the global seed at the start: ``torch.manual_seed`` makes a call repeatable.

    Shapes: inputs and contexts are those of ``flow.log_prob``, row by row. Losses are in nats per row. Paper: none;
    the default schedule is that of arXiv 1708.07120.

    Args:
        flow: a :class:`Flow`, a :class:`PairedFlow` (``inputs`` are x_b and ``context`` is x_a), or any module with
            ``log_prob`` and ``parameters``.
        inputs: the data: a tensor or array, or a loader of batches, which are tensors or ``(inputs, context)``.
            Floating-point values are converted to the flow's dtype; batches are moved to its device.
        context: the conditions of tensors or arrays, one a row.
        target: the logarithm of a density, of samples ``(n, *shape)``, to ``(n,)``; with conditions it is given their
            rows too. Then there are no inputs, and an epoch has 100 steps, or those in which each condition is met.
        loss: what is minimized, as a function of flow, inputs and context to one value for each row.
        prepare: makes of a batch's inputs and context those that the flow is given, at each step anew, for example
            ``lambda images, labels: (dequantize(images), labels)``.
        epochs: the largest number of epochs.
        batch_size: the number of rows, or of samples with a target, in a step; a loader has its own.
        steps_per_epoch: the number of steps in an epoch, for loaders without a length or to validate more often.
        learning_rate: the largest learning rate.
        optimizer: makes the optimizer of ``(parameters, lr=learning_rate)``.
        schedule: makes the learning-rate schedule of the optimizer and the number of all steps; by default it rises
            and falls once. It is stepped after each step.
        clip_norm: the largest norm of the gradient of the loss divided by the number of values in a row of the inputs;
            longer gradients are scaled down. None for no limit.
        ema: the decay of an exponential moving average of the weights, for example 0.999, which is then evaluated and
            kept in place of the weights themselves; None for none.
        held_out: a share of the rows, other data like ``inputs`` or ``(inputs, context)``, or a loader. By default a
            tenth of the rows of tensors, and nothing of loaders and targets; 0 for nothing.
        patience: the number of epochs without a better held-out loss after which the training ends; None for all.
        initialized: True for a flow that is trained already, whose actnorms must stay.
        checkpoint: a file that is written after each epoch; if it is there, the training goes on from it, as if it had
            not been interrupted.
        progress: show a bar with the losses and the time that is left.

    Raises:
        FloatingPointError: a loss or gradient that is not finite, with the step and the first module behind it.
        ValueError: contexts of another number of rows, no data, counts and shares out of range, a loss of another
            shape, a checkpoint of another training, a target for a base with parameters that has no ``rsample``.
        TypeError: what is no flow, data that is neither tensor, array nor loader.

    Returns the losses of each epoch.

    >>> context = torch.rand(1000, 1)
    >>> x = context + 0.1 * torch.randn(1000, 2)
    >>> flow = Flow(ActNorm(2, conditioners.MLPConditioner(1, 4)), shape=(2,))
    >>> history = fit(flow, x, context, epochs=20, learning_rate=1e-2, progress=False)
    >>> history.held_out[-1] < 0 < history.held_out[0]
    True
    >>> target = torch.distributions.Normal(3.0, 2.0)
    >>> flow = Flow(ActNorm(1), shape=(1,))
    >>> history = fit(flow, target=lambda x: target.log_prob(x).sum(1), epochs=5, learning_rate=0.1, progress=False)
    >>> round(flow.sample(10_000).mean().item())
    3
    """
    _check_numbers(epochs, batch_size, patience, learning_rate, clip_norm, ema)
    _check_flow(flow, loss)
    if target is None and inputs is None:
        raise ValueError("fit expects inputs or a target, got neither; pass the data")
    if target is not None:
        if not (inputs is loss is prepare is held_out is None):
            raise ValueError("fit expects either a target, or inputs with loss, prepare and held_out, got both; leave "
                             "one out")
        _check_gradients(flow, context)
    settings = {"epochs": epochs, "batch_size": batch_size, "steps_per_epoch": steps_per_epoch,
                "learning_rate": learning_rate, "clip_norm": clip_norm, "ema": ema}
    saved = None if checkpoint is None else read_checkpoint(Path(checkpoint), settings)
    seed = int(torch.randint(2**62, ())) if saved is None else saved["seed"]
    device = next(flow.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), modes_kept(flow):
        torch.manual_seed(seed)
        if target is None:
            source, apart = _data_and_held_out(inputs, context, batch_size, held_out)
        else:
            source = repeat((None, None)) if context is None else Rows(None, context, batch_size)
            apart, loss = None, reverse_kl(target, batch_size)
            steps_per_epoch = 100 if context is steps_per_epoch is None else steps_per_epoch
        batches = Epochs(source, steps_per_epoch)
        if not (initialized or saved or target):
            initialize(flow, *prepared(first_rows(source), flow, prepare))
        descent = optimizer([weight for weight in flow.parameters() if weight.requires_grad], lr=learning_rate)
        training = Training(flow, loss or negative_log_likelihood, prepare, descent,
                            schedule(descent, epochs * batches.steps), clip_norm, ema)
        save = None
        if checkpoint is not None:
            save = partial(training.write_checkpoint, Path(checkpoint), settings, seed)
        if saved is not None:
            training.load_checkpoint(saved)
        try:
            training.run(batches, apart, epochs, patience, seed, progress, save)
        finally:
            training.settle()
    return training.history


def _check_numbers(epochs: int, batch_size: int, patience: int | None, learning_rate: float, clip_norm: float | None,
                   ema: float | None) -> None:
    """Refuse numbers of a training that are out of range."""
    check_count(epochs, 1, "fit expects at least 1 epoch")
    check_count(batch_size, 1, "fit expects a batch_size of at least 1")
    if patience is not None:
        check_count(patience, 1, "fit expects a patience of at least 1 epoch", "pass None to make all epochs")
    for name, value in {"learning_rate": learning_rate, "clip_norm": 1 if clip_norm is None else clip_norm}.items():
        if not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise ValueError(f"fit expects a finite {name} above 0, got {value!r}")
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"fit expects ema between 0 and 1, for example 0.999, got {ema!r}")


def _check_flow(flow: Any, loss: Loss | None) -> None:
    """Refuse what has no parameters, or no density and no loss of its own."""
    trainable = isinstance(flow, nn.Module) and next(flow.parameters(), None) is not None
    if not trainable or not (hasattr(flow, "log_prob") or loss):
        raise TypeError(f"fit expects a flow with parameters, got {type(flow).__name__}; build a condflows.Flow on it")


def _check_gradients(flow: Any, context: Context) -> None:
    """Refuse a base that is to be trained by its samples, but whose samples have no gradients."""
    base = getattr(getattr(flow, "target", flow), "base", None)
    if isinstance(base, nn.Module) and any(weight.requires_grad for weight in base.parameters()):
        given = flow.to_distribution(map_context(lambda rows: rows[:1], context))
        if not given.has_rsample:
            raise ValueError(f"fit expects samples with gradients to train towards a target, got the base "
                             f"{type(base).__name__}, which has parameters and no rsample; freeze them, or take a base "
                             "with rsample, such as a normal distribution")


def _data_and_held_out(inputs: Any, context: Context, batch_size: int, held_out: Any) -> tuple[Any, Any]:
    """Return what yields the batches of an epoch, and what yields those that are kept apart, or None."""
    source = as_source(inputs, context, batch_size)
    if held_out is None:
        held_out = 0.1 if isinstance(source, Rows) else 0
    if isinstance(held_out, Real):
        if isinstance(source, Rows):
            return source.hold_out(float(held_out))
        if held_out:
            raise ValueError(f"fit expects data or a loader as held_out beside a loader, got the share {held_out}; "
                             "split the data first")
        return source, None
    apart, given = held_out if isinstance(held_out, tuple) else (held_out, None)
    if isinstance(apart, Iterator):
        raise TypeError(f"fit expects held-out data that can be read after each epoch, got the iterator "
                        f"{type(apart).__name__}; pass tensors or a loader")
    return source, as_source(apart, given, batch_size, shuffle=False)
