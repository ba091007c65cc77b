"""Data set of pairs of images, wherever they are from: two files each, halves of a file, or objects of a program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from streets.data import pictures
from streets.data.crops import Window, cut
from streets.data.items import Item, checked_size, smooth_values
from streets.data.pixels import PairPixels, Pixels
from streets.data.png import Picture


class Source(Protocol):
    """A place that pairs are from."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the images A and B of a pair, each (height, width, channels), uint8 or uint16."""
        ...

    def place(self, index: int) -> tuple[object, object]:
        """Name the images A and B of a pair in a message."""
        ...

    def sides(self, index: int) -> dict[str, Path]:
        """Return the files of a pair, by what they are."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image B of a pair."""
        ...


class TwoFiles(NamedTuple):
    """Pairs of which each image has a file of its own."""

    first: list[Path]
    second: list[Path]

    def __len__(self) -> int:
        return len(self.first)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return pictures.values(self.first[index]), pictures.values(self.second[index])

    def place(self, index: int) -> tuple[object, object]:
        return self.first[index], self.second[index]

    def sides(self, index: int) -> dict[str, Path]:
        return {"A": self.first[index], "B": self.second[index]}

    def size(self, index: int) -> tuple[int, int]:
        return pictures.size_of(self.second[index])


class Halves(NamedTuple):
    """Pairs of which both images are in one file, side by side: A is the left or the right half."""

    files: list[Path]
    side: str

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        both = pictures.values(self.files[index])
        width = both.shape[1]
        if width % 2:
            raise ValueError(f"expected two images side by side in {self.files[index]}, got an odd width of {width}: "
                             "save it with two halves of one width")
        left, right = both[:, :width // 2], both[:, width // 2:]
        return (left, right) if self.side == "left" else (right, left)

    def place(self, index: int) -> tuple[object, object]:
        left, right = f"the left half of {self.files[index]}", f"the right half of {self.files[index]}"
        return (left, right) if self.side == "left" else (right, left)

    def sides(self, index: int) -> dict[str, Path]:
        return {"A beside B": self.files[index]}

    def size(self, index: int) -> tuple[int, int]:
        height, width = pictures.size_of(self.files[index])
        return height, width // 2


class Objects(NamedTuple):
    """Pairs of a program: a sequence of images or arrays (A, B)."""

    pairs: Sequence[Sequence[Any]]
    origin: str

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            first, second = self.pairs[index]
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(f"expected two images (A, B) as pair {index} of {self.origin}, got "
                             f"{type(error).__name__}: {error}: return tuples of two images") from error
        return values_of(first, self.place(index)[0]), values_of(second, self.place(index)[1])

    def place(self, index: int) -> tuple[object, object]:
        return f"A of pair {index} of {self.origin}", f"B of pair {index} of {self.origin}"

    def sides(self, index: int) -> dict[str, Path]:
        return {}

    def size(self, index: int) -> tuple[int, int]:
        height, width, _ = self.read(index)[1].shape
        return height, width


class ImagePairs(Dataset[Item]):
    """Pairs of a source by name. A is the ``condition`` of an item and B the ``photo``; both fill the image size.

    All images A have the number of channels and the bits of the first that can be read, and all images B likewise.
    ``notes`` are lines on what was left out.
    """

    has_label_maps, one_size = False, False

    def __init__(self, names: Sequence[str], source: Source, image_size: Sequence[int], notes: Sequence[str] = ()):
        self.names, self.source, self.image_size = list(names), source, checked_size(image_size)
        self.notes = tuple(notes)
        self.pixels, self.first = self._first()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Item:
        return self.read(index)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image B of a pair."""
        return self.source.size(index)

    def sides(self, index: int) -> dict[str, Path]:
        """Return the files of a pair, by what they are."""
        return self.source.sides(index)

    def read(self, index: int, window: Window | None = None) -> Item:
        """Read an item, or a window of it that is resized to the image size."""
        item: Item = {"name": self.names[index]}
        there = zip(PairPixels._fields, self.source.read(index), self.source.place(index), self.first, strict=True)
        for kind, image, place, first in there:
            expected = getattr(self.pixels, kind)
            if pixels_of_values(image) != expected:
                raise ValueError(f"expected {expected} in {place}, as in {first}, got {pixels_of_values(image)}: "
                                 "convert it to the same kind of image")
            item[kind] = smooth_values(cut(image, window), self.image_size)
        return item

    def _first(self) -> tuple[PairPixels, tuple[object, object]]:
        """Return the pixels of the first pair that can be read, and the names of its images."""
        errors: list[Exception] = []
        for index in range(len(self.names)):
            try:
                pair = self.source.read(index)
            except (ValueError, OSError) as error:
                errors.append(error)
                continue
            return PairPixels(*map(pixels_of_values, pair)), self.source.place(index)
        raise errors[0]


def pixels_of_values(image: np.ndarray) -> Pixels:
    """Return the pixels of an array (height, width, channels)."""
    return Pixels(image.shape[2], 8 * image.itemsize)


def read_image(path: Path, kind: str, pixels: Pixels, image_size: Sequence[int]) -> Item:
    """Read an item of a single image, ``condition`` or ``photo``, and a name from a file of such pixels."""
    image = pictures.values(path)
    if pixels_of_values(image) != pixels:
        raise ValueError(f"expected {pixels} in {path}, as in the training, got {pixels_of_values(image)}: convert it "
                         "to the same kind of image")
    return {kind: smooth_values(image, checked_size(image_size)), "name": path.stem}


def values_of(image: Any, place: object) -> np.ndarray:
    """Return an image of a program, of Pillow or an array, as an array (height, width, channels)."""
    if isinstance(image, Image.Image):
        if image.mode not in pictures.MODES:
            raise ValueError(f"expected an image in grey or RGB as {place}, got the mode {image.mode}: convert it, or "
                             "give an array of uint8 or uint16")
        return pictures.values_of(Picture(image, *pictures.MODES[image.mode]))
    found = np.asarray(image)
    whole = found.dtype.kind == "u" and found.dtype.itemsize <= 2 and found.ndim in (2, 3) and found.size
    if not whole or (*found.shape, 1)[2] > pictures.MOST_CHANNELS:
        raise ValueError(f"expected an image of Pillow, or an array of uint8 or uint16 of shape (height, width) or "
                         f"(height, width, channels), of at most {pictures.MOST_CHANNELS} channels, as {place}, got "
                         f"{found.dtype} of shape {found.shape}: convert it")
    return (found[..., None] if found.ndim == 2 else found).astype(found.dtype.newbyteorder("="), copy=False)
