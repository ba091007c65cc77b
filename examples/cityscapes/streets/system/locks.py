"""One writer for each directory: a second process is told which one writes there, and ends."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from errno import ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path

from filelock import FileLock, Timeout

from streets.system import files

LOCK, WRITER = ".lock", ".writer.json"
"""The file that is locked, and the file that says who holds it; both are there while a process writes."""
WITHOUT_LOCKS = {ENOLCK, ENOSYS, EOPNOTSUPP}
"""Errors of file systems that have no locks, such as some network mounts."""


@contextmanager
def one_writer(directory: Path) -> Iterator[None]:
    """Hold a directory for this process, so that no other writes into it; a missing directory is made.

    The lock is the operating system's: it ends with the block or with the process, SIGKILL included, and holds across
    machines as far as the file system carries locks. A directory that was made here and stays empty is removed.

    Raises:
        ValueError: another process holds it, of which the message names host and number.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"--out {directory} is being written by {_writer(directory)}: wait until that process has "
                         "ended, or give another directory") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            raise
        print(f"{directory} is on a file system without locks ({error}): nothing keeps a second process out",
              flush=True)
    try:
        files.write_json(directory / WRITER, {"host": socket.gethostname(), "process": os.getpid(),
                                              "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"})
        yield
    finally:
        with suppress(OSError):
            for name in (WRITER, LOCK):  # under the lock: who has the file open already, finds it gone and is refused
                (directory / name).unlink(missing_ok=True)
            for path in made:  # if they are empty
                path.rmdir()
        lock.release()


def contents(directory: Path) -> Iterator[Path]:
    """List a directory without the files of its lock."""
    return (path for path in directory.iterdir() if not path.name.startswith((LOCK, WRITER)))


def _writer(directory: Path) -> str:
    try:
        facts = json.loads((directory / WRITER).read_text())
        return f"process {facts['process']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, LookupError, TypeError):  # it has only just begun
        return "another process"
