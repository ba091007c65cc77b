"""Tiles of images that are larger than what a model is trained on."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from run_helpers import line_of_mistake, make_run, read, save, write, write_pairs

import evaluate
import inspect_data
import sample
import train
import transfer
from streets.config.data import DataOptions
from streets.data import checking, pictures
from streets.data.cityscapes import Cityscapes
from streets.data.datasets import open_dataset
from streets.data.parts import Part
from streets.data.tiles import Tiles
from streets.runs.pretrained import Pretrained
from streets.runs.run import Run

LARGE = (20, 70)
"""Height and width of the files."""
TILE = (8, 16)
TINY = ["--image-size", "8", "16", "--steps", "1", "1", "--width", "4", "--batch-size", "4", "--epochs", "1",
        "--init-pairs", "4", "--device", "cpu", "--tile"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write photos of noise, and label maps, of two pairs of each split."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        write_pairs(folder, {"ulm": 2}, LARGE, split)
    rng = np.random.default_rng(0)
    for path in folder.glob("leftImg8bit/*/*/*.png"):
        save(path, rng.integers(0, 256, (*LARGE, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    train.main([*TINY, "--data", str(root), "--out", str(out)])
    return out


def test_tiles_are_side_by_side(root):
    tiles, whole = (open_dataset(root, "train", size, options=DataOptions(tile=tile))
                    for size, tile in ((TILE, True), (LARGE, False)))
    assert len(tiles) == 2 * 2 * 4
    for i, (row, column) in enumerate((row, column) for row in range(2) for column in range(4)):
        item = tiles[8 + i]
        assert item["name"] == tiles.names[8 + i] == f"{whole.names[1]}_{row}_{column}"
        for kind in ("photo", "condition", "label"):
            place = whole[1][kind][..., 8 * row:8 * row + 8, 16 * column:16 * column + 16]
            assert torch.equal(item[kind], place)
    assert "16 tiles of 8x16 of 2 pairs" in tiles.notes[-1]


@pytest.mark.parametrize("sizes", [((20, 36), (20, 36)), ((10, 18), (20, 36))])
def test_images_of_two_sizes_are_cut_in_the_same_places(tmp_path, sizes):
    for side, size in zip("AB", sizes, strict=True):
        ramp = np.add.outer(*(np.linspace(0, 120, n) for n in size)).round().astype(np.uint8)
        write(tmp_path / side / "0.png", ramp)
    tiles = open_dataset(tmp_path, "train", TILE, options=DataOptions(tile=True))
    assert len(tiles) == 4
    for item in (tiles[i] for i in range(4)):
        difference = (item["condition"].float() - item["photo"].float()).abs()
        assert difference.max() <= (0 if sizes[0] == sizes[1] else 12)


def test_parts_and_looks_of_tiles(root):
    tiles = open_dataset(root, "val", TILE, options=DataOptions(tile=True))
    part = Part(tiles, [3, 1])
    assert torch.equal(part[0]["photo"], tiles[3]["photo"])
    assert part.sides(1) == tiles.sides(0)
    assert part.size(0) == TILE
    assert np.array_equal(part.label_map(0), tiles.label_map(0))
    with pytest.MonkeyPatch.context() as patch:
        looked = []
        patch.setattr(checking, "look", lambda path: looked.append(path))
        checking.check_files(tiles, "val")
    assert sorted(looked) == sorted(path for i in (0, 8) for path in tiles.sides(i).values())  # once each


def test_a_validation_that_is_held_out_shares_no_file(tmp_path):
    for side in "AB":
        for i in range(10):
            write(tmp_path / side / f"{i}.png", np.full(LARGE, i, np.uint8))
    options = DataOptions(tile=True)
    parts = [open_dataset(tmp_path, split, TILE, options=options, hold_out=True) for split in ("train", "val")]
    of_train, of_val = ({name.partition("_")[0] for name in part.names} for part in parts)
    assert not of_train & of_val
    assert len(of_train | of_val) == 10


def test_everything_follows(root, run, tmp_path, capsys):
    assert json.loads((run / "config.json").read_text())["tile"]
    evaluate.main([str(run), "--out", str(tmp_path / "judged"), "--repeats", "1"])
    settings = json.loads((tmp_path / "judged" / "results.json").read_text())["settings"]
    assert (settings["pairs"], settings["tile"]) == (16, True)
    plain = make_run(tmp_path / "plain", image_size=TILE)
    assert "were not both trained on tiles" in line_of_mistake(
        evaluate.main, capsys, run, plain, "--data", root, "--out", tmp_path / "no")
    sample.main([str(run), "--scenes", "2", "--samples", "1", "--out", str(tmp_path / "tiles")])
    assert {read(path).shape[:2] for path in (tmp_path / "tiles").glob("*_sample_0.png")} == {TILE}
    label_maps = sorted(root.glob("gtFine/val/*/*.png"))
    sample.main([str(run), "--label-maps", *map(str, label_maps), "--samples", "1", "--out", str(tmp_path / "whole")])
    assert {read(path).shape[:2] for path in (tmp_path / "whole").glob("*_sample_0.png")} == {(20, 68)}
    photo = sorted(root.glob("leftImg8bit/val/*/*.png"))[0]
    transfer.main([str(run), "--content-photo", str(photo), "--content-label", str(label_maps[0]), "--structure-label",
                   str(label_maps[1]), "--out", str(tmp_path / "moved")])
    assert {read(path).shape[:2] for path in (tmp_path / "moved").glob("*_on_*.png")} == {(20, 68)}
    evaluate.main([str(run), "--data", "generated", "--generated", "4", "--out", str(tmp_path / "drawn")])
    assert "drawn scenes have no size" in line_of_mistake(
        evaluate.main, capsys, run, "--data", "generated", "--tile", "--out", tmp_path / "no")
    assert "leave it out" in line_of_mistake(inspect_data.main, capsys, root, "--tile", "--out", tmp_path / "sheet.png")
    other = tmp_path / "other.png"
    save(other, np.zeros((24, 40), np.uint8))
    assert "the files are of 2 sizes" in line_of_mistake(
        sample.main, capsys, run, "--label-maps", label_maps[0], other, "--out", tmp_path / "no")


def test_files_that_cannot_be_read(root, tmp_path, capsys):
    for side in "AB":
        for i in range(4):
            write(tmp_path / "data" / side / f"{i}.png", np.full(LARGE, i, np.uint8))
    (tmp_path / "data" / "B" / "0.png").write_bytes(b"no picture")
    options = [*TINY, "--data", tmp_path / "data", "--out", tmp_path / "run"]
    assert "0.png" in line_of_mistake(train.main, capsys, *options)
    train.main([*map(str, options), "--skip-bad-files"])
    assert Run(tmp_path / "run").config["data_statistics"]["training_pairs"] == 16  # two whole files, of eight tiles


def test_sizes_are_those_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.webp"):
        Image.new("RGB", (30, 20)).save(tmp_path / name, exif=exif)
        assert pictures.size_of(tmp_path / name) == pictures.values(tmp_path / name).shape[:2] == (30, 20)
    np.save(tmp_path / "a.npy", np.zeros((20, 30, 5), np.uint8))
    assert pictures.size_of(tmp_path / "a.npy") == (20, 30)


def test_no_tile_is_cut_again(root):
    tiles = open_dataset(root, "val", TILE, options=DataOptions(tile=True))
    assert isinstance(tiles, Tiles)
    with pytest.raises(ValueError, match="tiles are not cropped"):
        tiles.read(0, tiles.tiles[0][1])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_sizes_are_those_that_are_read(tmp_path, turn, ending):
    exif, path = Image.Exif(), tmp_path / f"a.{ending}"
    exif[0x0112] = turn
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert pictures.size_of(path) == pictures.values(path).shape[:2] == ((20, 30) if turn < 5 else (30, 20))


def test_sizes_of_unusual_files_are_those_that_are_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 3_000_000, zip=True)
    Image.new("L", (7, 9)).save(tmp_path / "text.png", pnginfo=text)
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    Image.new("L", (7, 9)).save(tmp_path / "xmp.jpg", xmp=xmp)
    with (tmp_path / "new.npy").open("wb") as file:
        np.lib.format.write_array(file, np.zeros((9, 7), np.uint8), version=(3, 0))
    Image.new("L", (7, 9)).save(tmp_path / "xmp.tif", tiffinfo={700: xmp})
    for path in tmp_path.iterdir():
        assert pictures.size_of(path) == pictures.values(path).shape[:2]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: None])
def test_what_is_no_file_has_no_size(tmp_path, make):
    make(tmp_path / "a.png")
    with pytest.raises(OSError, match=r"got (a folder, pipe or device|no file)"):
        pictures.size_of(tmp_path / "a.png")


@pytest.mark.parametrize(("name", "content"), [
    ("a.png", b"\x89PNG\r\n\x1a\n"), ("b.jpg", b"no picture"), ("c.npy", b"no array"), ("d.webp", b""),
    ("e.tif", b"II*\0\xff\xff\xff\xff"),
])
def test_what_has_no_size_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=rf"^expected a readable .* in {tmp_path / name}, got"):
        pictures.size_of(tmp_path / name)


def test_a_pair_is_a_tile_only_if_it_cannot_be_read(root, monkeypatch):
    def without_size(self, index):
        raise ValueError("no size")
    monkeypatch.setattr(Cityscapes, "size", without_size)
    with pytest.raises(ValueError, match="no size"):
        open_dataset(root, "val", TILE, options=DataOptions(tile=True))


def test_an_exported_model_of_tiles_is_one(root, run, tmp_path):
    Pretrained.from_run(run).save_pretrained(tmp_path / "exported")
    label_map = next((root / "gtFine" / "val").rglob("*_labelIds.png"))
    for number, model in enumerate((run, tmp_path / "exported")):
        out = tmp_path / str(number)
        sample.main([str(model), "--label-maps", str(label_map), "--samples", "1", "--out", str(out)])
    first, second = (next((tmp_path / name).glob("*_sample_0.png")).read_bytes() for name in "01")
    assert first == second
    evaluate.main([str(run), str(tmp_path / "exported"), "--data", str(root), "--repeats", "1",
                   "--out", str(tmp_path / "judged")])


def test_a_data_set_of_samples_has_tiles_or_none(root, tmp_path, capsys):
    whole, options = make_run(tmp_path / "whole", image_size=list(TILE)), ["--data", root, "--samples", "1"]
    sample.main([str(whole), *map(str, options), "--augment", str(tmp_path / "set")])
    said = line_of_mistake(sample.main, capsys, whole, *options, "--augment", tmp_path / "set", "--tile")
    assert "was made with" in said
    assert "tile" in said


def test_a_file_is_read_at_its_own_size_where_tiles_are_asked_for(root, tmp_path, capsys):
    whole = make_run(tmp_path / "whole", image_size=list(TILE))
    label_map = next((root / "gtFine" / "val").rglob("*_labelIds.png"))
    assert "leave out --image-size, or --tile" in line_of_mistake(
        sample.main, capsys, whole, "--label-maps", label_map, "--tile", "--image-size", "8", "16", "--out", tmp_path)
    out = tmp_path / "out"
    sample.main([str(whole), "--label-maps", str(label_map), "--tile", "--samples", "1", "--out", str(out)])
    assert pictures.size_of(next(out.glob("*_sample_0.png"))) == (20, 68)
