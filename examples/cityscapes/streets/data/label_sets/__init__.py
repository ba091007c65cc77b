"""Label sets that are known by name, and the reading of others from CSV and JSON files.

    cityscapes = read("cityscapes")
    own = read("my_labels.csv")

Where each table is from is in the README of the application.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streets.data.labels import Label, LabelSet

FOLDER = Path(__file__).parent
SAME = {"kitti": "cityscapes"}
"""Names of label sets whose table is that of another."""
MOST_BYTES = 2**20
"""Largest size of a table's file."""
NEEDED = ("name", "id", "red", "green", "blue")
"""Columns that a CSV file must have."""


def names() -> list[str]:
    """List the names of the label sets that come with the application."""
    return sorted([*SAME, *(path.stem for path in FOLDER.glob("*.csv"))])


def read(given: str) -> LabelSet:
    """Read the label set of a name or of a file; ValueErrors and FileNotFoundErrors say what was expected."""
    if given in names():
        return LabelSet(given, _rows(FOLDER / f"{SAME.get(given, given)}.csv"))
    path = Path(given)
    if path.suffix.lower() not in (".csv", ".json") or not path.is_file():
        raise FileNotFoundError(f"--labels {given}: expected {', '.join(names())} or a .csv or .json file, found no "
                                "such file: check the name")
    return LabelSet(path.name, _rows(path))


def stored_name(given: str) -> str:
    """Return the name of a label set, or the whole path of its file."""
    return str(Path(given).resolve()) if given not in names() and Path(given).is_file() else given


def as_table(labels: LabelSet) -> list[dict[str, Any]]:
    """Return a label set as JSON keeps it."""
    return [{"name": label.name, "id": label.id, "color": list(label.color), "train_id": label.train_id}
            for label in labels.labels]


def from_table(name: str, table: Any) -> LabelSet:
    """Return the label set of a JSON table."""
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        raise ValueError(f"{name}: expected a list of objects with name, id and color, got {type(table).__name__}: see "
                         "Other label sets in examples/cityscapes/README.md")
    return LabelSet(name, [_label(row) for row in table])


def of_config(config: Mapping[str, Any]) -> LabelSet:
    """Return the label set of a run's configuration, which keeps its name or, of a file, its table."""
    given = config.get("labels", "cityscapes")
    return from_table(Path(given).name, config["label_table"]) if config.get("label_table") else read(given)


def _rows(path: Path) -> Sequence[Label]:
    """Read the rows of a file."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        text = content.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            return from_table(path.name, json.loads(text)).labels
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        missing = [column for column in NEEDED if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}")
        return [_label(dict(row) | {"color": [_whole(row[channel]) for channel in NEEDED[2:]], "id": _whole(row["id"]),
                                    "train_id": _whole(row.get("train_id"))}) for row in reader]
    except (csv.Error, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: expected a table of labels, a CSV file of {','.join(NEEDED)} and train_id or a JSON "
                         f"list of objects, got {error}") from error


def _label(row: Mapping[str, Any]) -> Label:
    """Make a label of a row; `LabelSet` checks its values."""
    color = row.get("color")
    return Label(row.get("name", ""), row.get("id", None), row.get("train_id"),  # type: ignore[arg-type]
                 tuple(color) if isinstance(color, list) else ())  # type: ignore[arg-type]


def _whole(text: str | None) -> Any:
    """Turn text into a whole number, None if it is empty; other text stays, and is refused with its row."""
    try:
        return int(text) if text is not None and text.strip() else None
    except (TypeError, ValueError):
        return text


CITYSCAPES = read("cityscapes")
"""The label set that is meant where none is named."""
