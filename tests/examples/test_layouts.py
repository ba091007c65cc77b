"""Layouts of pairs: recognized by what is there, with nothing dropped in silence and nothing guessed."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import refused, write, write_pairs

from streets.config.data import DataOptions
from streets.data import datasets, folders
from streets.data.crops import Window
from streets.data.image_pairs import ImagePairs
from streets.data.pixels import PairPixels, Pixels

SIZE = (6, 8)
TWO_FOLDERS = {
    "A/train": lambda root, split, side: root / side / split, "train/A": lambda root, split, side: root / split / side,
    "trainA": lambda root, split, side: root / f"{split}{side}",
}
"""Places of the images of a side of a split."""
FOLDERS = TWO_FOLDERS | {"side by side": lambda root, split, side: root / split}


def picture(number, side, size=SIZE, channels=3):
    """Make an image of one value, which says what pair and side it is of."""
    image = np.full((*size, channels), 10 * number + side, np.uint8)
    return image[..., 0] if channels == 1 else image


def write_sides(folders_of, numbers, endings=(".png", ".png"), **options):
    for number in numbers:
        for side, (folder, ending) in enumerate(zip(folders_of, endings, strict=True)):
            write(folder / f"{number:02d}{ending}", picture(number, side, **options))


def opened(root, split="train", **options):
    return datasets.open_dataset(root, split, SIZE, options=DataOptions(**options))


def check(dataset, numbers):
    """Check that pairs come in order and belong together."""
    assert isinstance(dataset.names, list)
    assert [int(name[-2:]) for name in dataset.names] == list(numbers)
    for i, number in enumerate(numbers):
        item = dataset[i]
        assert item["name"] == dataset.names[i]
        assert (item["condition"] == 10 * number).all()
        assert (item["photo"] == 10 * number + 1).all()
        assert item.keys() == {"name", "condition", "photo"}


@pytest.mark.parametrize("where", TWO_FOLDERS.values(), ids=TWO_FOLDERS)
def test_two_folders(tmp_path, where):
    for split, numbers in (("train", range(4)), ("val", (7, 9)), ("test", (8,))):
        write_sides([where(tmp_path, split, side) for side in "AB"], numbers)
    for split, numbers in (("train", range(4)), ("val", (7, 9)), ("test", (8,))):
        dataset = opened(tmp_path, split)
        check(dataset, numbers)
        assert dataset.notes == ()
    with refused(FileNotFoundError, "expected the split middle", "got A and B with t"):
        opened(tmp_path, "middle")


def test_side_by_side(tmp_path):
    for split, numbers in (("train", range(3)), ("val", (5,))):
        for number in numbers:
            write(tmp_path / split / f"{number:02d}.png", np.hstack([picture(number, 0), picture(number, 1)]))
    with refused(ValueError, tmp_path / "train", "--side left or --side right"):
        opened(tmp_path)
    check(opened(tmp_path, side="left"), range(3))
    check(opened(tmp_path, "val", side="left"), (5,))
    item = opened(tmp_path, side="right")[1]
    assert (item["condition"] == 11).all()
    assert (item["photo"] == 10).all()
    write(tmp_path / "train" / "03.png", picture(3, 0, (6, 9)))
    with refused(ValueError, tmp_path / "train" / "03.png", "odd width of 9"):
        opened(tmp_path, side="left")[3]


@pytest.mark.parametrize("head", ["", "edges,shoes\n", "edges,shoes,split\n"])
def test_tables(tmp_path, head):
    write_sides([tmp_path / "edges", tmp_path / "shoes"], range(4))
    split = ",{}" if head.count(",") == 2 else ""
    rows = [f"edges/{i:02d}.png, shoes/{i:02d}.png{split.format('val' if i == 3 else 'train')}" for i in range(4)]
    table = tmp_path / "pairs.csv"
    table.write_text(head + "\n".join(rows) + "\n")
    if split:
        check(opened(table), range(3))
        check(opened(table, "val"), (3,))
    else:
        check(opened(table), range(4))
    table.write_text("edges/00.png,shoes/00.png\nedges/00.png,shoes/01.png\n")  # an A of several B
    assert opened(table).names == ["shoes_00", "shoes_01"]
    table.write_text("edges/00.png,shoes/00.png\nedges/01.png,shoes/00.png\n")
    with refused(ValueError, "shoes/00 and shoes/00", "shoes_00"):
        opened(table)
    table.write_text("edges/00.png,shoes/00.png\nedges/nowhere.png,shoes/01.png\n")
    with refused(FileNotFoundError, "edges/nowhere.png", "the first of 1 beside 1 pairs", "--skip-unpaired"):
        opened(table)
    check(opened(table, skip_unpaired=True), (0,))
    for wrong in ("edges/00.png\n", "edges/00.png,shoes/00.png\na,b\n", "a.png,b.png,train,c\n"):
        table.write_text(wrong)
        with refused(ValueError, table, "two columns of pictures"):
            opened(table)
    table.write_bytes(b"edges/00.png,\xff.png")
    with refused(ValueError, table, "UTF-8"):
        opened(table)


def test_what_is_not_recognized_is_described(tmp_path):
    for name in ("photos", "masks"):
        write(tmp_path / name / "a.png", picture(1, 0))
    (tmp_path / "notes.txt").write_text("")
    with refused(FileNotFoundError, "found masks, photos, 1 .txt file in", "--dataset MODULE:FUNCTION"):
        opened(tmp_path)
    with refused(FileNotFoundError, tmp_path / "nowhere", "got nothing"):
        opened(tmp_path / "nowhere")
    with refused(FileNotFoundError, "notes.txt", "a file, which is no .csv"):
        opened(tmp_path / "notes.txt")
    with refused(FileNotFoundError, "give the folder in which both zip files"):
        (tmp_path / "gtFine").mkdir()
        opened(tmp_path / "gtFine")


# Nothing is dropped


@pytest.mark.parametrize("alone", ["A/09.png", "B/09.png", "A/deep/er.png", "B/notes.txt", "A/04.gif"])
def test_files_without_a_partner_are_refused_or_left_out(tmp_path, alone):
    write_sides([tmp_path / "A", tmp_path / "B"], range(4), (".png", ".webp"))
    write(tmp_path / alone, picture(9, 0)) if alone.endswith("png") else (tmp_path / alone).write_text("")
    with refused(FileNotFoundError, tmp_path / alone, "the first of 1 beside 4 pairs", "--skip-unpaired"):
        opened(tmp_path)
    dataset = opened(tmp_path, skip_unpaired=True)
    assert len(dataset) == 4
    (note,) = dataset.notes
    assert str(tmp_path / alone) in note


def test_files_of_systems_are_no_data(tmp_path):
    write_sides([tmp_path / "A", tmp_path / "B"], range(4))
    for name in ("A/.DS_Store", "B/Thumbs.db", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    check(opened(tmp_path), range(4))


def test_two_files_of_one_name_are_noticed(tmp_path):
    write_sides([tmp_path / "A", tmp_path / "B"], range(4))
    write(tmp_path / "A" / "02.jpg", picture(2, 0))
    with refused(ValueError, tmp_path / "A" / "02.jpg", tmp_path / "A" / "02.png", "same name"):
        opened(tmp_path, skip_unpaired=True)
    (tmp_path / "A" / "02.jpg").unlink()
    write_sides([tmp_path / "A" / "x", tmp_path / "B" / "x"], [1])
    write(tmp_path / "A" / "x_01.png", picture(1, 0))
    write(tmp_path / "B" / "x_01.png", picture(1, 0))
    with refused(ValueError, "x/01 and x_01", "both be named x_01"):
        opened(tmp_path)


def test_pictures_beside_splits_are_noticed(tmp_path):
    write_sides([tmp_path / "A" / "train", tmp_path / "B" / "train"], range(4))
    write(tmp_path / "A" / "loose.png", picture(1, 0))
    with refused(ValueError, tmp_path / "A" / "loose.png", "of no split"):
        opened(tmp_path)


def unreadable(monkeypatch, folder):
    """Make a folder unreadable, to root as well."""
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path) == os.fspath(folder):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)


@pytest.mark.parametrize("folder", ["A", "B", "A/deep"])
def test_folders_that_cannot_be_read_are_an_error(tmp_path, monkeypatch, folder):
    write_sides([tmp_path / "A", tmp_path / "B"], range(4))
    write_sides([tmp_path / "A" / "deep", tmp_path / "B" / "deep"], range(2))
    unreadable(monkeypatch, tmp_path / folder)
    with refused(PermissionError, tmp_path / folder):
        opened(tmp_path, skip_unpaired=True)


@pytest.mark.parametrize("folder", ["leftImg8bit/train/ulm", "gtFine/train/ulm", "gtFine/train", "leftImg8bit"])
def test_cities_that_cannot_be_read_are_an_error(tmp_path, monkeypatch, folder):
    write_pairs(tmp_path, {"aachen": 2, "ulm": 2})
    unreadable(monkeypatch, tmp_path / folder)
    with refused(PermissionError, tmp_path / folder):
        opened(tmp_path, skip_unpaired=True)


def test_photos_of_cityscapes_may_be_jpeg(tmp_path):
    write_pairs(tmp_path, {"ulm": 3})
    for path in (tmp_path / "leftImg8bit").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".JPG"), "JPEG")
        path.unlink()
    dataset = datasets.Part(opened(tmp_path), range(3))
    assert dataset[2]["photo"].shape == (3, *SIZE)
    assert dataset[2]["label"].shape == SIZE
    path.with_suffix(".JPG").rename(path.with_name("other.jpg"))
    with refused(FileNotFoundError, "1 of 3 label maps have no photo, 1 pictures have other names"):
        opened(tmp_path)
    assert len(opened(tmp_path, skip_unpaired=True)) == 2


def test_cities_of_one_name_of_photo_are_refused(tmp_path):
    write_pairs(tmp_path, {"aachen": 1, "ulm": 1})
    for path in (tmp_path / "leftImg8bit").rglob("*ulm_0*"):
        path.rename(path.with_name(path.name.replace("ulm", "aachen")))
    for path in (tmp_path / "gtFine").rglob("*ulm_0*"):
        path.rename(path.with_name(path.name.replace("ulm", "aachen")))
    with refused(ValueError, "aachen/aachen_000000_000000", "ulm/aachen_000000_000000", "same name"):
        opened(tmp_path)


# Validation from training


@pytest.mark.parametrize("kind", ["A and B", "Cityscapes", "own"])
def test_validation_is_split_off_evenly_where_there_is_none(tmp_path, monkeypatch, kind):
    root, options = tmp_path, DataOptions()
    if kind == "A and B":
        write_sides([tmp_path / "A", tmp_path / "B"], range(25))
    elif kind == "Cityscapes":
        write_pairs(tmp_path, {"aachen": 15, "ulm": 10})
    else:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "only_train.py").write_text(
            "import numpy as np\n\ndef split(name):\n    return None if name != 'train' else "
            "[(np.full((4, 4), i, np.uint8), np.full((4, 4, 3), i, np.uint8)) for i in range(25)]\n")
        root, options = None, DataOptions(dataset="only_train:split")
    parts = {}
    for split in ("train", "val"):
        parts[split] = datasets.open_dataset(root, split, SIZE, options=options, hold_out=True)
    whole = datasets.open_dataset(root, "train", SIZE, options=options)
    assert len(whole) == 25
    assert sorted(parts["train"].names + parts["val"].names) == sorted(whole.names)
    assert [whole.names.index(name) for name in parts["val"].names] == [6, 18]
    assert "2 of 25 training pairs, evenly spread, are held out" in parts["val"].notes[0]
    assert [item["name"] for item in parts["val"]] == parts["val"].names
    assert parts["train"].read(3)["name"] == parts["train"].names[3]
    if kind == "Cityscapes":
        ulm = datasets.open_dataset(root, "train", SIZE, cities=["ulm"], hold_out=True)
        assert {name.split("_")[0] for name in ulm.names} == {"ulm"}
        assert len(ulm) == 9
    elif kind == "A and B":
        with refused(ValueError, "--cities ulm", "leave them out"):
            datasets.open_dataset(root, "train", SIZE, cities=["ulm"])


def test_a_single_pair_cannot_be_split(tmp_path):
    write_sides([tmp_path / "A", tmp_path / "B"], [1])
    with refused(ValueError, "none can be held out", "add pairs"):
        opened(tmp_path, "val")


# Pixels


@pytest.mark.parametrize(("channels", "endings", "pixels"), [
    ((1, 3), (".png", ".jpg"), PairPixels(Pixels(1), Pixels(3))),
    ((3, 1), (".webp", ".tif"), PairPixels(Pixels(3), Pixels(1))),
    ((2, 5), (".npy", ".npy"), PairPixels(Pixels(2), Pixels(5))),
])
def test_sides_keep_their_channels(tmp_path, channels, endings, pixels):
    for side, (count, ending) in enumerate(zip(channels, endings, strict=True)):
        for i in range(3):
            write(tmp_path / "AB"[side] / f"{i:02d}{ending}", picture(i, side, (9, 12), count))
    dataset = opened(tmp_path)
    assert dataset.pixels == pixels
    assert dataset[0]["condition"].shape == (channels[0], *SIZE)
    assert dataset[0]["photo"].shape == (channels[1], *SIZE)


def test_16_bits_are_kept_and_a_side_has_one_kind(tmp_path):
    for i in range(3):
        write(tmp_path / "A" / f"{i}.png", np.full(SIZE, 1000 * i + 7, np.uint16))
        write(tmp_path / "B" / f"{i}.npy", np.full((*SIZE, 3), 60000 + i, np.uint16))
    dataset = opened(tmp_path)
    assert dataset.pixels == PairPixels(Pixels(1, 16), Pixels(3, 16))
    assert (dataset[2]["condition"] == 2007).all()
    assert (dataset[2]["photo"] == 60002).all()
    write(tmp_path / "A" / "1.png", picture(1, 0))
    with refused(ValueError, tmp_path / "A" / "1.png", "expected 1 channel of 16 bits", "got 3 channels of 8 bits",
                 tmp_path / "A" / "0.png"):
        dataset[1]


def test_sides_of_two_sizes_are_cropped_to_the_same_place(tmp_path):
    wide = np.tile(np.arange(0, 240, 10, dtype=np.uint8)[None].repeat(12, 0)[..., None], (1, 1, 3))
    write(tmp_path / "A" / "0.png", wide[::3, ::3])
    write(tmp_path / "B" / "0.png", wide)
    dataset = opened(tmp_path)
    window = Window(0.25, 0.5, 0.5, 0.5)
    item = dataset.read(0, window)
    assert item["photo"].shape == item["condition"].shape == (3, *SIZE)
    assert (item["photo"].float() - item["condition"].float()).abs().mean() < 15
    assert item["photo"].min() > 100
    assert torch.equal(dataset.read(0)["photo"], dataset[0]["photo"])


def test_a_damaged_first_pair_is_named_when_it_is_read(tmp_path):
    write_sides([tmp_path / "A", tmp_path / "B"], range(3))
    (tmp_path / "A" / "00.png").write_bytes(b"")
    dataset = opened(tmp_path)
    with refused(ValueError, tmp_path / "A" / "00.png"):
        dataset[0]
    check(datasets.Part(dataset, [1, 2]), (1, 2))
    for path in (tmp_path / "B").iterdir():
        path.write_bytes(b"")
    with refused(ValueError, "00.png", "empty file"):
        opened(tmp_path)


# Functions of one's own

MODULE = """
import numpy as np
from PIL import Image

class Pairs:
    names = [f"no_{i:02d}" for i in range(3)]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("L", (8, 6), 10 * index), np.full((6, 8, 3), 10 * index + 1, np.uint8)

def split(name):
    return {"train": Pairs(), "val": [pair for pair in map(Pairs().__getitem__, range(2))]}.get(name)

def nothing(name):
    return []

def singles(name):
    return [np.zeros((2, 2), np.uint8)]

def floats(name):
    return [(np.zeros((2, 2)), np.zeros((2, 2)))]

class Same(Pairs):
    names = ["one", "two", "one"]

def same(name):
    return Same()

class Few(Pairs):
    names = ["one"]

def few(name):
    return Few()

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_pairs.py").write_text(MODULE)


@pytest.mark.usefixtures("own")
def test_pairs_of_a_function(tmp_path):
    dataset = opened(None, dataset="own_pairs:split")
    assert isinstance(dataset, ImagePairs)
    assert dataset.pixels == PairPixels(Pixels(1), Pixels(3))
    check(dataset, range(3))
    check(opened(None, "val", dataset="own_pairs:split"), range(2))
    with refused(FileNotFoundError, "returns None for the split test"):
        opened(None, "test", dataset="own_pairs:split")
    with refused(ValueError, "leave out --data"):
        opened(tmp_path, dataset="own_pairs:split")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("name", "said"), [
    ("own_pairs", "MODULE:FUNCTION"), ("own_pairs:", "MODULE:FUNCTION"), ("own_pairs:nowhere", "nowhere"),
    ("no_such_module:split", "no_such_module"), ("own_pairs:number", "expected a function, got int"),
    ("own_pairs:nothing", "expected a sequence of pairs"), ("own_pairs:singles", "expected pairs (A, B)"),
    ("own_pairs:floats", "float64"), ("own_pairs:same", "both be named one"),
    ("own_pairs:few", "got 1 and 3"),
])
def test_functions_that_give_no_pairs(name, said):
    with refused(ValueError, said):
        opened(None, dataset=name)


def test_a_module_that_imports_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_pairs.py").write_text("import beside_help\n")
    (tmp_path / "beside_help.py").touch()
    with refused(ValueError, "No module named 'beside_help': beside_pairs imports it", "PYTHONPATH=."):
        opened(None, dataset="beside_pairs:split")


@pytest.mark.parametrize("name", ["Train", "training", "validation", "valid", "Val", "TEST", "eval"])
@pytest.mark.parametrize("where", FOLDERS.values(), ids=FOLDERS)
def test_splits_of_almost_the_name_are_not_passed_over(tmp_path, where, name):
    for split in ("train", name):
        write_sides([where(tmp_path, split, side) for side in "AB"], range(2))
    side = "left" if where(tmp_path, "x", "A") == where(tmp_path, "x", "B") else None
    with refused(ValueError, "expected the splits train, val, test", f"found {name}"):
        opened(tmp_path, side=side)


def test_folders_of_almost_the_names_of_splits_beside_a_picture(tmp_path):
    for place in ("Train", "Validation", ""):
        write_sides([tmp_path / place], range(2), endings=(".png",))
    with refused(ValueError, "expected the splits train, val, test", "found Train"):
        opened(tmp_path, side="left")


def test_folders_of_almost_the_names_of_splits_alone_are_no_parts_of_names(tmp_path):
    for split in ("Train", "Val"):
        write_sides([tmp_path / side / split for side in "AB"], range(2))
    with refused(ValueError, "expected the splits train, val, test", "found Train"):
        opened(tmp_path)


@pytest.mark.parametrize("where", TWO_FOLDERS.values(), ids=TWO_FOLDERS)
def test_half_a_split_is_not_passed_over(tmp_path, where):
    write_sides([where(tmp_path, "train", side) for side in "AB"], range(4))
    write_sides([where(tmp_path, "val", "A")], range(2), endings=(".png",))
    check(opened(tmp_path), range(4))
    with refused(FileNotFoundError, "found no", str(where(tmp_path, "val", "B"))):
        opened(tmp_path, "val")


@pytest.mark.parametrize("folders_of", [("A", "B"), ("trainA", "trainB"), ("train", "train")])
def test_pictures_beside_folders_are_said(tmp_path, folders_of):
    write_sides([tmp_path / name for name in folders_of], range(2), size=(6, 16))
    write(tmp_path / "overview.png", picture(0, 0))
    options = DataOptions(side="left" if folders_of[0] == folders_of[1] else None)
    said = f"not used, since they lie beside the folders: 1 pictures, first {tmp_path / 'overview.png'}"
    assert datasets.open_dataset(tmp_path, "train", SIZE, options=options).notes == (said,)
    assert said in datasets.open_dataset(tmp_path, "train", SIZE, options=options, hold_out=True).notes
    assert said not in datasets.open_dataset(tmp_path, "val", SIZE, options=options).notes


def test_rows_of_a_table_are_not_passed_over(tmp_path):
    write_sides([tmp_path / side for side in "AB"], range(4))
    table = tmp_path / "pairs.csv"
    table.write_text("A/00.png,B/00.png,train\nA/01.png,B/01.png,\nA/02.png,B/02.png, \n")
    check(opened(table), range(3))
    table.write_text("A/00.png , B/00.png, train\n ,\n\nA/01.png,B/01.png\n")
    check(opened(table), range(2))
    table.write_text("A/00.png,B/00.png,train\nA/01.png,B/01.png,Train\n")
    with refused(ValueError, "expected the splits train, val, test", "found Train"):
        opened(table)
    table.write_text("A/00.bmp,B/00.bmp\nA/01.png,B/01.png\n")
    with refused(ValueError, "expected two columns of pictures", "A/00.bmp,B/00.bmp"):
        opened(table)


@pytest.mark.parametrize("name", ["pairs.csv", ""])
def test_a_side_of_what_has_no_halves_is_refused(tmp_path, name):
    write_sides([tmp_path / side for side in "AB"], range(2))
    (tmp_path / "pairs.csv").write_text("A/00.png,B/00.png\n")
    with refused(ValueError, "--side left: expected images side by side", "leave it out"):
        opened(tmp_path / name, side="left")


def dictionaries(name):
    return [{"image": picture(0, 0), "edges": picture(0, 1)}]


def mapping(name):
    return {"train": [(picture(0, 0), picture(0, 1))]}


def broken_later(name):
    return [(picture(0, 0), picture(0, 1)), (picture(1, 0),)]


def channels_first(name):
    return [(np.zeros((3, 32, 64), np.uint8), picture(0, 1))]


class Nameless(list):
    names = None


def nameless(name):
    return Nameless([(picture(0, 0), picture(0, 1))])


class Named(list):
    names = np.array(["first", "second"])


def named(name):
    return Named([(picture(i, 0), picture(i, 1)) for i in range(2)])


def big_endian(name):
    return [(picture(0, 0).astype(">u2"), picture(0, 1))]


@pytest.mark.parametrize(("name", "said"), [
    ("dictionaries", "expected pairs (A, B), got dict"), ("mapping", "got dict without pair 0"),
    ("channels_first", "of at most 32 channels"),
])
def test_functions_that_give_something_else(tmp_path, monkeypatch, name, said):
    with refused(ValueError, said):
        datasets.open_dataset(None, "train", SIZE, options=DataOptions(dataset=f"{__name__}:{name}"))


def test_odd_sequences_of_pairs():
    names = "nameless", "named", "big_endian", "broken_later"
    options = [DataOptions(dataset=f"{__name__}:{name}") for name in names]
    first, second, wide, broken = (datasets.open_dataset(None, "train", SIZE, options=each) for each in options)
    assert first.names == ["train_000000"]
    assert second.names == ["first", "second"]
    assert wide.pixels.condition.bits == 16
    assert (wide[0]["condition"] == 0).all()
    with refused(ValueError, "expected two images (A, B) as pair 1 of train"):
        broken[1]
