"""Reading of PNG files: an upright picture, or one line that says what is wrong with the file, whatever it holds.

Limits are checked before anything is decoded. All chunks are checked here, and Pillow is given only those that hold
pixels and colours: no text, profiles or EXIF, which may be damaged or unfold to gigabytes, and no animation. These
chunks are complete, so Pillow's global limits and options, which other code may set, change nothing.
"""

import io
import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, PngImagePlugin

from streets.data import contents
from streets.data.exif import orientation, upright, upright_size

MOST_PIXELS = 2**26
"""Largest number of pixels; the photos of Cityscapes have 2**21. Reading such an image takes about a gigabyte."""
MOST_SIDE = 2**16
"""Largest height and width of an image."""
MOST_CHUNKS = 2**18
"""Largest number of chunks in a file; usual programs write chunks of 4 KiB and more."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# First bytes of other formats.
OTHERS = {
    "JPEG": rb"\xff\xd8\xff",
    "GIF": rb"GIF8",
    "WebP": rb"RIFF....WEBP",
    "TIFF": rb"II\*\0|MM\0\*",
    "BMP": rb"BM",
    "HEIC or AVIF": rb"....ftyp(hei|hev|mif|msf|avi)",
}
# Kinds of images, by the colour type in the header: name, number of channels, and bits that a channel may have.
KINDS = {
    0: ("grey", 1, (1, 2, 4, 8, 16)),
    2: ("RGB", 3, (8, 16)),
    3: ("palette", 1, (1, 2, 4, 8)),
    4: ("grey with alpha", 2, (8, 16)),
    6: ("RGB with alpha", 4, (8, 16)),
}
# Types of chunks that are read, and those that hold the colours of a kind of image.
CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"acTL", b"IEND")
COLORS = {"palette": (b"PLTE", b"tRNS"), "RGB": (b"tRNS",)}
# Passes of an image: first column, first row, and the steps between columns and between rows.
WHOLE = ((0, 0, 1, 1),)
INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class Refused(ValueError):
    """A picture that is whole, and of a kind that is not read."""


class Picture(NamedTuple):
    """An upright image, and how its file stores it: the name of one of `KINDS`, and the bits of a channel."""

    image: Image.Image
    kind: str
    depth: int

    def __str__(self) -> str:
        return f"{self.depth}-bit {self.kind}"


def read(path: Path) -> Picture:
    """Read the picture of a PNG file. ValueErrors and OSErrors name the file, say what it is, and what to do."""
    return contents.decoded(path, "a readable PNG", decode)


def decode(content: bytes) -> Picture:
    """Decode the bytes of a PNG file. ValueErrors say what they are instead, and what to do."""
    if not content.startswith(SIGNATURE):
        raise of_another_format(content, "convert it to PNG, for nothing else is read")
    chunks = _chunks(content)
    if b"acTL" in chunks:
        frames = int.from_bytes(chunks[b"acTL"][:4], "big")
        raise ValueError(f"an animation ({frames} frames) where one picture is read: save one frame as a plain PNG")
    damaged = ValueError("one whose header, palette or pixels are damaged: fetch the file again")
    if len(chunks[b"IHDR"]) != 13:
        raise damaged
    width, height, depth, color, *methods, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    kind, channels, depths = KINDS.get(color, ("", 0, ()))
    if depth not in depths or min(width, height) < 1 or any(methods) or interlaced > 1:
        raise damaged
    check_size(width, height)
    kept = {name: chunks[name] for name in (b"IHDR", *COLORS.get(kind, ())) if name in chunks}
    colors, rest = divmod(len(kept.get(b"PLTE", b"")), 3)
    clear = len(kept.get(b"tRNS", b""))
    if (rest or not clear <= colors <= 256) if kind == "palette" else clear not in (0, 6):
        raise damaged
    try:
        size = _size_of_rows(width, height, channels * depth, INTERLACED if interlaced else WHOLE)
        pixels = zlib.decompressobj().decompress(chunks[b"IDAT"], size)
        if len(pixels) < size:
            raise damaged
        kept |= {b"IDAT": zlib.compress(pixels, 0), b"IEND": b""}
        with PngImagePlugin.PngImageFile(io.BytesIO(_file(kept))) as image:
            image.load()
    except (zlib.error, OSError, SyntaxError) as error:
        raise damaged from error
    if kind == "palette" and any(image.histogram()[colors:]):
        raise damaged
    return Picture(upright(image, chunks.get(b"eXIf", b"")), kind, depth)


def size_of(file: BinaryIO) -> tuple[int, int]:
    """Read height and width of a PNG file, upright, from its header and EXIF alone."""
    file.seek(len(SIGNATURE))
    found: dict[bytes, bytes] = {}
    for _ in range(MOST_CHUNKS):
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if kind in (b"IHDR", b"eXIf"):
            found[kind] = file.read(length)
            length = 0
        elif kind in (b"", b"IEND"):
            break
        file.seek(length + 4, os.SEEK_CUR)
    width, height = struct.unpack_from(">II", found.get(b"IHDR", b"").ljust(8, b"\0"))
    if not (width and height):
        raise ValueError("one whose header is damaged: fetch the file again")
    check_size(width, height)
    return upright_size(height, width, orientation(found.get(b"eXIf", b"")))


def of_another_format(content: bytes, advice: str) -> ValueError:
    """Make the error of a file that begins with none of the bytes that it should begin with."""
    for other, start in OTHERS.items():
        if re.match(start, content, re.DOTALL):
            return ValueError(f"a {other} file: {advice}")
    start = f"a file that begins with {content[:8]!r}" if content else "an empty file"
    return ValueError(f"{start}: fetch it again or convert it to PNG")


def check_size(width: int, height: int) -> None:
    """Refuse an image that is too large, before its pixels are decoded."""
    if max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
        most = f"{MOST_PIXELS} pixels and sides of {MOST_SIDE}"
        raise Refused(f"an image of {height}x{width} where at most {most} are read: shrink it")


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Find the chunks of `CHUNKS`, those of pixels joined; ValueError where any chunk is damaged or out of place."""
    view, place = memoryview(content), len(SIGNATURE)
    pixels: list[memoryview] = []
    found: dict[bytes, bytes] = {}
    for _ in range(MOST_CHUNKS):
        size, kind = int.from_bytes(view[place : place + 4], "big"), bytes(view[place + 4 : place + 8])
        end = place + 12 + size
        body, check = view[place + 8 : end - 4], view[end - 4 : end]
        whole = end <= len(content) and zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(check, "big")
        # The header comes first, all but pixels come once, and types in capitals are those that must be known.
        first = (kind == b"IHDR") == (place == len(SIGNATURE))
        if not whole or not first or kind in found or (kind not in CHUNKS and kind[:1].isupper()):
            raise ValueError(f"one that is cut off or damaged at byte {place} of {len(content)}: fetch the file again")
        if kind == b"IDAT":
            pixels.append(body)
        elif kind in CHUNKS:
            found[kind] = bytes(body)
        place = end
        if kind == b"IEND":
            return found | {b"IDAT": b"".join(pixels)}
    raise ValueError(f"one of more than {MOST_CHUNKS} chunks: save it again with another program")


def _file(chunks: dict[bytes, bytes]) -> bytes:
    """Write chunks as the bytes of a PNG file."""
    parts = [SIGNATURE]
    for kind, body in chunks.items():
        parts += struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
    return b"".join(parts)


def _size_of_rows(width: int, height: int, bits: int, passes: tuple[tuple[int, int, int, int], ...]) -> int:
    """Count the bytes of all rows, each of which begins with the number of its filter; `bits` are those of a pixel."""
    size = 0
    for left, top, across, down in passes:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        size += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return size
