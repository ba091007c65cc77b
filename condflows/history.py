"""The losses of a training, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History"]


@dataclass
class History:
    r"""Hold the losses of a training, one entry for each epoch; :func:`fit` returns it.

    Entry :math:`t` of ``train`` is :math:`- \frac{1}{n} \sum_i \log p_t(x_i \mid c_i)`, or the mean of another loss,
    over the rows of that epoch, while the weights change; that of ``held_out`` is of the rows that are kept apart, at
    the end of the epoch.

    Shapes: lists of numbers, in nats per row unless the loss has another unit. It raises nothing.
    Paper: none.

    Args:
        train: the mean loss in training.
        held_out: the mean loss of the held-out part; empty without one.
        learning_rates: the learning rate at the end of each epoch.

    >>> history = History(train=[2.0, 1.0, 0.5], held_out=[2.1, 1.2, 1.3], learning_rates=[1e-3, 5e-4, 0.0])
    >>> history.best_epoch
    1
    >>> print(history)
    3 epochs, at last 0.500 in training and 1.300 held out; best 1.200 after epoch 2
    """

    train: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int | None:
        """The epoch, counted from 0, with the lowest held-out loss; None without a held-out part."""
        return self.held_out.index(min(self.held_out)) if self.held_out else None

    def __str__(self) -> str:
        if not self.train:
            return "0 epochs"
        text = f"{len(self.train)} epochs, at last {self.train[-1]:.3f} in training"
        if self.best_epoch is None:
            return text
        return (f"{text} and {self.held_out[-1]:.3f} held out; best {self.held_out[self.best_epoch]:.3f} after epoch "
                f"{self.best_epoch + 1}")
