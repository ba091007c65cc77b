"""A quick look at all files of a data set, before a training that would otherwise meet a bad one hours later."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Subset

from streets.data.datasets import spread
from streets.data.png import MOST_PIXELS
from streets.system import progress

FORMATS = ("PNG",)
"""Formats whose headers are looked at; files of others are read as a whole."""
END = b"IEND\xaeB`\x82"
"""Last bytes of a whole PNG file."""
READ = 8
"""Number of pairs, spread over a data set, that are read in any case: what is wrong with all files is found there."""
THREADS = 16
"""Number of files that are opened at the same time, since each takes long on the disk of another machine."""


def check_files(dataset: Any, split: str, explained: Callable[[Exception], str] = str) -> None:
    """Refuse a data set of which a file cannot be read, or a pair has sides of two sizes.

    Of every file header and end are looked at, and a few pairs are read, which may miss damage or wrong ids in others.
    Pairs for which header or end are not as usual are read too. Drawn scenes have no files.

    Raises:
        ValueError: the first file that cannot be used, ``explained``.
    """
    indices = range(len(dataset))
    while isinstance(dataset, Subset):
        indices, dataset = [dataset.indices[index] for index in indices], dataset.dataset
    if not hasattr(dataset, "sides"):
        return
    pool = ThreadPoolExecutor(THREADS)
    try:
        looks = pool.map(lambda index: is_usual(dataset.sides(index)), indices)
        bar = progress.bar(looks, total=len(indices), desc=f"looking at files of {split}", leave=False, delay=2)
        unusual = {place for place, usual in enumerate(bar) if not usual}
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C most have not begun
    to_read = [indices[place] for place in sorted(unusual | set(spread(len(indices), READ)))]
    for index in progress.bar(to_read, desc=f"reading files of {split}", leave=False, delay=2):
        try:
            dataset[index]
        except (ValueError, OSError) as error:
            raise ValueError(explained(error)) from error


def is_usual(sides: Sequence[Path]) -> bool:
    """Tell if files are whole and of one size, as far as their headers and ends say."""
    sizes = {size_of(path) for path in sides}
    return len(sizes) == 1 and None not in sizes


def size_of(path: Path) -> tuple[int, int] | None:
    """Read the size of a picture from its header; None where that or the end of the file is not usual."""
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            file.seek(-len(END), os.SEEK_END)
            whole = image.format != "PNG" or file.read() == END
            return image.size if whole and image.width * image.height <= MOST_PIXELS else None
    except Exception:  # Pillow's errors of damaged files are of many kinds
        return None
