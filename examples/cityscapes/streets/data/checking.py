"""A quick look at all files of a data set, before a training that would otherwise meet a bad one hours later."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from streets.data.datasets import spread
from streets.data.png import MOST_PIXELS
from streets.system import progress

ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
"""Last bytes of whole files of those formats whose headers are looked at; files of others are read as a whole."""
READ = 8
"""Number of pairs, spread over a data set, that are read in any case: what is wrong with all files is found there."""
THREADS = 16
"""Number of files that are opened at the same time, since each takes long on the disk of another machine."""


def check_files(dataset: Any, split: str, explained: Callable[[Exception], str] = str) -> None:
    """Refuse a data set of which a file cannot be used.

    Of every file header and end are looked at, and a few pairs are read, which may miss damage or wrong ids in others.
    Pairs for which header or end are not as usual, or as of the first pair, are read too.

    Raises:
        ValueError: the first file that cannot be used, ``explained``.
    """
    pool = ThreadPoolExecutor(THREADS)
    try:
        looked = functools.cache(look)  # tiles share their files
        looks = pool.map(lambda index: [looked(path) for path in dataset.sides(index).values()], range(len(dataset)))
        bar = progress.bar(looks, total=len(dataset), desc=f"looking at files of {split}", leave=False, delay=2)
        unusual, first = set(), None
        for index, seen in enumerate(bar):
            known = [each for each in seen if each is not None]
            first = first or (known if known == seen else None)
            if known != seen or not alike(known, first or known, dataset.one_size):
                unusual.add(index)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C most have not begun
    to_read = sorted(unusual | set(spread(len(dataset), READ)))
    for index in progress.bar(to_read, desc=f"reading files of {split}", leave=False, delay=2):
        try:
            dataset[index]
        except (ValueError, OSError) as error:
            raise ValueError(explained(error)) from error


class Look(NamedTuple):
    """Size and mode of a picture, as its header says."""

    size: tuple[int, int]
    mode: str


def alike(sides: Sequence[Look], first: Sequence[Look], one_size: bool) -> bool:
    """Tell if the files of a pair have the modes of the first pair's, and one size if they are to."""
    modes = [side.mode for side in sides] == [side.mode for side in first]
    return modes and (not one_size or len({side.size for side in sides}) == 1)


def look(path: Path) -> Look | None:
    """Look at header and end of a picture; None where one of them is not usual."""
    if not path.is_file():  # opening a pipe would wait for its other end
        return None
    try:
        with path.open("rb") as file, Image.open(file, formats=tuple(ENDS)) as image:
            end = ENDS[image.format or ""]
            file.seek(-len(end), os.SEEK_END)
            whole = file.read() == end and image.width * image.height <= MOST_PIXELS
            return Look(image.size, image.mode) if whole else None
    except Exception:  # Pillow's errors of damaged files are of many kinds
        return None
