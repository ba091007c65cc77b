"""Label sets: tables of the names, ids, training ids and colours of labels, and conversions between them.

A table is a CSV file of the columns ``name,id,red,green,blue,train_id``, or a JSON file with a list of objects of the
keys ``name``, ``id``, ``color`` and ``train_id``; training ids may be left out. Those in ``label_sets/`` are known by
name. A label whose id is -1 is never drawn in files; in arrays of bytes it is 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

IGNORED = 255
"""Training id of all labels that are left out of training and evaluation."""
UNKNOWN = 255
"""Value of a label map where nothing is known, to models that are given ids."""


class OtherLabels(ValueError):
    """A label map is not of the label set: where one is found, others may pass for it unnoticed."""


class Label(NamedTuple):
    """A row of a table; `color` is (red, green, blue) in 0..255, `train_id` None in a table without training ids."""

    name: str
    id: int
    train_id: int | None
    color: tuple[int, int, int]


class LabelSet:
    """Table of labels, each with a name and an id of its own; colours and training ids may be shared.

    Args:
        name: the name of the table, for messages.
        labels: its rows. Training ids are given for all labels, 255 or -1 for those left out, or for none.

    Raises:
        ValueError: the rows are no such table; the message names the row.
    """

    def __init__(self, name: str, labels: Sequence[Label]):
        self.name, self.labels = name, tuple(labels)
        self._check()
        self.has_train_ids = self.labels[0].train_id is not None
        self.classes = 1 + max(label.id for label in self.labels if label.id != UNKNOWN)
        """Number of classes of a model that is given ids: the largest id and one; 255 stands for nothing known."""
        # Tables over the 256 values of a byte; % 256 puts the id -1 at 255.
        self._known = np.zeros(256, dtype=bool)
        self._colors = np.zeros((256, 3), dtype=np.uint8)
        self._train_ids = np.full(256, IGNORED, dtype=np.uint8)
        self._of_train_id = np.zeros(256, dtype=np.uint8)
        self._trained = np.zeros(256, dtype=bool)
        for label in reversed(self.labels):  # of labels that share a training id or a colour the first one wins
            self._known[label.id % 256] = True
            self._colors[label.id % 256] = label.color
            if label.train_id is not None:
                self._train_ids[label.id % 256] = label.train_id % 256
                self._of_train_id[label.train_id % 256] = label.id % 256
                self._trained[label.train_id % 256] = True
        id_of_color = {_code(*label.color): label.id % 256 for label in reversed(self.labels)}
        self._sorted_colors = np.array(sorted(id_of_color))
        self._sorted_ids = np.array([id_of_color[code] for code in sorted(id_of_color)], dtype=np.uint8)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.labels == other.labels

    def __hash__(self) -> int:
        return hash(self.labels)

    @property
    def evaluated(self) -> dict[str, int]:
        """Names and ids of the labels that are not ignored, in the order of their training ids if there are any."""
        kept = [label for label in self.labels if 0 <= (label.train_id or 0) < IGNORED and 0 <= label.id < UNKNOWN]
        return {label.name: label.id for label in sorted(kept, key=lambda label: label.train_id or 0)}

    @property
    def names(self) -> dict[int, str]:
        """Names by id, as bytes."""
        return {label.id % 256: label.name for label in self.labels}

    def may_hold(self, value: int) -> bool:
        """Tell if a file of ids may hold a value: the id of a label, of which -1 is never drawn."""
        return any(label.id == value for label in self.labels if label.id >= 0)

    def as_bytes(self, ids: Any) -> np.ndarray:
        """Convert ids of any integer type and shape to uint8, -1 to 255. Ids outside the table raise ValueError."""
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu":
            raise ValueError(f"expected integer label ids, got {ids.dtype}: convert them to whole numbers first")
        as_index = ids.astype(np.uint8)
        unknown = ~self._known[as_index]
        least = min(label.id for label in self.labels)
        if ids.dtype != np.uint8:
            unknown |= (ids < min(least, 0)) | (ids > 255)
        if unknown.any():
            known, plate = spans(label.id for label in self.labels), " (or 255 for -1)" if least < 0 else ""
            raise OtherLabels(
                f"expected label ids {known}{plate}, got {ids[first_place(unknown)]}, first found at pixel "
                f"{first_place(unknown)}: not in the table {self.name}; give the table of these ids with --labels, or "
                "map them to this one"
            )
        return as_index

    def colorize(self, ids: Any) -> np.ndarray:
        """Paint a label map in the table's colours: ids of shape (...) to uint8 colours of shape (..., 3)."""
        return self._colors[self.as_bytes(ids)]

    def train_ids(self, ids: Any) -> np.ndarray:
        """Return the training id of every label id, `IGNORED` where it has none; uint8, same shape."""
        self._check_train_ids()
        return self._train_ids[self.as_bytes(ids)]

    def ids_from_train_ids(self, train_ids: Any) -> np.ndarray:
        """Find the label ids of training ids; those of several labels, 255 above all, become the first of them."""
        self._check_train_ids()
        train_ids = np.asarray(train_ids)
        unknown = ~self._trained[train_ids.astype(np.uint8)] | (train_ids < 0) | (train_ids > 255)
        if unknown.any():
            known = spans(np.flatnonzero(self._trained).tolist())
            raise OtherLabels(
                f"expected training ids {known} of {self.name}, got {train_ids[first_place(unknown)]}, first found at "
                f"pixel {first_place(unknown)}: give --label-values ids if these are ids, or their table with --labels"
            )
        return self._of_train_id[train_ids.astype(np.uint8)]

    def ids_from_colors(self, rgb: Any) -> np.ndarray:
        """Find the label ids of the table's colours: shape (..., 3), values 0..255, to uint8 of shape (...).

        Labels that share a colour become the first of them: of Cityscapes (0, 0, 0) is 0, unlabeled. A colour that no
        label has raises ValueError; maps that are resized by nearest neighbour and stored without loss have no such
        colour.
        """
        rgb = np.asarray(rgb)
        if rgb.dtype.kind not in "iu" or rgb.ndim == 0 or rgb.shape[-1] != 3:
            raise ValueError(f"expected integer colours of shape (..., 3), got {rgb.dtype} of shape {rgb.shape}")
        flat = rgb.reshape(-1, 3)
        ids, unknown = np.empty(len(flat), dtype=np.uint8), np.empty(len(flat), dtype=bool)
        for start in range(0, len(flat), 2**18):  # in parts: the codes take many times the memory of the image
            part = slice(start, start + 2**18)
            wide = flat[part].astype(np.int64)
            code = _code(wide[:, 0], wide[:, 1], wide[:, 2])
            nearest = np.searchsorted(self._sorted_colors, code).clip(max=len(self._sorted_colors) - 1)
            ids[part] = self._sorted_ids[nearest]
            unknown[part] = (self._sorted_colors[nearest] != code) | ((wide < 0) | (wide > 255)).any(-1)
        if unknown.any():
            first = first_place(unknown.reshape(rgb.shape[:-1]))
            raise OtherLabels(
                f"expected the colours of {self.name} alone, but none of its labels has the colour "
                f"{tuple(rgb[first].tolist())}, first found at pixel {first}"
            )
        return ids.reshape(rgb.shape[:-1])

    def _check_train_ids(self) -> None:
        """Refuse a conversion that a table without training ids cannot make."""
        if not self.has_train_ids:
            raise OtherLabels(f"expected a table with training ids, but {self.name} has none: add a column train_id, "
                              "or give ids")

    def _check(self) -> None:
        """Refuse rows that are no table."""
        if not 1 <= len(self.labels) <= 256:
            raise ValueError(f"{self.name}: expected 1 to 256 labels, got {len(self.labels)}")
        seen: Mapping[str, set] = {"id": set(), "name": set()}
        for number, label in enumerate(self.labels, 1):
            where = f"{self.name}, label {number}: expected"
            if not isinstance(label.name, str) or not label.name.strip() or not label.name.isprintable():
                raise ValueError(f"{where} a name, got {label.name!r}: give every label one")
            if type(label.id) is not int or not -1 <= label.id <= 255:
                raise ValueError(f"{where} an id from 0 to 255, or -1 for one that is never drawn, got {label.id!r}")
            if len(label.color) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in label.color):
                raise ValueError(f"{where} a colour of red, green and blue from 0 to 255, got {label.color!r}")
            if label.train_id is not None and (type(label.train_id) is not int or not -1 <= label.train_id <= 255):
                raise ValueError(f"{where} a training id from 0 to 254, or 255 for none, got {label.train_id!r}")
            if (label.train_id is None) != (self.labels[0].train_id is None):
                raise ValueError(f"{where} training ids for all labels or for none: give 255 for those left out")
            for kind, value in (("id", label.id % 256), ("name", label.name)):
                if value in seen[kind]:
                    raise ValueError(f"{where} an {kind} of its own, got {getattr(label, kind)!r} again: number and "
                                     "name every label once")
                seen[kind].add(value)
        if all(label.id in (-1, UNKNOWN) for label in self.labels):
            raise ValueError(f"{self.name}: expected a label with an id from 0 to 254, got none")


def _code(red: Any, green: Any, blue: Any) -> Any:
    """Pack a colour into one whole number."""
    return (red << 16) | (green << 8) | blue


def spans(numbers: Any) -> str:
    """Write whole numbers as spans: 0..3, 7."""
    ends: list[list[int]] = []
    for number in sorted(numbers):
        if ends and number == ends[-1][1] + 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    return ", ".join(f"{first}..{last}" if last > first else str(first) for first, last in ends)


def first_place(where: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first true element, of which there must be one."""
    return tuple(int(i) for i in np.unravel_index(where.argmax(), where.shape))
