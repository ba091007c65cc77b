"""Tiles of images that are larger than what a model is trained on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import line_of_mistake, make_run, read, save, write, write_pairs

import evaluate
import inspect_data
import sample
import train
import transfer
from streets.config.data import DataOptions
from streets.data import checking, pictures
from streets.data.datasets import open_dataset
from streets.data.parts import Part
from streets.data.tiles import Tiles
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
