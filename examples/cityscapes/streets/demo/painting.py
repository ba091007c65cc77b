"""Painted label maps: pictures as a browser sends them, the classes of their colours, and marks where there is none."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from streets.data.items import Item, make_item, nearest
from streets.data.label_sets import CITYSCAPES
from streets.data.labels import LabelSet, first_place

MOST_PIXELS = 2**21
"""Largest picture that is read."""
CLOSE = 8.0
"""Largest distance of a colour from that of its class, where no two classes are closer than twice that."""
FRINGE = 3
"""Widest fringe of mixed colours that takes the class beside it, in pixels: brushes with soft edges leave one."""
PREFIX = "data:image/png;base64,"


class Palette:
    """Labels to paint with, one of each colour: of those that share a colour, the first in the table.

    The first of all stands where the colour belongs to no class: of Cityscapes it is unlabeled.
    """

    def __init__(self, label_set: LabelSet):
        self.label_set = label_set
        drawn = [label for label in label_set.labels if label.id >= 0]
        self.labels = tuple({label.color: label for label in reversed(drawn)}.values())[::-1]
        self.blank = drawn[0]
        colors = np.array([label.color for label in self.labels], float)
        apart = np.sqrt(((colors[:, None] - colors) ** 2).sum(-1))[~np.eye(len(colors), dtype=bool)]
        self.close = min(CLOSE, apart.min(initial=4 * CLOSE) / 2.5)
        """Largest distance of a colour from that of its class."""


PALETTE = Palette(CITYSCAPES)


class Painting(NamedTuple):
    """A label map as it was painted, and the pixels whose colours belong to no class."""

    label_set: LabelSet
    ids: np.ndarray
    """Label ids, uint8 (H, W); that of the palette's first label where the colour belongs to no class."""
    foreign: np.ndarray
    """True where the colour belongs to no class, (H, W)."""
    note: str
    """Share, place and colour of such pixels; empty if there are none."""

    def item(self, size: tuple[int, int]) -> Item:
        """Return the item that a model of images of this size reads; its name is always the same, for the noise."""
        return make_item("painted", nearest(self.ids, size), None, self.label_set)

    def shown(self, size: tuple[int, int]) -> np.ndarray:
        """Paint the label map that a model of images of this size reads, hatched where the colour is of no class."""
        colors, foreign = self.label_set.colorize(nearest(self.ids, size)), nearest(self.foreign, size)
        hatched = np.indices(size).sum(0) // max(1, size[0] // 32) % 2 == 0
        colors[foreign] = np.where(hatched[foreign][:, None], (255, 0, 255), (255, 255, 255))
        return colors


def read(painted: str, palette: Palette = PALETTE) -> Painting:
    """Read a painted label map from a PNG file as a data URL."""
    return classify(decoded(painted, palette.blank.color), palette)


def decoded(painted: str, blank: Sequence[int]) -> np.ndarray:
    """Decode a data URL to colours, uint8 (H, W, 3); the colour ``blank`` where nothing was painted."""
    try:
        if not painted.startswith(PREFIX):
            raise ValueError("it is no PNG")
        file = io.BytesIO(base64.b64decode(painted.removeprefix(PREFIX), validate=True))
        with Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels, {MOST_PIXELS} are possible")
            pixels = np.array(image.convert("RGBA"))
    except (ValueError, OSError, AttributeError, SyntaxError) as error:  # SyntaxError: Pillow's of a broken PNG
        raise ValueError(f"expected a painted label map, got a picture that cannot be read ({error}): reload the page "
                         "and paint again") from error
    return np.where(pixels[..., 3:] < 128, blank, pixels[..., :3]).astype(np.uint8)


def encoded(colors: np.ndarray) -> str:
    """Encode colours, uint8 (H, W, 3), as a data URL."""
    file = io.BytesIO()
    Image.fromarray(colors).save(file, "PNG")
    return data_url(file.getvalue())


def data_url(png: bytes) -> str:
    """Write the content of a PNG file as a data URL."""
    return PREFIX + base64.b64encode(png).decode()


def classify(colors: np.ndarray, palette: Palette = PALETTE) -> Painting:
    """Find the classes of painted colours: of a close one, or of the pixels beside where colours were mixed."""
    ids, distance = nearest_classes(colors, palette)
    ids, known = fringes(ids, distance <= palette.close)
    ids, foreign = np.where(known, ids, palette.blank.id).astype(np.uint8), ~known
    return Painting(palette.label_set, ids, foreign, note(colors, foreign, palette))


def nearest_classes(colors: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of the nearest colour for every pixel, and its distance."""
    wide = colors.astype(np.int32)
    ids, least = np.zeros(colors.shape[:2], np.int32), np.full(colors.shape[:2], 4 * 255**2)
    for label in palette.labels:
        distance = ((wide - label.color) ** 2).sum(-1)
        closer = distance < least
        ids[closer], least[closer] = label.id, distance[closer]
    return ids, np.sqrt(least)


def fringes(ids: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give pixels of no class the class of a neighbour that has one, as far as fringes are wide."""
    found = np.where(known, ids, -1)
    for _ in range(FRINGE):
        padded = np.pad(found, 1, constant_values=-1)
        beside = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]).max(0)
        found = np.where(found < 0, beside, found)
    return found, found >= 0


def note(colors: np.ndarray, foreign: np.ndarray, palette: Palette) -> str:
    """Say how many pixels have a colour of no class, and where the first of them is."""
    if not foreign.any():
        return ""
    y, x = first_place(foreign)
    color = colors[y, x]
    nearest_id = nearest_classes(color[None, None], palette)[0].item()
    label = next(label for label in palette.labels if label.id == nearest_id)
    return (f"{foreign.mean():.1%} of the picture has a colour that no class has, first at {x} from the left and {y} "
            f"from the top, where it is {css(color)} (the nearest is {label.name}, {css(label.color)}). These places "
            f"are hatched, and count as {palette.blank.name}.")


def css(color: tuple[int, ...] | np.ndarray) -> str:
    """Write a colour as web pages do."""
    return "#{:02x}{:02x}{:02x}".format(*color)
