"""Requests to stop: SIGTERM, which clusters send before they take a machine away, and Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED, INTERRUPTED = 75, 130
"""Exit statuses after SIGTERM (EX_TEMPFAIL of sysexits.h: the same command goes on later) and after Ctrl-C."""


class Stop:
    """Request to stop, set by a signal and read by the training wherever it can stop."""

    status: int | None = None
    """Exit status that was requested; None while nothing was."""

    def _request(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if number == signal.SIGINT and self.status == INTERRUPTED:
            raise KeyboardInterrupt  # asked twice
        self.status = PREEMPTED if number == signal.SIGTERM else INTERRUPTED


@contextmanager
def requests() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into requests to stop, until the end of the block."""
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
