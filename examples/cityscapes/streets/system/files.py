"""Writing of files that are complete or absent, whenever the process or the machine stops."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to: a reader of ``path`` sees the old file or the new one, never a part of it.

        with written(out / "notes.txt") as partial:
            partial.write_text("...")

    The new file is on the disk before it takes the place of the old one. If the block fails, the old one
    stays. A process that is killed may leave ``notes.txt.partial``, which nothing reads and the next write removes.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):  # the first of the two errors is raised
            partial.unlink(missing_ok=True)
        if isinstance(error, SafetensorError) or (isinstance(error, OSError) and error.filename is None):
            raise OSError(f"{path} cannot be written: {error}") from error  # a full disk, for example
        raise
    _sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON so that a reader sees the old file or the new one, never a part of it."""
    with written(path) as partial:
        partial.write_text(json.dumps(value, indent=1, default=str) + "\n")


def sha256(*paths: Path) -> str:
    """Compute the SHA-256 of files, one after the other, in hexadecimal digits."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _sync_directory(directory: Path) -> None:
    """Write the names in a directory to the disk; does nothing where the system cannot, as on Windows."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
