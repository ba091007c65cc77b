"""The orientation of a photo, as its camera wrote it into an EXIF block."""

import struct

from PIL import Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Turns that make an image upright, by its orientation."""


def upright(image: Image.Image, exif: bytes) -> Image.Image:
    """Turn an image as its EXIF block says; one that says nothing is upright."""
    turn = TURNS.get(orientation(exif))
    return image if turn is None else image.transpose(turn)


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return height and width of an image after it is made upright."""
    return (width, height) if 5 <= orientation <= 8 else (height, width)


def orientation(exif: bytes) -> int:
    """Read the orientation in an EXIF block, 1 (upright) where it has none or is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", exif, place)
            if (tag, kind, number) == (274, 3, 1):
                return value
    except struct.error:  # it ends before
        pass
    return 1
