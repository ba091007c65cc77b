"""Layouts of data on disk: recognized by what is there, and opened part by part.

    leftImg8bit/ and gtFine/                  Cityscapes (see cityscapes.py)
    A/ and B/, or A/train/, B/train/ ...      pairs of files of the same name
    train/A/, train/B/ ..., trainA/, trainB/  the same
    train/, val/, test/ of pictures           two images side by side in each, as pix2pix has them
    a .csv file                               two columns of paths, and perhaps a third one of splits
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from streets.config.data import MAPS, PHOTOS, DataOptions, Side
from streets.data import folders
from streets.data.cityscapes import Cityscapes, splits_of
from streets.data.image_pairs import Halves, ImagePairs, TwoFiles
from streets.data.reading import LabelMaps

HALVES = "images side by side"
KNOWN = ("leftImg8bit and gtFine (Cityscapes), A and B, or train, val and test of images side by side; see Your own "
         "pairs in examples/cityscapes/README.md")


class Layout(NamedTuple):
    """Data that were recognized: the function that opens each split, ``(image_size, cities) -> data set``."""

    name: str
    splits: Mapping[str, Callable[[Sequence[int], Sequence[str]], Any]]
    has_label_maps: bool = False
    notes: Sequence[str] = ()


def recognize(root: Path, options: DataOptions, maps: LabelMaps | None = None) -> Layout:
    """Recognize the layout of a folder or of a .csv file; what is neither is an error that says what was found.

    Label maps are read as ``maps`` says, which other layouts have none of.
    """
    layout = _recognize(root, options, maps)
    if options.side is not None and layout.name != HALVES:
        raise ValueError(f"--side {options.side}: expected images side by side in {root}, got {layout.name}: leave "
                         "it out")
    return layout


def side_in(root: Path | None, side: Side | None) -> Side | None:
    """Return the side that a run takes as A, for data of images side by side; None for others, which have no sides."""
    if root is None or side is None:
        return None
    try:
        return side if _recognize(root, DataOptions(side=side)).name == HALVES else None
    except (OSError, ValueError):  # told when it is opened
        return None


def _recognize(root: Path, options: DataOptions, maps: LabelMaps | None = None) -> Layout:
    """Recognize a layout, whatever ``--side`` says of it."""
    if root.suffix.lower() == ".csv" and root.is_file():
        return _table(root, options)
    if not root.is_dir():
        there = "a file, which is no .csv" if root.exists() else "nothing"
        raise FileNotFoundError(f"expected a folder of data in {root}, got {there}: check the path")
    names, files = folders.entries(root)
    if {PHOTOS, MAPS} & {*names, root.name}:
        splits = {split: partial(_cityscapes, root, split, options, maps) for split in splits_of(root)}
        folders.check_splits([*splits], root)
        return Layout("Cityscapes", splits, has_label_maps=True)
    loose = [root / file for file in filter(folders.is_picture, files)]
    notes = [f"not used, since they lie beside the folders: {len(loose)} pictures, first {loose[0]}"] if loose else []
    if sides := _two_sides(root, names):
        return Layout("A and B", {split: partial(_two_folders, a, b, options) for split, (a, b) in sides.items()},
                      notes=notes)
    halves = {name: root / name for name in names if name in folders.SPLITS and _has_pictures(root / name)}
    if halves:
        folders.check_splits(names, root)
    elif loose:
        folders.check_splits(names, root)
        halves, notes = {"train": root}, []
    if not halves:
        raise FileNotFoundError(f"expected {KNOWN}; found {folders.described(root)} in {root}: rename what is there, "
                                "or give --dataset MODULE:FUNCTION")
    if options.side is None:
        where = next(iter(halves.values()))
        raise ValueError(f"{where} has pictures, not the folders A and B: if each of them is two images side by side, "
                         "give --side left or --side right, the half that is given as A")
    return Layout(HALVES, {name: partial(_side_by_side, folder, options.side, options)
                           for name, folder in halves.items()}, notes=notes)


def _two_sides(root: Path, names: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Find the folders A and B of each split; nothing where there are none."""
    a, b = root / "A", root / "B"
    if "A" in names and "B" in names:
        below = [folders.entries(side) for side in (a, b)]
        splits = sorted({name for side, _ in below for name in side})
        folders.check_splits(splits, root)
        if not set(splits) & set(folders.SPLITS):
            return {"train": (a, b)}
        if loose := [side / file for side, (_, files) in zip((a, b), below, strict=True) for file in files]:
            raise ValueError(f"{loose[0]} lies beside the folders {', '.join(splits)}, so it is of no split "
                             f"({len(loose)} such files in all): move it into one of them")
        return {split: (a / split, b / split) for split in splits}
    if any({f"{split}A", f"{split}B"} <= {*names} for split in folders.SPLITS):
        found = sorted({name[:-1] for name in names if name[-1] in "AB"})
        folders.check_splits(found, root)
        return {split: (root / f"{split}A", root / f"{split}B") for split in found if split}
    below_splits = {name: {"A", "B"} & {*folders.entries(root / name)[0]} for name in names}
    if all(len(sides) < 2 for sides in below_splits.values()):
        return {}
    folders.check_splits([name for name, sides in below_splits.items() if sides], root)
    return {name: (root / name / "A", root / name / "B") for name, sides in below_splits.items() if sides}


def _has_pictures(folder: Path) -> bool:
    return any(map(folders.is_picture, folders.files_below(folder)))


def _cityscapes(root: Path, split: str, options: DataOptions, maps: LabelMaps | None, size: Sequence[int],
                cities: Sequence[str]) -> Any:
    return Cityscapes(root, split, size, cities, maps, options.skip_unpaired)


def _two_folders(a: Path, b: Path, options: DataOptions, size: Sequence[int], cities: Sequence[str]) -> Any:
    """Open pairs of files that have the same name in two folders, but for its ending."""
    _check_no_cities(cities)
    for folder in (a, b):
        if not folder.is_dir():
            raise FileNotFoundError(f"expected the folders {a} and {b}, found no {folder}: add it")
    found, alone = [], []
    for folder in (a, b):
        files = folders.files_below(folder)
        found.append(folders.by_stem(folder, filter(folders.is_picture, files)))
        alone += [folder / file for file in files if not folders.is_picture(file)]
    both, unpaired = folders.matched(*found)
    wanted = f"a picture of the same name in {b} for each one in {a}, and the other way round"
    source = TwoFiles(*([side[name] for name in both] for side in found))
    return _opened(both, source, unpaired + alone, wanted, options, size)


def _side_by_side(folder: Path, side: str, options: DataOptions, size: Sequence[int], cities: Sequence[str]) -> Any:
    """Open pictures of two images side by side."""
    _check_no_cities(cities)
    files = folders.files_below(folder)
    found = folders.by_stem(folder, filter(folders.is_picture, files))
    alone = [folder / file for file in files if not folders.is_picture(file)]
    source = Halves([found[name] for name in sorted(found)], side)
    return _opened(sorted(found), source, alone, f"pictures alone in {folder}", options, size)


def _table(path: Path, options: DataOptions) -> Layout:
    """Read a .csv file: two columns of paths, A and B, as from its folder, and perhaps a third one of splits."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"expected a table in {path}, got {error}: save it as .csv in UTF-8") from error
    if rows and not any(PurePath(name).suffix for name in rows[0][:2]):  # titles
        rows = rows[1:]
    for row in rows:
        if len(row) not in (2, 3) or not all(map(folders.is_picture, row[:2])):
            raise ValueError(f"expected two columns of pictures in {path}, and perhaps one of splits, got "
                             f"{','.join(row)[:200]}: write A,B or A,B,SPLIT")
    splits: dict[str, list[list[str]]] = {}
    for row in rows:
        splits.setdefault((row[2] if len(row) == 3 else "") or "train", []).append(row)
    folders.check_splits([*splits], path)
    return Layout("a table", {split: partial(_rows, path, of, options) for split, of in splits.items()})


def _rows(path: Path, rows: Sequence[Sequence[str]], options: DataOptions, size: Sequence[int],
          cities: Sequence[str]) -> Any:
    """Open pairs that are named in the rows of a table; the file of B names a pair, since A may be in several."""
    _check_no_cities(cities)
    pairs = [(path.parent / row[0], path.parent / row[1], row[1]) for row in rows]
    # Of each folder once: asking for each file would take long on the disk of another machine.
    there = {folder: set(folders.entries(folder)[1]) if folder.is_dir() else set()
             for folder in {file.parent for a, b, _ in pairs for file in (a, b)}}
    alone = [file for a, b, _ in pairs for file in (a, b) if file.name not in there[file.parent]]
    missing = set(alone)
    whole = [pair for pair in pairs if not missing & {*pair[:2]}]
    names = [str(PurePath(name).with_suffix("")) for *_, name in whole]
    return _opened(names, TwoFiles([a for a, _, _ in whole], [b for _, b, _ in whole]), alone,
                   f"all files of {path}", options, size)


def _opened(names: Sequence[str], source: Any, alone: Sequence[Path], wanted: str, options: DataOptions,
            size: Sequence[int]) -> ImagePairs:
    """Open pairs, none of which is left out without a word."""
    notes = folders.check_partners(alone, len(names), wanted, options.skip_unpaired)
    if not names:
        raise FileNotFoundError(f"expected {wanted}, found no pair at all: check what is there")
    return ImagePairs(folders.flat_names(names), source, size, notes)


def _check_no_cities(cities: Sequence[str]) -> None:
    if cities:
        raise ValueError(f"--cities {' '.join(cities)}: cities are folders of the Cityscapes layout, which these data "
                         "do not have; leave them out")
