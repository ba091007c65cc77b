"""The processes that a run of the tests has started, also those whose parents have ended."""

import os
import uuid
from pathlib import Path
from typing import NamedTuple

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
