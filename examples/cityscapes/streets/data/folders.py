"""Folders: what is in them, which of their files belong together, and what has no partner.

A folder that cannot be read is an error that names it, never an empty folder.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from streets.data.pictures import ALL_SUFFIXES

SPLITS = ("train", "val", "test")
MEANT = (*SPLITS, "training", "trn", "valid", "validation", "eval", "dev", "testing", "tst")
"""Names, in small letters, that may be meant as one of these."""
OF_SYSTEMS = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""Names that systems leave in folders; those that begin with a dot are passed over too."""


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files in a folder."""
    folders, files = [], []
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.startswith(".") and entry.name not in OF_SYSTEMS:
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def check_splits(names: Sequence[str], root: Path) -> None:
    """Refuse names of splits that may be meant as train, val or test, and are others."""
    for name in names:
        if name not in SPLITS and name.lower() in MEANT:
            raise ValueError(f"expected the splits {', '.join(SPLITS)} in {root}, found {name}: give it one of these "
                             "names, or another one altogether if it is none of them")


def files_below(folder: Path) -> list[str]:
    """Return the sorted paths of all files in a folder and in those below it, as from the folder."""
    folders, files = entries(folder)
    return sorted([*files, *(f"{name}/{file}" for name in folders for file in files_below(folder / name))])


def described(folder: Path) -> str:
    """Say what is in a folder: its first folders, and the number of its files of each kind."""
    folders, files = entries(folder)
    kinds = Counter(PurePath(file).suffix or "other" for file in files)
    more = f" and {len(folders) - 6} more" if len(folders) > 6 else ""
    parts = [f"{', '.join(folders[:6])}{more}"] if folders else []
    parts += [f"{count} {kind} file{'s' * (count > 1)}" for kind, count in kinds.most_common(4)]
    return ", ".join(parts) or "nothing"


def is_picture(file: str) -> bool:
    """Tell if a file is a picture or an array, by its name."""
    return file.lower().endswith(ALL_SUFFIXES)


def by_stem(folder: Path, files: Iterable[str]) -> dict[str, Path]:
    """Return pictures of a folder by their names without endings; two of one name are refused."""
    found: dict[str, Path] = {}
    for file in files:
        stem, path = str(PurePath(file).with_suffix("")), folder / file
        if stem in found:
            raise ValueError(f"{found[stem]} and {path} have the same name, so that either could be meant: remove or "
                             "rename one")
        found[stem] = path
    return found


def matched(first: Mapping[str, Path], second: Mapping[str, Path]) -> tuple[list[str], list[Path]]:
    """Return the names that both sides have, and the files that have no partner on the other side."""
    both = sorted(first.keys() & second.keys())
    alone = [side[name] for side in (first, second) for name in sorted(side.keys() - set(both))]
    return both, alone


def check_partners(alone: Sequence[Path], paired: int, wanted: str, skip: bool) -> list[str]:
    """Refuse files without a partner, or where ``skip`` allows to leave them out return the line that says so."""
    if not alone:
        return []
    if not skip:
        raise FileNotFoundError(f"expected {wanted}; not so {alone[0]}, the first of {len(alone)} beside {paired} "
                                "pairs: add what is missing, or leave such files out with --skip-unpaired")
    return [f"left out, without a partner: {len(alone)}, first {alone[0]}"]


def flat_name(name: str) -> str:
    """Turn a path into the name of a file, with underscores between folders."""
    return "_".join(part for part in PurePath(name).parts if part not in ("/", "..", "."))


def flat_names(names: Sequence[str]) -> list[str]:
    """Turn paths into names of files, with underscores between folders; two that become one are refused."""
    flat = [flat_name(name) for name in names]
    first: dict[str, str] = {}
    for name, path in zip(flat, names, strict=True):
        if name in first:
            raise ValueError(f"{first[name]} and {path} would both be named {name}: rename or leave out one of them")
        first[name] = path
    return flat
