"""The files of a run directory: refused where it is in use, made, begun and gone on with."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streets.runs.checkpoints import PATTERN
from streets.runs.configuration import read_config, versions
from streets.runs.weights import WEIGHTS
from streets.system import files
from streets.system.locks import contents, one_writer

OWN = ("config.json", f"checkpoints/{PATTERN}", "checkpoints/*.partial", "metrics.csv", "metrics.csv.damaged",
       *WEIGHTS.values(), "curves.png", "events.out.tfevents.*", "samples/epoch_*.png")
"""Files of a run, in the order in which a new one removes those of an earlier one: if it is killed meanwhile, what is
left is not taken for a run to go on with."""


@contextmanager
def writing(out: Path, overwrite: bool) -> Iterator[None]:
    """Hold a directory to write into, until the end of the block: nobody else writes there meanwhile.

    Raises:
        ValueError: it is no directory, another process writes into it, or without ``overwrite`` it is not empty.
    """
    there = next(path for path in (out, *out.parents) if os.path.lexists(path) or path == path.parent)
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is no directory: give another")
    with one_writer(out):
        if not overwrite:
            check_free(out, contents(out))
        yield


def check_free(out: Path, found: Iterable[Path]) -> None:
    """Refuse a directory in which anything was found."""
    if any(found):
        raise ValueError(f"--out {out} is in use: give another, or --overwrite to replace files of the same names")


def create(out: Path, config: dict[str, Any]) -> None:
    """Make the directory of a run, without the files of an earlier run, and write its configuration."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in OWN:
        for file in out.glob(pattern):
            file.unlink()
    files.write_json(out / "config.json", config | {"versions": versions()})
    (out / "samples").mkdir(exist_ok=True)


def update(out: Path, config: dict[str, Any]) -> None:
    """Write the configuration that a run goes on with."""
    files.write_json(out / "config.json", read_config(out) | config)
    (out / "samples").mkdir(exist_ok=True)
