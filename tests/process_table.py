"""The processes of a run of the tests: those it has started, also by parents that have ended, and quick new ones."""

import multiprocessing
import os
import signal
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

MARK = "CONDFLOWS_TEST_RUN"
os.environ.setdefault(MARK, uuid.uuid4().hex)  # in the environment of all processes that the tests start


class Process(NamedTuple):
    """A running process."""

    pid: int
    parent: int
    command: str


def running() -> list[Process]:
    """Find the processes of this run but this one; none where there is no /proc."""
    mark, found = f"{MARK}={os.environ[MARK]}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (folder / "environ").read_bytes() or int(folder.name) == os.getpid():
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            if state != "Z":
                found.append(Process(int(folder.name), int(parent), command))
        except OSError:  # it has ended, or belongs to somebody else
            continue
    return found


def left() -> list[Process]:
    """Find the processes that will stay; the resource tracker of multiprocessing ends with this one."""
    return [process for process in running()
            if process.parent != os.getpid() or "multiprocessing.resource_tracker" not in process.command]


def until(condition, process=None, seconds=120):
    """Wait until a condition is true; fail if the process ends before that, or after these seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"the process ended with {process.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.01)


@contextmanager
def quick_processes(*modules):
    """Yield a context of multiprocessing whose processes begin at once, forked from one that has imported modules.

    That one, the fork server, would wait until every process with its pipe has ended, those that outlive a killed
    parent included, and would keep its modules for the next file of tests. So it ends here.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where the preloading looks
        yield context
    for pid in fork_servers():
        os.kill(pid, signal.SIGTERM)  # multiprocessing starts another one if it needs one
    until(lambda: not fork_servers())


def fork_servers():
    """List the fork servers that this process has started."""
    return [process.pid for process in running()
            if process.parent == os.getpid() and "multiprocessing.forkserver" in process.command]
