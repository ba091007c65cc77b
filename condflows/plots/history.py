"""The course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from condflows.plots.panels import COLOURS, Figure, panels

__all__ = ["history"]


def history(history: Any, *, axes: Any = None) -> Figure:
    """Draw the course of a training: the losses of every epoch, the best epoch, and the learning rate.

    Epochs are counted from 0, as ``best_epoch`` is. The learning rate has the logarithmic axis at the right.

    Shapes: one panel. Units: mean losses in nats for each row. Paper: none.

    Args:
        history: what :func:`condflows.fit` returns, or any object with its ``train``, ``held_out`` and
            ``learning_rates``, lists of one number an epoch of which ``held_out`` may be empty, and with its
            ``best_epoch``, a number or None.
        axes: the axis to draw on; a new one if None.

    Raises:
        ValueError: no epoch, lists of several lengths, a best epoch that is none of them, more than one axis.
        TypeError: an object without these attributes.

    >>> from types import SimpleNamespace
    >>> from condflows import plots
    >>> course = SimpleNamespace(train=[3.0, 2.5, 2.3], held_out=[2.9, 2.6, 2.7], learning_rates=[0.1, 0.1, 0.01],
    ...                          best_epoch=1)
    >>> figure = plots.history(course)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['training', 'held out', 'best epoch, 1']
    """
    missing = [name for name in ("train", "held_out", "learning_rates", "best_epoch") if not hasattr(history, name)]
    if missing:
        raise TypeError(f"history expects the history that condflows.fit returns, got {type(history).__name__} without "
                        f"{', '.join(missing)}; pass it as it is")
    train, held_out, rates = list(history.train), list(history.held_out), list(history.learning_rates)
    if not train or len(rates) != len(train) or len(held_out) not in (0, len(train)):
        raise ValueError(f"history expects at least one epoch and one number for each, got {len(train)} of train, "
                         f"{len(held_out)} of held_out and {len(rates)} of learning_rates; pass it as it is")
    best = history.best_epoch
    if best is not None and not 0 <= best < len(train):
        raise ValueError(f"history expects as best_epoch one of the {len(train)} epochs, counted from 0, got {best!r}; "
                         "pass the history as it is")
    figure, ((ax,),) = panels(axes, 1, 1, "history", figsize=(6.4, 3.8))
    _draw(ax, train, COLOURS[0], "-", "training")
    _draw(ax, held_out, COLOURS[1], "--", "held out")
    if best is not None:
        loss = (held_out or train)[best]
        ax.plot(best, loss, "o", color="black", fillstyle="none", markersize=9, label=f"best epoch, {best}")
    ax.set(xlabel="epoch", ylabel="mean loss in nats")
    ax.xaxis.get_major_locator().set_params(integer=True)
    right = ax.twinx()
    right.plot(range(len(rates)), rates, ":", color="0.5", linewidth=1.3)
    right.set_yscale("log")
    right.set_ylabel("learning rate, dotted", color="0.4")
    right.tick_params(axis="y", colors="0.4")
    ax.legend()
    return figure


def _draw(ax: Any, losses: Sequence[float], color: str, style: str, name: str) -> None:
    if losses:
        ax.plot(range(len(losses)), losses, style, color=color, label=name, marker="." if len(losses) < 30 else None)
