"""Contents of files, and errors that name the file in which something else was found."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 2**28
"""Largest size of a file."""


def decoded(path: Path, wanted: str, decode: Callable[[bytes], Any]) -> Any:
    """Decode the bytes of a file. ValueErrors and OSErrors name the file, what was ``wanted``, and what to do."""
    with named(path, wanted):
        return decode(_content(path))


@contextmanager
def named(path: Path, wanted: str) -> Iterator[None]:
    """Name a file, and what was ``wanted`` in it, in the ValueErrors and OSErrors of reading it."""
    expected = f"expected {wanted} in {path}, got"
    try:
        yield
    except OSError as error:
        raise type(error)(f"{expected} {error.strerror or error}: check path and permissions") from error
    except ValueError as error:
        raise ValueError(f"{expected} {error}") from error
    except MemoryError as error:
        raise OSError(f"{expected} an image too large for the memory that is left: shrink it") from error


def opened(path: Path) -> BinaryIO:
    """Open a regular file."""
    if not path.is_file():  # pipes would be waited for, and devices need not end
        raise FileNotFoundError("a folder, pipe or device" if path.exists() else "no file")
    return path.open("rb")


def _content(path: Path) -> bytes:
    """Read the bytes of a file, unless it is too large or no regular file."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"a file of {size} bytes where at most {MOST_BYTES} are read: shrink it")
        return file.read(size)
