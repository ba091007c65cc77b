"""Label table of Cityscapes: names, ids, training ids and colours of the 35 labels, and conversions between them.

The values are those of `cityscapesscripts/helpers/labels.py`. Licence plates have the id -1, which an 8-bit
file can hold as 255 alone; both are read as that label, and -1 is written as 255.
"""

from typing import Any, NamedTuple

import numpy as np

IGNORED = 255
"""Training id of all labels that are left out of training and evaluation."""
CLASSES = 34
"""Number of official ids, 0 to 33; 255 stands for -1."""
UNKNOWN = 255
"""Value of a label map where nothing is known, to models that are given ids."""


class Label(NamedTuple):
    """A row of the table; `color` is (red, green, blue) in 0..255."""

    name: str
    id: int
    train_id: int
    color: tuple[int, int, int]


LABELS = (
    Label("unlabeled", 0, 255, (0, 0, 0)),
    Label("ego vehicle", 1, 255, (0, 0, 0)),
    Label("rectification border", 2, 255, (0, 0, 0)),
    Label("out of roi", 3, 255, (0, 0, 0)),
    Label("static", 4, 255, (0, 0, 0)),
    Label("dynamic", 5, 255, (111, 74, 0)),
    Label("ground", 6, 255, (81, 0, 81)),
    Label("road", 7, 0, (128, 64, 128)),
    Label("sidewalk", 8, 1, (244, 35, 232)),
    Label("parking", 9, 255, (250, 170, 160)),
    Label("rail track", 10, 255, (230, 150, 140)),
    Label("building", 11, 2, (70, 70, 70)),
    Label("wall", 12, 3, (102, 102, 156)),
    Label("fence", 13, 4, (190, 153, 153)),
    Label("guard rail", 14, 255, (180, 165, 180)),
    Label("bridge", 15, 255, (150, 100, 100)),
    Label("tunnel", 16, 255, (150, 120, 90)),
    Label("pole", 17, 5, (153, 153, 153)),
    Label("polegroup", 18, 255, (153, 153, 153)),
    Label("traffic light", 19, 6, (250, 170, 30)),
    Label("traffic sign", 20, 7, (220, 220, 0)),
    Label("vegetation", 21, 8, (107, 142, 35)),
    Label("terrain", 22, 9, (152, 251, 152)),
    Label("sky", 23, 10, (70, 130, 180)),
    Label("person", 24, 11, (220, 20, 60)),
    Label("rider", 25, 12, (255, 0, 0)),
    Label("car", 26, 13, (0, 0, 142)),
    Label("truck", 27, 14, (0, 0, 70)),
    Label("bus", 28, 15, (0, 60, 100)),
    Label("caravan", 29, 255, (0, 0, 90)),
    Label("trailer", 30, 255, (0, 0, 110)),
    Label("train", 31, 16, (0, 80, 100)),
    Label("motorcycle", 32, 17, (0, 0, 230)),
    Label("bicycle", 33, 18, (119, 11, 32)),
    Label("license plate", -1, -1, (0, 0, 142)),
)

# Tables over the 256 values of a byte; % 256 puts the id -1 at 255.
_KNOWN = np.zeros(256, dtype=bool)
_COLORS = np.zeros((256, 3), dtype=np.uint8)
_TRAIN_IDS = np.full(256, IGNORED, dtype=np.uint8)
for _label in LABELS:
    _KNOWN[_label.id % 256] = True
    _COLORS[_label.id % 256] = _label.color
    _TRAIN_IDS[_label.id % 256] = _label.train_id % 256

# Some labels share a colour. In the order of the table the first one wins: unlabeled, pole, car.
_ID_OF_COLOR = {(r << 16) | (g << 8) | b: i for _, i, _, (r, g, b) in reversed(LABELS)}
_SORTED_COLORS = np.array(sorted(_ID_OF_COLOR))
_SORTED_IDS = np.array([_ID_OF_COLOR[c] for c in sorted(_ID_OF_COLOR)], dtype=np.uint8)


def as_bytes(ids: Any) -> np.ndarray:
    """Convert label ids of any integer type and shape to uint8, -1 to 255. Ids outside the table raise ValueError."""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise ValueError(f"expected integer label ids, got {ids.dtype}: convert them to whole numbers first")
    as_index = ids.astype(np.uint8)
    unknown = ~_KNOWN[as_index]
    if ids.dtype != np.uint8:
        unknown |= (ids < -1) | (ids > 255)
    if unknown.any():
        raise ValueError(
            f"expected label ids -1..33 (or 255 for -1), got {ids[first_place(unknown)]}, first found at pixel "
            f"{first_place(unknown)}: not in the Cityscapes table, to which ids of other tables must be mapped"
        )
    return as_index


def colorize(ids: Any) -> np.ndarray:
    """Paint a label map in the official colours: ids of shape (...) to uint8 colours of shape (..., 3)."""
    return _COLORS[as_bytes(ids)]


def train_ids(ids: Any) -> np.ndarray:
    """Return the training id 0..18 of every label id, `IGNORED` where it has none; uint8, same shape."""
    return _TRAIN_IDS[as_bytes(ids)]


def ids_from_colors(rgb: Any) -> np.ndarray:
    """Find the label ids of official colours: shape (..., 3), values 0..255, to uint8 of shape (...).

    Labels that share a colour become the first of them: (0, 0, 0) is 0, unlabeled. A colour that no label has
    raises ValueError; maps that are resized by nearest neighbour and stored without loss have no such colour.
    """
    rgb = np.asarray(rgb)
    if rgb.dtype.kind not in "iu" or rgb.ndim == 0 or rgb.shape[-1] != 3:
        raise ValueError(f"expected integer colours of shape (..., 3), got {rgb.dtype} of shape {rgb.shape}")
    flat = rgb.reshape(-1, 3)
    ids, unknown = np.empty(len(flat), dtype=np.uint8), np.empty(len(flat), dtype=bool)
    for start in range(0, len(flat), 2**18):  # in parts: the codes take many times the memory of the image
        part = slice(start, start + 2**18)
        wide = flat[part].astype(np.int64)
        code = (wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2]
        nearest = np.searchsorted(_SORTED_COLORS, code).clip(max=len(_SORTED_COLORS) - 1)
        ids[part] = _SORTED_IDS[nearest]
        unknown[part] = (_SORTED_COLORS[nearest] != code) | ((wide < 0) | (wide > 255)).any(-1)
    if unknown.any():
        first = first_place(unknown.reshape(rgb.shape[:-1]))
        raise ValueError(
            f"expected official colours alone, but no Cityscapes label has the colour {tuple(rgb[first].tolist())}, "
            f"first found at pixel {first}"
        )
    return ids.reshape(rgb.shape[:-1])


def first_place(where: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first true element, of which there must be one."""
    return tuple(int(i) for i in np.unravel_index(where.argmax(), where.shape))
