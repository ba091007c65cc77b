"""The look at all files before a training: what cannot be used is found before the first step, in every split."""

import os
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from resuming import OPTIONS
from run_helpers import line_of_mistake, read, save, write_pairs

import train
import train_classifier
from streets.data import checking
from streets.data.checking import READ, check_files
from streets.data.cityscapes import Cityscapes
from streets.data.drawn import StreetScenes
from streets.data.parts import Part
from streets.system import progress

SIZE = (16, 32)


@pytest.fixture
def root(tmp_path):
    """Write a data set of which the validation has more pairs than are read in any case."""
    return write_pairs(write_pairs(tmp_path / "data", {"aachen": 12}, SIZE), {"ulm": 20}, SIZE, "val")


def files_of(root, number, split="val", city="ulm"):
    """Return photo and label map of a pair, which is not one of the few that are read in any case."""
    name = f"{city}_000000_{number:06d}"
    return (root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png",
            root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png")


def enlarge(path):
    save(path, np.zeros((32, 64, 3), np.uint8))


DAMAGE = {
    "cut off at its end": (lambda path: os.truncate(path, path.stat().st_size - 20), "expected a readable PNG"),
    "empty": (lambda path: path.write_bytes(b""), "got an empty file"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "got a folder, pipe or device"),
    "a GIF": (lambda path: Image.open(path).convert("RGB").save(path, "GIF"), "got a GIF file"),
    "of another size": (enlarge, "32x64"),
}
ADVICE = "; or leave out what cannot be read with --skip-bad-files"


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_file_of_validation_is_found_before_the_first_step(side, damage, root, tmp_path, capsys):
    spoil, message = DAMAGE[damage]
    path = files_of(root, 2)[side]
    spoil(path)
    if damage == "of another size" and side == 1:
        Image.open(path).convert("L").save(path)
    said = line_of_mistake(train.main, capsys, *OPTIONS, "--data", root, "--out", tmp_path / "run")
    assert message in said
    assert str(path) in said
    assert said.strip().endswith(ADVICE)
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_all_files_is_found_too_and_skipping_is_not_offered(root, tmp_path, capsys):
    for number in range(20):
        save(files_of(root, number)[1], np.full(SIZE, 99, np.uint8))
    said = line_of_mistake(train.main, capsys, *OPTIONS, "--data", root, "--out", tmp_path / "run")
    assert "got 99" in said
    assert "--skip-bad-files" not in said


def test_a_classifier_looks_at_what_it_will_be_scored_on(root, tmp_path, capsys):
    path = files_of(root, 2)[0]
    os.truncate(path, 60)
    options = "--data", root, "--image-size", *SIZE, "--out", tmp_path / "judge"
    said = line_of_mistake(train_classifier.main, capsys, *options)
    assert str(path) in said
    assert "--skip-bad-files" not in said


def test_good_files_are_not_read_but_for_a_few(root, monkeypatch):
    dataset = Cityscapes(root, "val", SIZE)
    seen = Mock(wraps=Cityscapes.read)
    monkeypatch.setattr(Cityscapes, "read", lambda self, *given: seen(self, *given))
    check_files(dataset, "val")
    assert [call.args[1] for call in seen.call_args_list] == [0, 3, 5, 8, 11, 14, 16, 19]
    assert seen.call_count == READ
    check_files(StreetScenes("val", SIZE, 3), "val")


def test_parts_of_a_data_set_are_looked_at_alone(root):
    path = files_of(root, 2)[0]
    os.truncate(path, 60)
    dataset = Cityscapes(root, "val", SIZE)
    check_files(Part(Part(dataset, range(3, 20)), [0, 2, 4]), "val")
    with pytest.raises(ValueError, match=path.name):
        check_files(Part(Part(dataset, range(1, 20)), range(12)), "val")


def test_photos_that_are_turned_are_as_large_as_their_label_maps(root):
    path = files_of(root, 2)[0]
    turned = Image.fromarray(read(path)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    turned.save(path, exif=exif)
    assert Image.open(path).size != Image.open(files_of(root, 2)[1]).size
    check_files(Cityscapes(root, "val", SIZE), "val")


def test_a_slow_look_shows_how_far_it_is(root, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    check_files(Cityscapes(root, "val", SIZE), "val")
    said = capsys.readouterr().err
    assert "looking at files of val: 7 of 20, " in said
    assert f"reading files of val: {READ} of {READ}, " in said


def test_opening_asks_for_no_file_by_itself(root, monkeypatch):
    monkeypatch.setattr(os, "stat", Mock(wraps=os.stat))
    dataset = Cityscapes(root, "val", SIZE)
    assert not [call for call in os.stat.call_args_list if str(call.args[0]).endswith(".png")]
    assert list(dataset.sides(2).values()) == [*files_of(root, 2)]


def test_too_many_pixels_are_not_usual(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((4, 8), np.uint8))
    assert checking.look(tmp_path / "a.png") == ((8, 4), "L")
    monkeypatch.setattr(checking, "MOST_PIXELS", 31)
    assert checking.look(tmp_path / "a.png") is None
