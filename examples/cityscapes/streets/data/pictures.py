"""Reading of pictures of several formats: PNG, JPEG, WebP and TIFF, and arrays of numpy for all else.

The format is told by the first bytes of a file, not by its name. PNG files are read by ``png``, whose checks Pillow
lacks; the others by Pillow, of whose formats no other is open. Sizes are checked before anything is decoded, and
pictures are upright as their EXIF says.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from PIL import ExifTags, Image, TiffImagePlugin

from streets.data import contents, png
from streets.data.exif import orientation, upright, upright_size
from streets.data.png import Picture

FORMATS = ("JPEG", "WEBP", "TIFF")
"""Formats that Pillow may read, by its names for them."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""Endings of the names of pictures, in small letters."""
ALL_SUFFIXES = (*SUFFIXES, ".npy")
"""Endings of the names of pictures and arrays."""
WANTED = "a readable PNG, JPEG, WebP or TIFF"
# By Pillow's mode: the name of one of `png.KINDS`, and the bits of a channel.
MODES = {"1": ("grey", 1), "L": ("grey", 8), "LA": ("grey with alpha", 8), "P": ("palette", 8), "RGB": ("RGB", 8),
         "RGBA": ("RGB with alpha", 8), "RGBX": ("RGB with alpha", 8), "I;16": ("grey", 16), "I;16B": ("grey", 16),
         "I;16L": ("grey", 16)}
BITS_OF_SAMPLES = 258
"""Tag of a TIFF file: the bits of each channel, of which Pillow keeps 8 in colours."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}
"""Readers of the header of an array, by the version of the format; 3 differs from 2 in the names of fields alone."""
MOST_CHANNELS = 32
"""Largest number of channels of an array."""


def read(path: Path) -> Picture:
    """Read a picture. ValueErrors and OSErrors name the file, say what it is, and what to do."""
    return contents.decoded(path, WANTED, decode)


def decode(content: bytes) -> Picture:
    """Decode the bytes of a picture. ValueErrors say what they are instead, and what to do."""
    if content.startswith(png.SIGNATURE):
        return png.decode(content)
    with _opened_by_pillow(io.BytesIO(content)) as image:
        _check(image)
        image.load()
    kind, depth = MODES[image.mode]
    # Pillow turns TIFF files itself.
    return Picture(image if image.format == "TIFF" else upright(image, _exif(image)), kind, depth)


@contextmanager
def _opened_by_pillow(file: BinaryIO) -> Iterator[Image.Image]:
    """Open a picture of another format than PNG. ValueErrors say what it is instead, and what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes and tags, which are looked at here
        try:
            with Image.open(file, formats=FORMATS) as image:
                yield image
        except Image.UnidentifiedImageError as error:
            file.seek(0)
            raise png.of_another_format(file.read(16), "convert it to PNG") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"an image of more than {png.MOST_PIXELS} pixels: shrink it") from error
        except (png.Refused, MemoryError):
            raise
        except Exception as error:  # Pillow's errors of damaged files are of many kinds
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"one that is damaged or cut off ({reason}): fetch the file again") from error


def _exif(image: Image.Image) -> bytes:
    """Return the EXIF block of an opened picture."""
    return image.info.get("exif", b"").removeprefix(b"Exif\0\0")


def _check(image: Image.Image) -> None:
    """Refuse a picture that is too large, one of several, or not of grey or colours, before its pixels are decoded."""
    png.check_size(*image.size)
    # A photo of a telephone may hold further ones, of which the first is the photo.
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise png.Refused(f"a {image.format} of {frames} pictures where one is read: save one of them as a plain PNG")
    kind, depth = MODES.get(image.mode, ("", 0))
    bits = max(getattr(image, "tag_v2", {}).get(BITS_OF_SAMPLES, (depth,)))
    if not kind or (bits > 8 and kind != "grey"):
        raise png.Refused(f"a {image.format} of mode {image.mode}, {bits or 8} bits a channel: save it in grey or RGB "
                          "of 8 bits, in grey of 16 bits, or as an array in a .npy file")


def size_of(path: Path) -> tuple[int, int]:
    """Return height and width of a picture or of an array, upright, from its header alone, as :func:`values` reads it.

    ValueErrors and OSErrors name the file, say what it is, and what to do.
    """
    array = path.suffix.lower() == ".npy"
    with contents.named(path, "a readable .npy file" if array else WANTED), contents.opened(path) as file:
        if array:
            shape, _, _ = header_of_array(file)
            _check_shape(shape)
            height, width, *_ = shape
            return height, width
        if file.read(len(png.SIGNATURE)) == png.SIGNATURE:
            return png.size_of(file)
        with _opened_by_pillow(file) as image:
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # some releases of Pillow have turned its size
                height, width = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageLength, ExifTags.Base.ImageWidth))
                return upright_size(height, width, image.getexif().get(ExifTags.Base.Orientation, 1))
            return upright_size(image.height, image.width, orientation(_exif(image)))


def values(path: Path) -> np.ndarray:
    """Read a picture or an array as ``(height, width, channels)``, of 8 bits (uint8) or 16 (uint16).

    Grey stays one channel, a palette is looked up, and transparency is dropped.
    """
    if path.suffix.lower() == ".npy":
        return contents.decoded(path, "a readable .npy file", decode_array)
    return contents.decoded(path, WANTED, lambda content: values_of(decode(content)))


def values_of(picture: Picture) -> np.ndarray:
    """Return the values of a picture ``(height, width, channels)``, as :func:`values` does."""
    if picture.depth > 8:
        if picture.kind != "grey":
            raise ValueError(f"{picture}, of which no more than 8 bits can be read: save it as an array in a .npy file")
        return np.asarray(picture.image).astype(np.uint16)[..., None]
    # By way of RGBA, since Pillow would warn of a palette with transparency. Alpha is dropped, not blended.
    image = picture.image.convert("L") if "grey" in picture.kind else picture.image.convert("RGBA").convert("RGB")
    found = np.array(image)
    return found[..., None] if found.ndim == 2 else found


def decode_array(content: bytes) -> np.ndarray:
    """Decode the bytes of a .npy file, without any code in it. ValueErrors say what they are instead."""
    file = io.BytesIO(content)
    shape, by_columns, kind = header_of_array(file)
    if kind.kind != "u" or kind.itemsize > 2:
        raise ValueError(f"an array of {kind}: save it as uint8 for 8 bits or uint16 for 16 bits")
    _check_shape(shape)
    data = content[file.tell():]
    if len(data) != np.prod(shape, dtype=np.int64) * kind.itemsize:
        raise ValueError(f"one of {len(data)} bytes of values, too few or too many for an array of shape {shape}: save "
                         "it again")
    found = np.frombuffer(data, kind).reshape(shape, order="F" if by_columns else "C")
    return (found[..., None] if len(shape) == 2 else found).astype(kind.newbyteorder("="))


def _check_shape(shape: Sequence[int]) -> None:
    """Refuse an array that is no image, or too large a one."""
    if not (len(shape) in (2, 3) and min(shape) > 0 and (*shape, 1)[2] <= MOST_CHANNELS):
        raise ValueError(f"an array of shape {tuple(shape)}: save it as (height, width), or (height, width, channels) "
                         f"with at most {MOST_CHANNELS} channels")
    png.check_size(shape[1], shape[0])


def header_of_array(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order (by columns or not) and type of a .npy file, which is then read up to its values."""
    try:
        return HEADERS[npy.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise ValueError("one that is no array of numpy, or damaged: save it again with numpy.save") from error
