"""Requests to stop: SIGTERM, which clusters send before they take a machine away, and Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED, INTERRUPTED = 75, 130
"""Exit status after SIGTERM, EX_TEMPFAIL of sysexits.h: the same command goes on later; and after Ctrl-C."""


class Stop:
    """A request to stop, if a signal made one; work looks at it where it can stop."""

    status: int | None = None
    """Exit status that it asks for."""

    def _request(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.status == INTERRUPTED:
            raise KeyboardInterrupt  # asked twice
        self.status = PREEMPTED if number == signal.SIGTERM else INTERRUPTED


@contextmanager
def requests() -> Iterator[Stop]:
    """Take SIGTERM and SIGINT as requests, until the end of the block."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield stop
        return
    before = {number: signal.signal(number, stop._request) for number in (signal.SIGTERM, signal.SIGINT)
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
