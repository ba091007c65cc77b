"""The result of a calibration: ranks of held-out values among samples, with coverage, p-values and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from condflows.testing.uniformity import central_ranks, hotelling_test, polynomials, smooth_test, word

__all__ = ["Calibration", "Coverage"]

LOG_PROB = "log_prob"
LEVELS = 0.5, 0.8, 0.9
SIGNIFICANCE = 0.01
"""The probability that a calibrated flow gets any verdict other than calibrated."""
TINY = 1e-12
"""The p-value from which a table shows none smaller."""
SHOWN = 16
"""The number of quantities that a table shows at most."""


class Coverage(NamedTuple):
    r"""Hold how often intervals hold the true value: their exact level, and of each quantity the observed share.

    ``deviation`` is the standard deviation of the observed share by chance: :math:`\sqrt{q (1 - q) / N}` for the
    quantities of N independent rows at the level q, and the standard error over rows for pooled values, which are
    dependent within a row. Shapes: ``observed`` and ``deviation`` are ``(K,)``, on the CPU. Paper: none.

    >>> result = testing.calibration(Flow(ActNorm(2), shape=(2,)), torch.randn(400, 2))
    >>> level, observed, deviation = result.coverage(0.9)
    >>> level, observed.shape, deviation
    (0.9, torch.Size([3]), tensor([0.0150, 0.0150, 0.0150], dtype=torch.float64))
    """

    level: float
    observed: Tensor
    deviation: Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    r"""Hold the ranks of held-out values among samples of a flow; :func:`condflows.testing.calibration` makes one.

    Where the flow is right, each rank is uniform on :math:`0, \ldots, n`, whatever the condition, with :math:`n` the
    number of samples; and ranks of different rows are independent. ``print`` shows a table of ``p_values``, of
    ``coverage`` at 50, 80 and 90 % with its deviation by chance, and of ``verdicts``.

    Verdicts: "calibrated" says that no deviation was found, which more rows might find. "over-confident" says that the
    samples spread too little around the true values, "under-confident" too much, "biased low" that they lie too low,
    "biased high" too high, "wrong shape" anything else. Of ``log_prob``, "over-confident" says that true values lie
    further out in the flow's tails than its samples do, on average and for whatever reason, among them a bias;
    "under-confident" that they lie nearer to where it is densest. The verdict differs from "calibrated" where the
    p-value is below 0.01 divided by the number of rows of the table, so a calibrated flow gets any other verdict with a
    probability of at most about 1 %.

    Shapes: ``ranks`` is ``(rows, K)``; ``value_counts`` is ``(rows, channels, num_samples + 1)``, the number of values
    of a channel that have each rank, for images and signals, and None otherwise. Both are integers on the CPU.
    Paper: simulation-based calibration (arXiv 1804.06788); the p-values are those of Neyman's smooth test of 1937.

    Args:
        ranks: the number of samples below the true value, of each row and quantity.
        num_samples: the number of samples of each row.
        names: a name for each quantity; ``"log_prob"`` is the flow's log-density.
        value_counts: how many values have each rank.

    Raises:
        ValueError: from the methods, a level that the number of samples cannot represent.

    >>> result = testing.calibration(Flow(ActNorm(2), shape=(2,)), 2 + torch.randn(400, 2))
    >>> result.names, result.ranks.shape, result.num_samples
    (('value 0', 'value 1', 'log_prob'), torch.Size([400, 3]), 99)
    >>> result.verdicts
    ('biased low', 'biased low', 'over-confident')
    """

    ranks: Tensor
    num_samples: int
    names: tuple[str, ...]
    value_counts: Tensor | None = None

    def coverage(self, level: float = 0.9) -> Coverage:
        """Return how often the flow's central intervals hold the true value; of ``log_prob`` its densest regions do.

        The level is rounded to one that whole ranks have: of 99 samples, to an even per cent.
        """
        outside, level = central_ranks(self.num_samples, level)
        low = torch.tensor([2 * outside if name == LOG_PROB else outside for name in self.names])
        high = torch.tensor([self.num_samples - (0 if name == LOG_PROB else outside) for name in self.names])
        observed = ((self.ranks >= low) & (self.ranks <= high)).double().mean(0)
        chance = math.sqrt(level * (1 - level) / self.ranks.shape[0])
        return Coverage(level, observed, torch.full_like(observed, chance))

    def value_coverage(self, level: float = 0.9) -> Coverage:
        """Return how often the central interval of a value holds it, over all positions of a channel ``(channels,)``.

        The deviation by chance is the standard error of the rows' own shares, as positions of one row are dependent.
        """
        outside, level = central_ranks(self.num_samples, level)
        shares = self._value_shares()[..., outside:self.num_samples + 1 - outside].sum(2)
        return Coverage(level, shares.mean(0), shares.std(0) / math.sqrt(shares.shape[0]))

    @property
    def p_values(self) -> Tensor:
        """The probability ``(K,)`` of ranks that deviate as much from uniform ones, if the flow is right.

        By Neyman's smooth test: the sum of the squared means of four orthonormal polynomials of the rank is chi-squared
        with four degrees of freedom.
        """
        return smooth_test(self.ranks, self.num_samples)[0]

    @property
    def value_p_values(self) -> Tensor:
        """The same ``(channels,)`` for the ranks of all values of a channel, by a test over independent rows.

        By Hotelling's test of each row's mean of the first two polynomials. It wants a few hundred rows: of 200, as
        many p-values of a calibrated flow are below 0.01 as should be, of 50 two to three times as many.
        """
        return hotelling_test(self._value_shares() @ polynomials(self.num_samples, 2))[0]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One of the verdicts for each quantity."""
        p_values, means, scores = smooth_test(self.ranks, self.num_samples)
        return tuple(self._verdict(*each) for each in zip(p_values, means, scores, self.names, strict=True))

    @property
    def value_verdicts(self) -> tuple[str, ...]:
        """One of the verdicts for the values of each channel."""
        tests = hotelling_test(self._value_shares() @ polynomials(self.num_samples, 2))
        return tuple(self._verdict(*each, "values") for each in zip(*tests, strict=True))

    @property
    def summary(self) -> str:
        """A line that names what deviates."""
        lines = self._lines()
        wrong = [f"{name} {verdict} (p {p_value})" for name, p_value, *_, verdict in lines
                 if verdict != "calibrated"]
        of_all = f"{len(lines)} quantities of {self.ranks.shape[0]} rows"
        if not wrong:
            return f"no deviation in {of_all}"
        return f"{', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}: {len(wrong)} of {of_all}"

    def __str__(self) -> str:
        levels = [f"{100 * self.coverage(level).level:.3g} %" for level in LEVELS]
        lines = [("quantity", "p-value", *levels, "verdict"), *self._lines()]
        left_out = len(lines) - 1 - SHOWN
        first = max(len(line[0]) for line in lines)
        text = [f"{name:{first}}  {p_value:>8}" + "".join(f"{cell:>15}" for cell in cells) + f"  {verdict}"
                for name, p_value, *cells, verdict in lines[:SHOWN + 1]]
        more = [f"and {left_out} more with larger p-values"] if left_out > 0 else []
        return "\n".join([f"{self.ranks.shape[0]} rows, {self.num_samples} samples each", *text, *more])

    def _lines(self) -> list[tuple[str, ...]]:
        """Return the table: name, p-value, coverages and verdict; if they are many, smallest p-values first."""
        coverages = [self.coverage(level) for level in LEVELS]
        lines = [*zip(self.names, self.p_values.tolist(), _cells(coverages), self.verdicts, strict=True)]
        if self.value_counts is not None:
            names = [f"values of channel {channel}" for channel in range(self.value_counts.shape[1])]
            cells = _cells([self.value_coverage(level) for level in LEVELS])
            lines += zip(names, self.value_p_values.tolist(), cells, self.value_verdicts, strict=True)
        if len(lines) > SHOWN:
            lines.sort(key=lambda line: line[1])
        return [(name, f"{p_value:.2g}" if p_value > TINY else f"<{TINY:g}", *cells, verdict)
                for name, p_value, cells, verdict in lines]

    def _verdict(self, p_value: Tensor, means: Tensor, scores: Tensor, name: str) -> str:
        tests = self.ranks.shape[1] + (0 if self.value_counts is None else self.value_counts.shape[1])
        return "calibrated" if float(p_value) * tests >= SIGNIFICANCE else word(means, scores, name == LOG_PROB)

    def _value_shares(self) -> Tensor:
        """Return the shares ``(rows, channels, num_samples + 1)`` of values with each rank."""
        if self.value_counts is None:
            raise ValueError("expected ranks of the values of images or signals, got none: a vector's values are "
                             "quantities by themselves; read p_values, coverage and verdicts")
        return self.value_counts.double() / self.value_counts[0, 0].sum()


def _cells(coverages: list[Coverage]) -> list[list[str]]:
    """Return the cells of a table, a list for each quantity."""
    columns = [[f"{share:.3f} ± {chance:.3f}" for share, chance in zip(observed, deviation, strict=True)]
               for _, observed, deviation in coverages]
    return [list(row) for row in zip(*columns, strict=True)]
