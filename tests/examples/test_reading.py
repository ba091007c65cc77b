"""The readers of photos and label maps against files of every kind: exact items, or one line that names the file.

Files are built here, chunk by chunk, so that what they hold is known without any decoder.
"""

import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from itertools import cycle, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from streets.data import cityscapes, contents, drawn, items, png, reading
from streets.data.label_sets import CITYSCAPES

pytestmark = pytest.mark.timeout(120)

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
COLORS = np.array([label.color for label in CITYSCAPES.labels], dtype=np.uint8)
KNOWN = [*range(34)]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
TURNED = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


# Files

Chunk = tuple[bytes, bytes]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def whole(chunks: list[Chunk]) -> bytes:
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def header(size: tuple[int, int], depth: int, color: int, interlaced: bool = False) -> Chunk:
    return b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], depth, color, 0, 0, interlaced)


def filtered(rows: np.ndarray, step: int, filters: list[int]) -> bytes:
    """Filter rows (height, bytes) by PNG's filters in turn, each row after the number of its filter."""
    out, above = [], [0] * rows.shape[1]
    for row, kind in zip(rows.tolist(), cycle(filters), strict=False):
        left, corner = [0] * step + row[:-step], [0] * step + above[:-step]
        if len(row) < step:
            left = corner = [0] * len(row)
        around = list(zip(left, above, corner, strict=True))
        guesses = {0: [0] * len(row), 1: left, 2: above, 3: [(a + b) // 2 for a, b, _ in around],
                   4: [nearest(*each) for each in around]}[kind]
        out += [kind, *((x - guess) % 256 for x, guess in zip(row, guesses, strict=True))]
        above = row
    return bytes(out)


def nearest(left: int, above: int, corner: int) -> int:
    """Compute Paeth's guess."""
    return min((left, above, corner), key=lambda value: abs(left + above - corner - value))


def packed(samples: np.ndarray, depth: int) -> np.ndarray:
    """Pack samples (height, width, channels) into rows of bytes."""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        return flat.astype(">u2").view(np.uint8).reshape(len(flat), -1)
    bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
    return np.packbits(bits.reshape(len(flat), -1), axis=1)


def pixels(samples: np.ndarray, depth: int, interlaced: bool, filters: list[int]) -> bytes:
    step = max(1, samples.shape[2] * depth // 8)
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    parts = [samples[top::down, left::across] for left, top, across, down in passes]
    return b"".join(filtered(packed(part, depth), step, filters) for part in parts if part.size)


def exif(orientation: int, order: str = ">") -> Chunk:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"eXIf", mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


class Built(NamedTuple):
    """A PNG file and what is in it: samples (height, width, channels) as stored, not turned."""

    chunks: list[Chunk]
    samples: np.ndarray
    depth: int
    color: int
    palette: np.ndarray
    clear: bytes
    orientation: int

    def colors(self) -> np.ndarray:
        """Convert to 8-bit red, green and blue, upright."""
        values = self.samples
        if self.color == PALETTE:
            values = self.palette[values[..., 0]]
        elif self.color in (GREY, GREY_ALPHA):
            values = np.repeat(values[..., :1] * 255 // (2**self.depth - 1), 3, axis=2)
        return self.upright(values[..., :3])

    def transparent(self) -> np.ndarray:
        values = self.samples
        if self.color in (GREY_ALPHA, RGB_ALPHA):
            return self.upright(values[..., -1] < 2**self.depth - 1)
        if self.color == PALETTE:
            return self.upright(np.array([*self.clear, *[255] * 256])[values[..., 0]] < 255)
        if self.color == RGB and self.clear:
            return self.upright((values == struct.unpack(">3H", self.clear)).all(-1))
        return np.zeros(self.upright(values).shape[:2], dtype=bool)

    def upright(self, array: np.ndarray) -> np.ndarray:
        return TURNED.get(self.orientation, lambda a: a)(array)


def build(samples: np.ndarray, depth: int = 8, color: int | None = None, interlaced: bool = False,
          filters: tuple[int, ...] = (0,), palette: np.ndarray = COLORS[:0], clear: bytes = b"", orientation: int = 1,
          extra: tuple[Chunk, ...] = (), last: tuple[Chunk, ...] = (), parts: int = 1) -> Built:
    samples = samples[..., None] if samples.ndim == 2 else samples
    if color is None:
        color = {channels: color for color, channels in CHANNELS.items() if color != PALETTE}[samples.shape[2]]
    stream = zlib.compress(pixels(samples, depth, interlaced, list(filters)))
    cuts = [len(stream) * k // parts for k in range(parts + 1)]
    colors = [(b"PLTE", palette.astype(np.uint8).tobytes())] if len(palette) else []
    transparency = [(b"tRNS", clear)] if clear else []
    turn = [exif(orientation)] if orientation != 1 else []
    chunks = [header(samples.shape[:2], depth, color, interlaced), *extra, *colors, *transparency, *turn,
              *((b"IDAT", stream[a:b]) for a, b in pairwise(cuts)), *last, (b"IEND", b"")]
    return Built(chunks, samples, depth, color, palette, clear, orientation)


HARMLESS = (
    (b"gAMA", struct.pack(">I", 45455)),
    (b"sRGB", b"\0"),
    (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    (b"tEXt", b"Comment\0made by hand"),
    (b"zTXt", b"Comment\0\0" + zlib.compress(b"made by hand")),
    (b"zTXt", b"no end, no stream"),
    (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation=\"6\"/>"),
    (b"iCCP", b"profile\0\0" + zlib.compress(b"no profile")),
    (b"iCCP", b""),
    (b"tIME", b"\7"),
    (b"fdAT", b""),
    (b"prVt", b"something private"),
)


@st.composite
def images(draw, of: str = "any") -> Built:
    """Draw PNG files that can be read, as far as PNG goes; `of` maps they hold ids and colours of the table."""
    color = draw(st.sampled_from(list(DEPTHS)))
    depth = draw(st.sampled_from(DEPTHS[color]))
    size = draw(st.tuples(st.integers(1, 11), st.integers(1, 11)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    palette, clear, top = COLORS[:0], b"", 2**depth
    if color == PALETTE:
        palette = rng.integers(0, 256, (draw(st.integers(1, top)), 3), dtype=np.uint8)
        top = len(palette)
        clear = bytes(rng.choice([0, 40, 255, 255, 255, 255], draw(st.integers(0, top))).tolist())
    samples = rng.integers(0, top, (*size, CHANNELS[color]))
    if of == "maps":
        colors = COLORS[rng.integers(0, len(COLORS), size if color != PALETTE else len(palette))]
        if color == GREY and depth >= 8:
            samples = rng.choice(KNOWN, (*size, 1))
        elif color == PALETTE:
            palette = colors
        elif color in (RGB, RGB_ALPHA):
            samples[..., :3] = colors
            samples[..., 3:] = draw(st.sampled_from([0, 255, 255]))
    if color in (GREY, RGB) and draw(st.booleans()):
        clear = struct.pack(f">{CHANNELS[color]}H", *samples[0, 0].tolist())
    return build(
        samples, depth, color, draw(st.booleans()), tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=9))),
        palette, clear, draw(st.integers(0, 9)), tuple(draw(st.lists(st.sampled_from(HARMLESS), max_size=3))),
        tuple(draw(st.lists(st.sampled_from(HARMLESS), max_size=2))), draw(st.integers(1, 5)),
    )


@st.composite
def mutated(draw) -> bytes:
    """Draw a PNG file of which chunks, or what is in them, are changed, with checksums that are right."""
    chunks = list(draw(images(draw(st.sampled_from(["any", "maps"])))).chunks)
    for _ in range(draw(st.integers(1, 3))):
        if not chunks:
            break
        place = draw(st.integers(0, len(chunks) - 1))
        kind, body = chunks[place]
        match draw(st.sampled_from([*["alter"] * 3, "cut", "kind", "pixels", "drop", "double", "add", "move"])):
            case "alter" if body:
                where = draw(st.integers(0, len(body) - 1))
                chunks[place] = kind, body[:where] + draw(st.binary(min_size=1, max_size=4)) + body[where + 1 :]
            case "cut":
                chunks[place] = kind, body[: draw(st.integers(0, len(body)))]
            case "kind":
                chunks[place] = draw(st.sampled_from([*png.CHUNKS, b"CgBI", b"fcTL", b"fdAT", b"\0\xff\n-"])), body
            case "pixels" if kind == b"IDAT":
                chunks[place] = kind, zlib.compress(draw(st.binary(max_size=300)))
            case "drop":
                del chunks[place]
            case "double":
                chunks.insert(draw(st.integers(0, len(chunks))), (kind, body))
            case "add":
                other = draw(st.sampled_from([*png.CHUNKS, b"iCCP", b"zTXt", b"iTXt"]))
                chunks.insert(place, (other, draw(st.binary(max_size=40))))
            case "move":
                chunks.insert(draw(st.integers(0, len(chunks) - 1)), chunks.pop(place))
    return whole(chunks)


# Outcomes


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


def add_pair(root: Path) -> None:
    """Write a data set of one pair and its instances, of 3x4 pixels."""
    for path, value in zip(paths(root), (9, 7, 26001), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        written(path, build(np.full((3, 4), value), 16 if value > 255 else 8))


def paths(root: Path) -> tuple[Path, Path, Path]:
    label = root / "gtFine" / "train" / "a" / "b_gtFine_labelIds.png"
    photo = root / "leftImg8bit" / "train" / "a" / "b_leftImg8bit.png"
    return photo, label, label.with_name("b_gtFine_instanceIds.png")


def item_or_line(read, path: Path, *arguments) -> items.Item | str:
    """Return a reader's item, checked, or its message: one line that says what was expected, what came, what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            item = read(*arguments) if read == cityscapes.Cityscapes.__getitem__ else read(path, *arguments)
        except (ValueError, OSError) as error:
            message = str(error)
            assert "\n" not in message
            assert str(path) in message
            assert re.search(r"expected.*(got|but no).*: .", message), message
            return message
    shapes = {key: tuple(value.shape) for key, value in item.items() if key != "name"}
    types = {key: str(value.dtype).removeprefix("torch.") for key, value in item.items() if key != "name"}
    size = next(iter(shapes.values()))[-2:]
    full = {"photo": (3, *size), "condition": (3, *size), "label": size, "instances": size}
    assert shapes == {key: full[key] for key in shapes}
    assert types == {key: "int32" if key == "instances" else "uint8" for key in types}
    return item


def outcomes(place: Path, content: bytes) -> list[items.Item | str]:
    """Read a file of this content, and a data set of it as photo, label map and instances."""
    path = place / "file.png"
    path.write_bytes(content)
    readers = (reading.read_photo, reading.read_label_map)
    found = [item_or_line(read, path, *size) for read in readers for size in ((), ((4, 6),))]
    for each in paths(place):
        add_pair(place)
        each.write_bytes(content)
        dataset = cityscapes.Cityscapes(place, "train", (2, 2))
        found.append(item_or_line(cityscapes.Cityscapes.__getitem__, each, dataset, 0))
    return found


def refused(path: Path, *fragments: str, read=reading.read_photo, **options) -> None:
    message = item_or_line(read, path, **options)
    assert isinstance(message, str)
    for fragment in fragments:
        assert fragment in message, message


def written(path: Path, built: Built | bytes) -> Path:
    path.write_bytes(built if isinstance(built, bytes) else whole(built.chunks))
    return path


def photo_of(path: Path) -> np.ndarray:
    return item_or_line(reading.read_photo, path)["photo"].permute(1, 2, 0).numpy()


# Fuzzing


@given(images())
def test_photos_hold_the_colours_of_their_file(place, built):
    path = written(place / "photo.png", built)
    if built.depth == 16:
        refused(path, "8-bit", "16-bit", "convert")
    else:
        assert np.array_equal(photo_of(path), built.colors())


@given(images("maps"))
def test_label_maps_hold_the_ids_or_colours_of_their_file(place, built):
    path = written(place / "map.png", built)
    if built.color == GREY and built.depth >= 8:
        item = item_or_line(reading.read_label_map, path)
        assert np.array_equal(item["label"].numpy(), built.upright(built.samples[..., 0]))
        assert np.array_equal(item["condition"].permute(1, 2, 0).numpy(), CITYSCAPES.colorize(item["label"].numpy()))
    elif built.color in (GREY, GREY_ALPHA):
        refused(path, "8 or 16 bits", f"{built.depth}-bit grey", read=reading.read_label_map)
    elif built.depth == 16:
        refused(path, "8-bit", "convert", read=reading.read_label_map)
    elif built.transparent().any():
        row, column = np.argwhere(built.transparent())[0]
        refused(path, "opaque", f"pixel ({row}, {column})", read=reading.read_label_map)
    else:
        item = item_or_line(reading.read_label_map, path)
        assert np.array_equal(item["condition"].permute(1, 2, 0).numpy(), built.colors())
        assert np.array_equal(item["label"].numpy(), CITYSCAPES.ids_from_colors(built.colors().astype(np.uint8)))


@given(images())
def test_ids_of_any_value_are_those_of_the_file(place, built):
    """Check that instances are not looked up in the table: all values of 16 bits come back."""
    add_pair(place)
    path = written(paths(place)[2], built)
    for each, value in zip(paths(place)[:2], (9, 7), strict=True):
        size = built.upright(built.samples).shape[:2]
        each.write_bytes(whole(build(np.full(size, value)).chunks))
    dataset = cityscapes.Cityscapes(place, "train", built.upright(built.samples).shape[:2])
    item = item_or_line(cityscapes.Cityscapes.__getitem__, path, dataset, 0)
    if built.color == GREY and built.depth >= 8:
        assert np.array_equal(item["instances"].numpy(), built.upright(built.samples[..., 0]))
    else:
        assert f"got {built.depth}-bit" in item


@given(st.binary(max_size=200), st.sampled_from([b"", SIGNATURE, SIGNATURE + chunk(*header((3, 4), 8, RGB))]))
def test_random_bytes(place, content, start):
    assert all(isinstance(found, str) for found in outcomes(place, start + content))


@given(mutated())
def test_changed_chunks(place, content):
    outcomes(place, content)


def made_of(content: bytes, chunks: list[Chunk]) -> bool:
    """Tell if this is a file of these chunks alone, of some of them or of some more than once."""
    rest = content.removeprefix(SIGNATURE)
    while found := next((each for each in chunks if rest.startswith(chunk(*each))), None):
        rest = rest.removeprefix(chunk(*found))
        if found[0] == b"IEND":
            return True
    return False


@given(images("maps"), st.data())
def test_damage_is_never_taken_for_a_picture(place, built, more):
    content = whole(built.chunks)
    where = more.draw(st.integers(0, len(content) - 1))
    end = more.draw(st.integers(where, len(content)))
    changed = more.draw(st.one_of(
        st.just(content[:where]),
        st.integers(1, 255).map(lambda bits: content[:where] + bytes([content[where] ^ bits]) + content[where + 1 :]),
        st.binary(max_size=8).map(lambda other: content[:where] + other + content[end:]),
        st.just(content[:where] + content[where:end] * 2 + content[end:]),
    ))
    read = [isinstance(found, dict) for found in outcomes(place, changed)]
    assert not any(read) or made_of(changed, built.chunks)
    assert isinstance(item_or_line(reading.read_photo, written(place / "a.png", content + b"IDAT and more")), str) == (
        built.depth == 16
    )


def test_files_that_end_anywhere_are_refused(place):
    colors = COLORS[np.arange(12).reshape(3, 4)]
    content = whole(build(colors, interlaced=True, orientation=6, extra=HARMLESS, last=HARMLESS[:2], parts=3).chunks)
    for end in range(len(content)):
        refused(written(place / "file.png", content[:end]), "got")
    assert photo_of(written(place / "file.png", content)).shape == (4, 3, 3)


def test_every_bit_is_checked(place):
    """Refuse wrong checksums of pixels, at which Pillow does not look: it would return others."""
    colors = COLORS[np.arange(12).reshape(3, 4)]
    content = whole(build(colors, filters=(1, 2, 4), orientation=3, extra=HARMLESS[:2]).chunks)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(written(place / "file.png", bytes(damaged)), "got")


# Kinds of images

SAMPLES = np.random.default_rng(0).integers(0, 256, (5, 7, 3))


@pytest.mark.parametrize("color", [GREY, RGB, GREY_ALPHA, RGB_ALPHA])
def test_photos_of_16_bits_are_refused(tmp_path, color):
    """Round colours of 16 bits to the nearest value of 8 bits, where Pillow would keep the upper byte."""
    path = written(tmp_path / "a.png", build(np.full((4, 4, CHANNELS[color]), 40000), 16))
    refused(path, "8-bit", "got 16-bit", "convert it to 8-bit RGB")
    if color != GREY:
        refused(path, "convert", read=reading.read_label_map)


def test_ids_of_16_bits_are_read(tmp_path):
    path = written(tmp_path / "a.png", build(np.array([[7, 26], [33, 0]]), 16, interlaced=True))
    assert reading.read_label_map(path)["label"].tolist() == [[7, 26], [33, 0]]
    refused(written(path, build(np.array([[7, 26001]]), 16)), "got 26001", "(0, 1)", read=reading.read_label_map)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_ids_of_few_bits_are_refused(tmp_path, depth):
    """Keep ids of few bits, which Pillow would scale: 1 of 4 bits would be 17, tunnel."""
    path = written(tmp_path / "a.png", build(np.ones((4, 4), int), depth))
    refused(path, f"got {depth}-bit grey", "8 or 16 bits", read=reading.read_label_map)
    assert (photo_of(path) == 255 // (2**depth - 1)).all()


def test_palettes_count_by_their_colours(tmp_path):
    """Look up indices of a palette, of which 7 may be any colour; indices without a colour are damage."""
    palette = COLORS[::-1]
    path = written(tmp_path / "a.png", build(np.full((2, 2), 7), 8, PALETTE, palette=palette))
    item = reading.read_label_map(path)
    assert (photo_of(path) == palette[7]).all()
    assert (item["condition"].permute(1, 2, 0).numpy() == palette[7]).all()
    refused(written(path, build(np.full((2, 2), 7), 8, PALETTE, palette=palette[:7])), "damaged")
    refused(written(path, build(np.full((2, 2), 7), 8, PALETTE)), "damaged")
    refused(written(path, build(np.full((2, 2), 7), 8, PALETTE, palette=palette, clear=bytes(200))), "damaged")


@pytest.mark.parametrize(("color", "clear"), [
    (RGB, struct.pack(">3H", 128, 64, 128)), (PALETTE, b"\0"), (PALETTE, b"\xfe"), (RGB_ALPHA, b""),
])
def test_transparent_label_maps_are_refused_and_photos_lose_their_alpha(tmp_path, color, clear):
    samples = np.zeros((2, 3, 1), int) if color == PALETTE else np.tile([128, 64, 128], (2, 3, 1))
    if color == RGB_ALPHA:
        samples = np.concatenate([samples, np.full((2, 3, 1), 254)], 2)
    path = written(tmp_path / "a.png", build(samples, 8, color, palette=COLORS[7:8], clear=clear))
    refused(path, "opaque", "pixel (0, 0)", "without alpha", read=reading.read_label_map)
    assert (photo_of(path) == [128, 64, 128]).all()


def test_gamma_and_profiles_change_no_values(tmp_path):
    built = build(SAMPLES, extra=(*HARMLESS, (b"cHRM", bytes(32)), (b"gAMA", bytes(4)), (b"bKGD", b"\xff" * 6)))
    assert np.array_equal(photo_of(written(tmp_path / "a.png", built)), SAMPLES)


# EXIF


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, orientation, order):
    """Compare with Pillow's own function; ids, instances and photo are turned alike."""
    path = written(tmp_path / "a.png", build(SAMPLES, last=(exif(orientation, order),)))
    upright = TURNED.get(orientation, lambda a: a)
    assert np.array_equal(photo_of(path), upright(SAMPLES))
    image = Image.fromarray(SAMPLES.astype(np.uint8))
    image.getexif()[274] = orientation
    image.save(path, exif=image.getexif())
    assert np.array_equal(photo_of(path), upright(SAMPLES))
    ids = np.arange(15).reshape(3, 5)
    written(path, build(ids, extra=(exif(orientation, order),)))
    assert np.array_equal(reading.read_label_map(path)["label"], upright(ids))


def test_sizes_are_compared_upright(place):
    add_pair(place)
    photo, label, instances = paths(place)
    written(photo, build(SAMPLES, orientation=6))
    for path in (label, instances):
        written(path, build(np.full((5, 7), 7)))
    refused(label, "7x5", "got 5x7", read=lambda _: cityscapes.Cityscapes(place, "train", (5, 7))[0])
    for path in (label, instances):
        written(path, build(np.full((5, 7), 7), orientation=8))
    assert cityscapes.Cityscapes(place, "train", (7, 5))[0]["photo"].shape == (3, 7, 5)


@pytest.mark.parametrize("body", [
    b"", b"Exif\0\0", b"MM\0*", b"II*\0\xff\xff\xff\xff", b"MM\0*" + struct.pack(">IH", 8, 65535),
    b"MM\0*" + struct.pack(">IHHHII", 8, 1, 274, 4, 1, 6), exif(0)[1], exif(9, "<")[1],
    b"II*\0" + struct.pack("<IHHHII", 8, 1, 274, 2, 2**32 - 1, 8), b"MM\0*" + struct.pack(">I", 0) * 9,
])
def test_damaged_exif_leaves_images_as_they_are(tmp_path, body):
    path = written(tmp_path / "a.png", build(SAMPLES, extra=((b"eXIf", body),)))
    assert np.array_equal(photo_of(path), SAMPLES)


# Files that are no picture


def test_animations_are_refused(tmp_path):
    frames = [Image.fromarray(np.full((4, 4, 3), k, np.uint8)) for k in range(3)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    refused(path, "animation (3 frames)", "save one frame")
    control = (b"acTL", struct.pack(">II", 2**31 - 1, 0))
    refused(written(path, build(SAMPLES, extra=(control,))), "animation (2147483647 frames)")
    refused(written(path, build(SAMPLES, extra=((b"acTL", b""),))), "animation")


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WebP", "TIFF", "BMP"])
def test_other_formats_under_the_name_of_a_png_are_named(tmp_path, kind):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", kind)
    refused(tmp_path / "a.png", f"a {kind} file", "convert it to PNG", read=reading.read_label_map)
    if kind in ("GIF", "BMP"):
        refused(tmp_path / "a.png", f"a {kind} file", "convert it to PNG")
    else:  # photos may be of these formats, whatever their names
        assert (photo_of(tmp_path / "a.png") == 0).all()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "an empty file"),
    (b"version https://git-lfs", "begins with b'version '"),
    (SIGNATURE.replace(b"\r", b""), "begins with"),
    (SIGNATURE, "cut off or damaged at byte 8 of 8"),
    (whole([(b"IEND", b"")]), "damaged at byte 8"),
    (whole([header((1, 1), 8, RGB), (b"IEND", b"")]), "pixels are damaged"),
    (whole([header((0, 1), 8, RGB), (b"IEND", b"")]), "header"),
    (whole([header((1, 1), 3, RGB), (b"IEND", b"")]), "header"),
    (whole([header((1, 1), 8, 7), (b"IEND", b"")]), "header"),
    (whole([(b"CgBI", b"\0" * 4), *build(SAMPLES).chunks]), "damaged at byte 8"),
    (whole(build(SAMPLES).chunks[:1] * 2 + build(SAMPLES).chunks[1:]), "damaged at byte 33"),
    (whole(build(SAMPLES).chunks)[:-12], "cut off"),
    (b"\0\0\0\x1cftypavif", "HEIC or AVIF"),
])
def test_what_came_is_said(tmp_path, content, message):
    refused(written(tmp_path / "a.png", content), message)


@pytest.mark.parametrize("missing", [1, 7, 22, 100])
def test_pixels_that_are_missing_are_not_black(tmp_path, missing):
    """Refuse a compressed stream that ends early, which Pillow fills up."""
    rows = pixels(SAMPLES, 8, False, [0])
    chunks = [header((5, 7), 8, RGB), (b"IDAT", zlib.compress(rows[:-missing])), (b"IEND", b"")]
    refused(written(tmp_path / "a.png", whole(chunks)), "pixels are damaged")


def test_what_is_no_regular_file(tmp_path):
    """Check that none of these is waited for or read without end."""
    paths = [tmp_path / f"{name}.png" for name in ("folder", "pipe", "device", "dangling", "none", "long" * 80)]
    paths[0].mkdir()
    os.mkfifo(paths[1])
    paths[2].symlink_to("/dev/zero")
    paths[3].symlink_to(tmp_path / "nowhere")
    messages = [*["folder, pipe or device"] * 3, *["no file"] * 2, "name too long"]
    for path, message in zip(paths, messages, strict=True):
        refused(path, message, "check path")
        refused(path, message, "check path", read=reading.read_label_map)
    link = tmp_path / "link.png"
    link.symlink_to(written(tmp_path / "a.png", build(SAMPLES)))
    assert np.array_equal(photo_of(link), SAMPLES)


def test_files_that_shrink_or_grow_while_they_are_read(tmp_path, monkeypatch):
    path = written(tmp_path / "a.png", build(SAMPLES))
    size = path.stat().st_size
    for change in (-20, 20):  # after its size is asked for
        status = os.stat_result([0o100644, *[0] * 5, size - change, 0, 0, 0])
        monkeypatch.setattr(os, "fstat", lambda _, status=status: status)
        found = item_or_line(reading.read_photo, path)
        assert isinstance(found, str) == (change > 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable to root")
def test_files_that_may_not_be_read(tmp_path):
    path = written(tmp_path / "a.png", build(SAMPLES))
    path.chmod(0)
    refused(path, "Permission denied", "permissions")


# Sizes

MOST = png.MOST_PIXELS


@pytest.mark.parametrize("size", [
    (60000, 60000), (1, 2**16 + 1), (2**31 - 1, 1), (2**32 - 1, 2**32 - 1), (2**13, 2**13 + 1),
])
def test_bombs_are_refused_by_their_header(tmp_path, size):
    for depth, color in ((8, RGB), (1, GREY)):
        chunks = [header(size, depth, color), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
        path = written(tmp_path / "a.png", whole(chunks))
        refused(path, f"{size[0]}x{size[1]}", str(MOST), "65536", "shrink")
        refused(path, "shrink", read=reading.read_label_map)


def test_files_of_absurd_length_are_refused_unread(tmp_path):
    path = written(tmp_path / "a.png", build(SAMPLES))
    os.truncate(path, contents.MOST_BYTES + 1)
    refused(path, str(contents.MOST_BYTES + 1), str(contents.MOST_BYTES), "shrink")


def test_memory_that_does_not_suffice(tmp_path, monkeypatch):
    def none_left(*_):
        raise MemoryError

    path = written(tmp_path / "a.png", build(SAMPLES))
    monkeypatch.setattr(zlib, "compress", none_left)
    refused(path, "memory", "shrink")


@pytest.mark.parametrize("size", [
    (10**6, 10**6), (2**13, 2**13 + 1), (1, 2**16 + 1), (float("inf"), 1), (float("nan"), 1),
])
def test_image_sizes_have_the_same_limits(place, size):
    add_pair(place)
    path = written(place / "photo.png", build(SAMPLES))
    for make in (lambda: reading.read_photo(path, size), lambda: drawn.StreetScenes("train", size),
                 lambda: reading.read_label_map(path, size), lambda: cityscapes.Cityscapes(place, "train", size)):
        with pytest.raises(ValueError, match=r"\Aexpected .*image_size.* got .*\Z"):
            make()


def test_limits_of_pillow_and_its_options_change_nothing(tmp_path, monkeypatch):
    built = build(SAMPLES, extra=((b"tEXt", b"C\0" + bytes(1000)), (b"zTXt", b"C\0\0" + zlib.compress(bytes(1000)))))
    path = written(tmp_path / "good.png", built)
    cut = written(tmp_path / "cut.png", whole(built.chunks)[:-40])
    for most in (1, 20, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", most or 2**40)
        monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", most or 2**40)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", most is None)
        assert np.array_equal(photo_of(path), SAMPLES)
        refused(cut, "cut off")
        test_bombs_are_refused_by_their_header(tmp_path, (60000, 60000))


BOMBS = """
import sys, time
from pathlib import Path
from streets.data import png

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

for path in sys.argv[1:]:
    before, start = peak(), time.monotonic()
    try:
        found = "read" if png.read(Path(path)) else ""
    except ValueError as error:
        found = "refused"
    print(path, found, peak() - before, time.monotonic() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc")
def test_bombs_take_neither_memory_nor_time(tmp_path):
    """Read text, profiles and pixels of 100 MB in 100 kB; a picture of which they are no part is read without them."""
    zeros, text = zlib.compress(bytes(10**8)), b"Comment\0"
    offsets = b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(10**6)
    harmless = {
        "none": build(SAMPLES),
        "text": build(SAMPLES, extra=((b"zTXt", text + b"\0" + zeros),)),
        "texts": build(SAMPLES, extra=((b"zTXt", text + b"\0" + zeros),) * 20),
        "unicode": build(SAMPLES, last=((b"iTXt", text + b"\1\0\0\0" + zeros),)),
        "profile": build(SAMPLES, extra=((b"iCCP", text + b"\0" + zeros),)),
        "exif": build(SAMPLES, extra=((b"eXIf", offsets),)),
        "parts": build(SAMPLES, extra=((b"IDAT", b""),) * 10**4),
    }
    bombs = {
        "pixels": whole([header((60000, 60000), 8, RGB), (b"IDAT", zeros), (b"IEND", b"")]),
        "column": whole([header((2**31 - 1, 1), 8, RGB), (b"IDAT", zeros), (b"IEND", b"")]),
        "frames": build(SAMPLES, extra=((b"acTL", struct.pack(">II", 2**31 - 1, 0)),)),
        "pieces": SIGNATURE + chunk(*header((5, 7), 8, RGB)) + chunk(b"IDAT") * 2**18,
    }
    more = {"more": whole([header((5, 7), 8, RGB), (b"IDAT", zeros), (b"IEND", b"")])}  # pixels than there are to be
    for name, built in (harmless | bombs | more).items():
        written(tmp_path / name, built)
    environment = {**os.environ, "PYTHONPATH": str(Path(png.__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", BOMBS, *harmless, *bombs, *more], capture_output=True, text=True,
                            cwd=tmp_path, env=environment, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    found = [line.split() for line in result.stdout.splitlines()]
    assert [name for name, outcome, *_ in found if outcome == "refused"] == [*bombs]
    for name, _, kilobytes, seconds in found:
        assert int(kilobytes) < 100_000, name
        assert float(seconds) < 20, name


def test_resizing_takes_no_more_than_its_ends(tmp_path, monkeypatch):
    """Resize a column of pixels that becomes a row, and would be a square in between."""
    monkeypatch.setattr(png, "MOST_PIXELS", 2**10)
    resize, seen = Image.Image.resize, []

    def watched(image, size, *arguments):
        seen.append(image.height * size[0])
        return resize(image, size, *arguments)

    monkeypatch.setattr(Image.Image, "resize", watched)
    path = written(tmp_path / "a.png", build(np.full((500, 2, 3), 77)))
    photo = reading.read_photo(path, (2, 500))["photo"]
    assert photo.shape == (3, 2, 500)
    assert (photo == 77).all()
    assert max(seen) <= 2**10


# Decoders of labels


@given(st.data())
def test_arrays_are_decoded_or_refused(more):
    kind = more.draw(st.sampled_from(["u1", "i1", "u2", "i4", "i8", "u8", "f4", "?", "U2", "O"]))
    shape = tuple(more.draw(st.lists(st.integers(0, 4), max_size=3)))
    rng = np.random.default_rng(more.draw(st.integers(0, 2**32)))
    values = rng.choice([0, 1, 7, 33, 34, -1, -2, 255, 256, 2**31, 2**63 - 1][: more.draw(st.integers(1, 11))], shape)
    values = np.asarray(values).astype(kind)
    for decode in (CITYSCAPES.as_bytes, CITYSCAPES.colorize, CITYSCAPES.train_ids, CITYSCAPES.ids_from_colors):
        try:
            found = decode(values)
        except ValueError as error:
            message = str(error)
            assert re.fullmatch(r"expected[^\n]*", message)
            continue
        assert found.dtype == np.uint8
        assert values.dtype.kind in "iu"
        if decode == CITYSCAPES.as_bytes:
            assert np.array_equal(found, values.astype("i8") % 256)


def test_antialiased_maps_are_refused_with_the_place(tmp_path):
    colors = np.where(np.arange(8)[None, :, None] < 4, COLORS[7], COLORS[23]) + np.zeros((3, 1, 1), int)
    colors[2, 4] = (COLORS[7].astype(int) + COLORS[23]) // 2
    refused(written(tmp_path / "a.png", build(colors)), "(2, 4)", "antialiasing", read=reading.read_label_map)


def test_the_first_unknown_colour_is_found_in_large_maps():
    colors = CITYSCAPES.colorize(np.full((700, 800), 7)).copy()
    colors[[600, 650], [5, 3]] = 1
    with pytest.raises(ValueError, match=r"\(1, 1, 1\), first found at pixel \(600, 5\)"):
        CITYSCAPES.ids_from_colors(colors)
    ids = np.random.default_rng(0).integers(0, 34, (700, 800))
    painted = CITYSCAPES.colorize(ids)
    assert np.array_equal(CITYSCAPES.colorize(CITYSCAPES.ids_from_colors(painted)), painted)
