"""Pictures of all formats: exact values, upright, or one line that names the file and says what it is."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import SCRIPTS, refused

from streets.data import items, pictures, png
from streets.runs.pictures import save_values, suffix_of, visible

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 8, 3), np.uint8)
GREY = COLOURS[..., 0]
DEEP = RNG.integers(0, 2**16, (6, 8), np.uint16)
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True, "quality": 100, "exact": True}, "TIFF": {}}


def saved(path, image, name, **options):
    """Write a picture of a format, whatever its name says."""
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, name, **options)
    return path


@pytest.mark.parametrize("name", LOSSLESS)
def test_colours_and_grey_are_read_as_they_are(tmp_path, name):
    path = saved(tmp_path / "a.any", COLOURS, name, **LOSSLESS[name])
    assert np.array_equal(pictures.values(path), COLOURS)
    if name == "WEBP":  # has no grey
        return
    assert np.array_equal(pictures.values(saved(path, GREY, name)), GREY[..., None])
    deep = pictures.values(saved(path, DEEP, name))
    assert deep.dtype == np.uint16
    assert np.array_equal(deep, DEEP[..., None])
    palette = Image.fromarray(COLOURS).quantize(7)
    assert np.array_equal(pictures.values(saved(path, palette, name)), np.array(palette.convert("RGB")))
    black_and_white = pictures.values(saved(path, Image.fromarray(GREY > 99), name))
    assert np.array_equal(black_and_white, 255 * (GREY > 99)[..., None])


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_dropped(tmp_path, name):
    clear = np.concatenate([COLOURS, GREY[..., None]], axis=2)
    assert np.array_equal(pictures.values(saved(tmp_path / "a", clear, name, **LOSSLESS[name])), COLOURS)


def test_jpeg_is_read_as_pillow_reads_it(tmp_path):
    for image, mode in ((COLOURS, "RGB"), (GREY, "L")):
        path = saved(tmp_path / "a.jpg", image, "JPEG", progressive=mode == "L")
        expected = np.array(Image.open(path)).reshape(6, 8, -1)
        assert np.array_equal(pictures.values(path), expected)
        assert pictures.read(path).kind == {"RGB": "RGB", "L": "grey"}[mode]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "WEBP", "TIFF", "PNG"])
def test_pictures_are_turned_upright(tmp_path, name, orientation):
    turned = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
              5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
              7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a)}.get(orientation, lambda a: a)
    image = Image.fromarray(COLOURS)
    plain = pictures.values(saved(tmp_path / "plain", image, name, **LOSSLESS.get(name, {})))
    exif = image.getexif()
    exif[274] = orientation
    path = saved(tmp_path / "turned", image, name, exif=exif, **LOSSLESS.get(name, {}))
    assert np.array_equal(pictures.values(path), turned(plain))


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "TIFF"])
def test_files_that_are_cut_off_are_refused(tmp_path, name):
    path = saved(tmp_path / "a", RNG.integers(0, 256, (40, 50, 3), np.uint8), name)
    whole = path.read_bytes()
    for share in range(20):
        path.write_bytes(whole[:len(whole) * share // 20])
        with refused(ValueError, path, "expected a readable PNG, JPEG, WebP or TIFF"):
            pictures.values(path)


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "TIFF"])
def test_damage_ends_in_a_picture_or_in_one_line(tmp_path, name):
    path = saved(tmp_path / "a", RNG.integers(0, 256, (20, 30, 3), np.uint8), name, **LOSSLESS.get(name, {}))
    whole, messages = path.read_bytes(), []
    for trial in range(200):
        place = trial if trial < 100 else int(RNG.integers(len(whole)))
        path.write_bytes(whole[:place] + bytes([int(RNG.integers(256))]) + whole[place + 1:])
        try:
            assert pictures.values(path).dtype in (np.uint8, np.uint16)
        except (ValueError, OSError) as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all(str(path) in message and "\n" not in message for message in messages)


@pytest.mark.parametrize("name", ["WEBP", "TIFF", "PNG"])
def test_several_pictures_in_a_file_are_refused(tmp_path, name):
    frames = [Image.fromarray(np.full((4, 4, 3), 100 * k, np.uint8)) for k in range(3)]
    frames[0].save(tmp_path / "a", name, save_all=True, append_images=frames[1:])
    with refused(ValueError, tmp_path / "a", "3 ", "plain PNG"):
        pictures.read(tmp_path / "a")


def test_the_photo_of_a_telephone_is_the_first_of_its_file(tmp_path):
    first, second = (Image.fromarray(np.full((16, 16, 3), k, np.uint8)) for k in (200, 10))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert (pictures.values(tmp_path / "a.jpg") == 200).all()


@pytest.mark.parametrize(("mode", "name", "said"), [
    ("CMYK", "JPEG", "mode CMYK"), ("CMYK", "TIFF", "mode CMYK"), ("F", "TIFF", "mode F"), ("I", "TIFF", "mode I"),
    ("RGB", "GIF", "a GIF file"), ("RGB", "BMP", "a BMP file"), ("L", "PPM", "begins with"),
])
def test_other_kinds_are_named(tmp_path, mode, name, said):
    with refused(ValueError, said, tmp_path / "a.png", ": "):
        pictures.values(saved(tmp_path / "a.png", Image.new(mode, (4, 4)), name))


def tiff(width, height, bits, samples):
    """Write a TIFF file without compression whose pixels are zeros; of a large size none are there."""
    data = bytes(min(width * height * samples * bits // 8, 10**4))
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1),
            (262, 3, 1, 2 if samples == 3 else 1), (273, 4, 1, 200), (277, 3, 1, samples), (278, 4, 1, height),
            (279, 4, 1, len(data))]
    if samples == 3:
        tags[2] = (258, 3, 3, 190)
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    head = (b"II*\0" + struct.pack("<I", 8) + body).ljust(190, b"\0")
    return head + struct.pack("<HHH", *[bits] * 3) + bytes(4) + data


def test_colours_of_16_bits_are_refused_where_pillow_keeps_8(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(4, 5, 16, 3))
    with refused(ValueError, path, "16 bits a channel", ".npy"):
        pictures.values(path)
    path.write_bytes(tiff(4, 5, 8, 3))
    assert pictures.values(path).shape == (5, 4, 3)
    rows = b"".join(b"\0" + bytes(range(24)) for _ in range(5))
    path.write_bytes(png._file({b"IHDR": struct.pack(">IIBBBBB", 4, 5, 16, 2, 0, 0, 0),
                                b"IDAT": zlib.compress(rows), b"IEND": b""}))
    with refused(ValueError, path, "16-bit RGB", ".npy"):
        pictures.values(path)


def bomb(name, width=60000, height=60000):
    """Make a small file whose header promises billions of pixels."""
    if name == "TIFF":
        return tiff(width, height, 8, 1)
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    place = content.index(b"\xff\xc0") + 5
    content[place:place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


PEAK = """
import sys
from pathlib import Path
from streets.data import pictures

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
for path in sys.argv[1:]:
    try:
        pictures.values(Path(path))
    except ValueError as error:
        print(error)
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peaks of memory are read from /proc")
def test_bombs_take_no_memory(tmp_path):
    for name in ("JPEG", "TIFF"):
        (tmp_path / name).write_bytes(bomb(name))
    (tmp_path / "wide").write_bytes(tiff(2**16 + 1, 1, 8, 1))
    header = {"descr": "|u1", "fortran_order": False, "shape": (60000, 60000)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    done = subprocess.run([sys.executable, "-c", PEAK, *sorted(map(str, tmp_path.iterdir()))], capture_output=True,
                          text=True, env=os.environ | {"PYTHONPATH": str(SCRIPTS)}, check=True)
    *messages, peak = done.stdout.splitlines()
    assert len(messages) == 4
    assert all("shrink it" in message for message in messages), messages
    assert int(peak) < 60_000
    assert not done.stderr


# Arrays


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 13)])
def test_arrays_are_read_as_they_are(tmp_path, dtype, shape):
    array = RNG.integers(0, 250, shape).astype(dtype)
    for order in "CF":
        np.save(tmp_path / "a.npy", np.asarray(array, order=order))
        found = pictures.values(tmp_path / "a.npy")
        assert found.dtype == (np.uint8 if dtype == "u1" else np.uint16)
        assert np.array_equal(found, array.reshape(5, 7, -1))


@pytest.mark.parametrize(("array", "said"), [
    (np.zeros((4, 4), np.float32), "float32"), (np.zeros((4, 4), np.int16), "int16"), (np.zeros(4, np.uint8), "(4,)"),
    (np.zeros((3, 64, 64), np.uint8), "(3, 64, 64)"), (np.zeros((0, 4), np.uint8), "(0, 4)"),
    (np.array([{"a": 1}]), "object"),
])
def test_other_arrays_are_refused(tmp_path, array, said):
    np.save(tmp_path / "a.npy", array)
    with refused(ValueError, tmp_path / "a.npy", said, "save it"):
        pictures.values(tmp_path / "a.npy")


def test_arrays_that_are_cut_off_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", COLOURS)
    whole = (tmp_path / "a.npy").read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "a.npy").write_bytes(whole[:end])
        with refused(ValueError, tmp_path / "a.npy", "save it again"):
            pictures.values(tmp_path / "a.npy")


# Resizing and writing


def test_any_channels_are_resized_as_photos_are():
    photo = RNG.integers(0, 256, (20, 30, 3), np.uint8)
    expected = items.smooth(Image.fromarray(photo), (8, 10))
    assert torch.equal(items.smooth_values(photo, (8, 10)), expected)
    assert torch.equal(items.smooth_values(photo[..., [2, 0]], (8, 10)), expected[[2, 0]])
    deep = items.smooth_values(photo.astype(np.uint16) * 257, (8, 10))
    assert deep.dtype == torch.int32
    assert (deep - 257 * expected.int()).abs().max() <= 2 * 257
    edge = np.repeat(np.array([0, 2**16 - 1], np.uint16), 20)[None, :, None] + np.zeros((9, 1, 1), np.uint16)
    assert 0 <= items.smooth_values(edge, (9, 17)).min() <= items.smooth_values(edge, (9, 17)).max() < 2**16


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written_is_read_again(tmp_path, channels, bits):
    image = torch.from_numpy(RNG.integers(0, 2**bits, (channels, 6, 8))).to(torch.uint8 if bits == 8 else torch.int32)
    path = tmp_path / f"a{suffix_of(image)}"
    save_values(image, path)
    assert np.array_equal(pictures.values(path), image.permute(1, 2, 0).numpy())
    shown = visible(image, bits)
    assert shown.shape == (3, 6, 8)
    assert 0 <= shown.min() <= shown.max() <= 1
