"""Progress of long work: a bar on a terminal; elsewhere, as in the log of a job, a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

EVERY = 30.0
"""Least number of seconds between two lines of a bar, and before its first one, where the output is no terminal."""


class Lines:
    """A file for a bar that writes whole lines to stderr, without those that repeat the last one."""

    last = ""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()  # the way up to an outer bar
        if line and line != self.last:
            self.last = line
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(iterable: Iterable[Any] | None = None, delay: float = 0.0, **options: Any) -> tqdm:
    """Make a bar of tqdm on stderr, or one that writes lines where that is no terminal.

    Of work that takes less than ``delay`` seconds nothing is shown.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, delay=delay, **options)
    return tqdm(iterable, file=Lines(), mininterval=EVERY, maxinterval=EVERY, delay=EVERY,
                bar_format="{desc}: {n_fmt} of {total_fmt}{postfix}, {remaining} left", **options)


def say(text: str) -> None:
    """Print text above all bars."""
    tqdm.write(text)
    sys.stdout.flush()
