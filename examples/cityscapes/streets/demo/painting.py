"""Painted label maps: pictures as a browser sends them, the classes of their colours, and marks where there is none."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from streets.data.items import Item, make_item, nearest
from streets.data.label_sets import CITYSCAPES
from streets.data.labels import Label, first_place

MOST_PIXELS = 2**21
"""Largest picture that is read."""
CLOSE = 8
"""Largest distance of a colour from that of its class; the closest two classes are 20 apart."""
FRINGE = 3
"""Widest fringe of mixed colours that takes the class beside it, in pixels: brushes with soft edges leave one."""
PREFIX = "data:image/png;base64,"
PALETTE: tuple[Label, ...] = tuple(
    {label.color: label for label in reversed(CITYSCAPES.labels) if label.id >= 0}.values())[::-1]
"""Labels to paint with, one of each colour: of those that share a colour, the first in the table."""


class Painting(NamedTuple):
    """A label map as it was painted, and the pixels whose colours belong to no class."""

    ids: np.ndarray
    """Official label ids, uint8 (H, W); 0, unlabeled, where the colour belongs to no class."""
    foreign: np.ndarray
    """True where the colour belongs to no class, (H, W)."""
    note: str
    """Share, place and colour of such pixels; empty if there are none."""

    def item(self, size: tuple[int, int]) -> Item:
        """Return the item that a model of images of this size reads; its name is always the same, for the noise."""
        return make_item("painted", nearest(self.ids, size), None)

    def shown(self, size: tuple[int, int]) -> np.ndarray:
        """Paint the label map that a model of images of this size reads, hatched where the colour is of no class."""
        colors, foreign = CITYSCAPES.colorize(nearest(self.ids, size)), nearest(self.foreign, size)
        hatched = np.indices(size).sum(0) // max(1, size[0] // 32) % 2 == 0
        colors[foreign] = np.where(hatched[foreign][:, None], (255, 0, 255), (255, 255, 255))
        return colors


def read(painted: str) -> Painting:
    """Read a painted label map from a PNG file as a data URL."""
    return classify(decoded(painted))


def decoded(painted: str) -> np.ndarray:
    """Decode a data URL to colours, uint8 (H, W, 3); black, unlabeled, where nothing was painted."""
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
    return np.where(pixels[..., 3:] < 128, 0, pixels[..., :3]).astype(np.uint8)


def encoded(colors: np.ndarray) -> str:
    """Encode colours, uint8 (H, W, 3), as a data URL."""
    file = io.BytesIO()
    Image.fromarray(colors).save(file, "PNG")
    return data_url(file.getvalue())


def data_url(png: bytes) -> str:
    """Write the content of a PNG file as a data URL."""
    return PREFIX + base64.b64encode(png).decode()


def classify(colors: np.ndarray) -> Painting:
    """Find the classes of painted colours: of a close one, or of the pixels beside where colours were mixed."""
    ids, distance = nearest_classes(colors)
    ids, known = fringes(ids, distance <= CLOSE)
    foreign = ~known
    return Painting(np.where(known, ids, 0).astype(np.uint8), foreign, note(colors, foreign))


def nearest_classes(colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of the nearest colour for every pixel, and its distance."""
    wide = colors.astype(np.int32)
    ids, least = np.zeros(colors.shape[:2], np.int32), np.full(colors.shape[:2], 4 * 255**2)
    for label in PALETTE:
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


def note(colors: np.ndarray, foreign: np.ndarray) -> str:
    """Say how many pixels have a colour of no class, and where the first of them is."""
    if not foreign.any():
        return ""
    y, x = first_place(foreign)
    color = colors[y, x]
    label = next(label for label in PALETTE if label.id == nearest_classes(color[None, None])[0].item())
    return (f"{foreign.mean():.1%} of the picture has a colour that no class has, first at {x} from the left and {y} "
            f"from the top, where it is {css(color)} (the nearest is {label.name}, {css(label.color)}). These places "
            "are hatched, and count as unlabeled.")


def css(color: tuple[int, ...] | np.ndarray) -> str:
    """Write a colour as web pages do."""
    return "#{:02x}{:02x}{:02x}".format(*color)
