"""The two datasets: what items hold, that pairs belong together, and that broken data is named."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import CAMVID, refused
from torch.utils.data import DataLoader, default_collate

from streets.data import cityscapes, datasets, drawn, items, labels, png
from streets.data.label_sets import CITYSCAPES
from streets.data.pairs import Pairs

SIZE = (16, 32)


@pytest.fixture
def camvid() -> Path:
    if not CAMVID.is_dir():
        pytest.skip("shared data (CamVid in the Cityscapes layout) is not there")
    return CAMVID


def photo_path(root: Path, split: str, city: str, name: str) -> Path:
    return root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"


def map_path(root: Path, split: str, city: str, name: str, kind: str = "labelIds") -> Path:
    return root / "gtFine" / split / city / f"{name}_gtFine_{kind}.png"


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def add_pair(root: Path, split: str, city: str, number: int, size=SIZE, instances: bool = False) -> str:
    """Add a pair that can be told from others: number in the red channel, id number % 34 in the left half."""
    name = f"{city}_000000_{number:06d}"
    photo = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
    photo[..., 0] = number
    label = np.full(size, 7, dtype=np.uint8)
    label[:, : size[1] // 2] = number % 34
    save(photo_path(root, split, city, name), photo)
    save(map_path(root, split, city, name), label)
    if instances:
        ids = label.astype(np.uint16)
        ids[: size[0] // 2] = 26001
        ids[:, -1] = 26002
        save(map_path(root, split, city, name, "instanceIds"), ids)
    return name


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write two cities in train and one in val, in another order than they sort in."""
    for split, city, number in [
        ("train", "ulm", 3),
        ("train", "aachen", 12),
        ("train", "aachen", 2),
        ("val", "lindau", 5),
    ]:
        add_pair(tmp_path, split, city, number)
    return tmp_path


def one_pair(root: Path) -> tuple[Path, Path]:
    name = add_pair(root, "train", "ulm", 1)
    return photo_path(root, "train", "ulm", name), map_path(root, "train", "ulm", name)


def check_item(item: items.Item, size: tuple[int, int]) -> None:
    assert item["photo"].shape == item["condition"].shape == (3, *size)
    assert item["label"].shape == size
    assert item["photo"].dtype == item["condition"].dtype == item["label"].dtype == torch.uint8
    assert item["photo"].is_contiguous()
    assert item["condition"].is_contiguous()
    assert np.array_equal(item["condition"].permute(1, 2, 0).numpy(), CITYSCAPES.colorize(item["label"].numpy()))
    if "instances" in item:
        assert item["instances"].shape == size
        assert item["instances"].dtype == torch.int32


# Cityscapes: what is read


def test_pairs_come_in_order_and_belong_together(release):
    dataset = cityscapes.Cityscapes(release, "train", SIZE)
    assert [item["name"] for item in dataset] == [
        "aachen_000000_000002",
        "aachen_000000_000012",
        "ulm_000000_000003",
    ]
    for item in dataset:
        check_item(item, SIZE)
        number = int(item["name"][-6:])
        assert (item["photo"][0] == number).all()
        assert (item["label"][:, :16] == number % 34).all()
        assert (item["label"][:, 16:] == 7).all()
        assert "instances" not in item
    assert len(cityscapes.Cityscapes(str(release), "val", SIZE)) == 1


def test_at_size_nothing_is_resampled(release):
    item = cityscapes.Cityscapes(release, "train", SIZE)[2]
    original = Image.open(photo_path(release, "train", "ulm", item["name"]))
    assert np.array_equal(item["photo"].permute(1, 2, 0).numpy(), np.array(original))


@pytest.mark.parametrize("size", [(8, 16), (16, 16), (13, 50), (1, 1), (64, 128)])
def test_photos_are_smoothed_and_maps_are_not(tmp_path, size):
    one_pair(tmp_path)
    item = cityscapes.Cityscapes(tmp_path, "train", size)[0]
    check_item(item, size)
    assert set(item["label"].unique().tolist()) <= {1, 7}
    if size[1] % 2 == 0:
        assert (item["label"][:, : size[1] // 2] == 1).all()
        assert (item["label"][:, size[1] // 2 :] == 7).all()


def test_shrinking_a_fine_pattern_gives_grey_not_aliases(tmp_path):
    photo, _ = one_pair(tmp_path)
    stripes = np.zeros((*SIZE, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    save(photo, stripes)
    shrunk = cityscapes.Cityscapes(tmp_path, "train", (4, 8))[0]["photo"]
    assert shrunk.min() > 100
    assert shrunk.max() < 155


def test_photo_map_and_instances_shrink_alike(tmp_path):
    """Check that a square in all three stays in one place, also where the factor is no whole number."""
    size, target = (90, 210), (32, 40)
    name = add_pair(tmp_path, "train", "ulm", 1, size, instances=True)
    mask = np.zeros(size, dtype=bool)
    mask[30:60, 70:140] = True
    save(photo_path(tmp_path, "train", "ulm", name), np.repeat(mask[..., None] * np.uint8(255), 3, -1))
    save(map_path(tmp_path, "train", "ulm", name), np.where(mask, 26, 7).astype(np.uint8))
    save(map_path(tmp_path, "train", "ulm", name, "instanceIds"), np.where(mask, 26000, 7).astype(np.uint16))
    item = cityscapes.Cityscapes(tmp_path, "train", target)[0]
    square = item["photo"][0] > 127
    assert torch.equal(item["label"] == 26, square)
    assert torch.equal(item["instances"] == 26000, square)


def test_instances_are_read_where_all_items_have_them(tmp_path):
    for number in (1, 2):
        add_pair(tmp_path, "train", "ulm", number, instances=True)
    dataset = cityscapes.Cityscapes(tmp_path, "train", (8, 16))
    for item in dataset:
        check_item(item, (8, 16))
        assert (item["instances"][:4, :-1] == 26001).all()
        assert (item["instances"][4:, 8:-1] == 7).all()
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch["instances"].shape == (2, 8, 16)


def test_instances_of_only_some_items_are_refused(tmp_path):
    add_pair(tmp_path, "train", "ulm", 1, instances=True)
    missing = map_path(tmp_path, "train", "ulm", add_pair(tmp_path, "train", "ulm", 2), "instanceIds")
    with pytest.raises(FileNotFoundError, match=re.escape(str(missing))):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)


def test_maps_of_ids_never_hold_255(tmp_path):
    _, label = one_pair(tmp_path)
    save(label, np.full(SIZE, 255, dtype=np.uint8))
    with refused(ValueError, label, "255", "(0, 0)", "--label-values train_ids"):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
@pytest.mark.filterwarnings("error")
def test_photos_of_other_modes_become_rgb(tmp_path, mode):
    photo, _ = one_pair(tmp_path)
    original = Image.open(photo)
    converted = original.convert(mode)
    if mode in ("LA", "RGBA"):
        converted.putalpha(40)
    converted.save(photo, **({"transparency": bytes([0, 128] * 8)} if mode == "P" else {}))
    item = cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]
    check_item(item, SIZE)
    expected = np.array(converted.convert("RGBA"))[..., :3]
    assert np.array_equal(item["photo"].permute(1, 2, 0).numpy(), expected)


def test_maps_of_16_bit_are_read(tmp_path):
    _, label = one_pair(tmp_path)
    save(label, np.full(SIZE, 26, dtype=np.uint16))
    assert (cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]["label"] == 26).all()


def test_maps_without_a_photo_are_refused_or_left_out(release):
    alone = map_path(release, "train", "ulm", "ulm_000000_000099")
    save(alone, np.zeros(SIZE, dtype=np.uint8))
    with refused(FileNotFoundError, photo_path(release, "train", "ulm", "ulm_000000_000099"), alone, "--skip-unpaired"):
        cityscapes.Cityscapes(release, "train", SIZE)
    dataset = cityscapes.Cityscapes(release, "train", SIZE, skip_unpaired=True)
    assert len(dataset) == 3
    (note,) = dataset.notes
    assert "1 of 4 label maps have no photo" in note
    assert str(alone) in note


# Cityscapes: what is refused


@pytest.mark.parametrize(("city", "beside"), [("ulm", None), ("ulm", "ulm_000000_000099_leftImg8bit.bmp"),
                                              ("berlin", None)])
def test_a_map_without_a_photo_is_refused_with_their_number(release, city, beside):
    name = f"{city}_000000_000099"
    path = map_path(release, "train", city, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, np.zeros(SIZE, dtype=np.uint8))
    photo = photo_path(release, "train", city, name)
    if beside:
        photo.with_name(beside).touch()
    with refused(FileNotFoundError, photo, beside or "none", "1 of 4 label maps"):
        cityscapes.Cityscapes(release, "train", SIZE)
    other = next(c for c in ("aachen", "ulm") if c != city)  # what is not asked for does not count
    assert len(cityscapes.Cityscapes(release, "train", SIZE, [other]))


def test_a_city_that_cannot_be_read_is_named(release, monkeypatch):
    read = os.scandir
    closed = next((release / "leftImg8bit" / "train").iterdir())

    def scandir(path):
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with refused(OSError, closed, "Permission denied"):
        cityscapes.Cityscapes(release, "train", SIZE)


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (8,), (8, 8, 3), (8.5, 8)])
def test_image_sizes_must_be_two_positive_integers(release, size):
    for make in (lambda: cityscapes.Cityscapes(release, "train", size), lambda: drawn.StreetScenes("train", size)):
        with refused(ValueError, "(height, width)", size):
            make()


def test_a_missing_root_is_named(tmp_path):
    with refused(FileNotFoundError, tmp_path / "nowhere", "check the path"):
        cityscapes.Cityscapes(tmp_path / "nowhere", "train", SIZE)


@pytest.mark.parametrize("present", [[], ["leftImg8bit"], ["gtFine"], ["other"]])
def test_a_root_without_both_folders_is_named(tmp_path, present):
    for folder in present:
        (tmp_path / folder).mkdir()
    missing = [folder for folder in ("leftImg8bit", "gtFine") if folder not in present]
    with refused(
        FileNotFoundError,
        tmp_path,
        f"missing {' and '.join(missing)}",
        f"found {', '.join(present) or 'nothing'}",
    ):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)


@pytest.mark.parametrize("split", ["test", "Train", ""])
def test_a_split_without_pairs_names_those_that_exist(release, split):
    (release / "leftImg8bit" / "test").mkdir()
    (release / "leftImg8bit" / "notes.txt").write_text("")
    with refused(FileNotFoundError, f"leftImg8bit/{split}/", "splits with photos are train, val"):
        cityscapes.Cityscapes(release, split, SIZE)


def test_a_photo_without_a_map_names_the_map(release):
    missing = map_path(release, "train", "aachen", "aachen_000000_000012")
    missing.unlink()
    with refused(FileNotFoundError, missing):
        cityscapes.Cityscapes(release, "train", SIZE)


@pytest.mark.parametrize("which", [0, 1], ids=["photo", "map"])
@pytest.mark.parametrize("content", [b"", b"no image", "half", "flipped", "gif"])
def test_unreadable_files_are_named(tmp_path, which, content):
    path = one_pair(tmp_path)[which]
    whole = path.read_bytes()
    if content == "half":
        content = whole[: len(whole) // 2]
    elif content == "flipped":
        content = whole[:20] + bytes([whole[20] ^ 255]) + whole[21:]
    elif content == "gif":
        buffer = io.BytesIO()
        Image.open(path).save(buffer, "gif")
        content = buffer.getvalue()
    path.write_bytes(content)
    dataset = cityscapes.Cityscapes(tmp_path, "train", SIZE)
    with refused(ValueError, path, "readable PNG"):
        dataset[0]


def test_damage_anywhere_in_a_file_ends_in_a_value_error(tmp_path):
    """Change or drop any byte: either the photo can still be read, or the error names it."""
    path, _ = one_pair(tmp_path)
    whole, rng, messages = path.read_bytes(), np.random.default_rng(0), []
    dataset = cityscapes.Cityscapes(tmp_path, "train", SIZE)
    for trial in range(300):
        place = int(rng.integers(len(whole))) if trial % 2 else trial // 2 % 60  # headers come first
        hit = whole[:place] + bytes([int(rng.integers(256))]) + whole[place + 1 :]
        path.write_bytes(hit if trial % 3 else whole[:place])
        try:
            dataset[0]
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all(str(path) in message for message in messages)


def test_images_of_absurd_size_are_named(tmp_path, monkeypatch):
    path, _ = one_pair(tmp_path)
    monkeypatch.setattr(png, "MOST_PIXELS", 511)
    with refused(ValueError, path, "16x32", "511", "shrink"):
        cityscapes.Cityscapes(tmp_path, "train", (8, 16))[0]


def test_photos_of_16_bit_are_refused(tmp_path):
    path, _ = one_pair(tmp_path)
    save(path, np.full(SIZE, 5000, dtype=np.uint16))
    with refused(ValueError, path, "8-bit"):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]


@pytest.mark.parametrize(("mode", "kind"), [
    ("RGB", "8-bit RGB"),
    ("RGBA", "8-bit RGB with alpha"),
    ("P", "bit palette"),
    ("LA", "8-bit grey with alpha"),
    ("1", "1-bit grey"),
])
def test_colour_maps_in_place_of_ids_are_refused(tmp_path, mode, kind):
    _, path = one_pair(tmp_path)
    Image.new(mode, SIZE[::-1]).save(path)
    with refused(ValueError, path, kind, "labelIds"):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]


def test_colour_maps_in_place_of_instances_are_refused(tmp_path):
    name = add_pair(tmp_path, "train", "ulm", 1, instances=True)
    path = map_path(tmp_path, "train", "ulm", name, "instanceIds")
    Image.new("RGB", SIZE[::-1]).save(path)
    with refused(ValueError, path, "instanceIds"):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]


@pytest.mark.parametrize("kind", ["labelIds", "instanceIds"])
def test_maps_of_another_size_are_named(tmp_path, kind):
    name = add_pair(tmp_path, "train", "ulm", 1, instances=True)
    path = map_path(tmp_path, "train", "ulm", name, kind)
    save(path, np.zeros((8, 32), dtype=np.uint8))
    with refused(ValueError, path, "16x32", "8x32", photo_path(tmp_path, "train", "ulm", name)):
        cityscapes.Cityscapes(tmp_path, "train", SIZE)[0]


@pytest.mark.parametrize(("bad", "dtype"), [(34, np.uint8), (254, np.uint8), (263, np.uint16)])
def test_unknown_ids_are_named_even_where_resizing_would_drop_them(tmp_path, bad, dtype):
    _, path = one_pair(tmp_path)
    label = np.full(SIZE, 7, dtype=dtype)
    label[0, 0] = bad
    save(path, label)
    with refused(ValueError, path, f"got {bad}"):
        cityscapes.Cityscapes(tmp_path, "train", (2, 2))[0]


# CamVid, real photos


@pytest.mark.parametrize(("split", "length"), [("train", 367), ("val", 101), ("test", 62)])
def test_camvid_has_its_pairs(camvid, split, length):
    dataset = cityscapes.Cityscapes(camvid, split, (64, 128))
    assert len(dataset) == length
    assert dataset.names == sorted(dataset.names)
    for index in (0, length - 1):
        check_item(dataset[index], (64, 128))


def test_camvid_photos_and_maps_are_aligned(camvid):
    """Check that sky is brighter than buildings, far more so with the right map than with one upside down."""
    right, flipped = [], []
    for item in cityscapes.Cityscapes(camvid, "test", (64, 128)):
        grey = item["photo"].float().mean(0)
        for contrasts, label in ((right, item["label"]), (flipped, item["label"].flip(0))):
            contrasts.append((grey[label == 23].mean() - grey[label == 11].mean()).item())
    assert np.nanmean(right) > 50 > 10 > np.nanmean(flipped)


def test_camvid_holds_the_ids_its_readme_lists(camvid):
    seen = {i for item in cityscapes.Cityscapes(camvid, "val", (64, 128)) for i in item["label"].unique().tolist()}
    assert seen <= {0, 7, 8, 11, 13, 17, 20, 21, 23, 24, 25, 26}
    assert {7, 11, 23, 26} <= seen


# StreetScenes


def test_scenes_depend_on_seed_split_and_index_alone():
    scenes = drawn.StreetScenes("train", SIZE, length=10)
    again = drawn.StreetScenes("train", SIZE, length=50)
    for index in (7, 3, 7):
        for key, value in scenes[index].items():
            assert value == again[index][key] if key == "name" else torch.equal(value, again[index][key])
    others = [
        drawn.StreetScenes("val", SIZE),
        drawn.StreetScenes("test", SIZE),
        drawn.StreetScenes("train", SIZE, seed=1),
    ]
    for other in others:
        assert not torch.equal(scenes[3]["photo"], other[3]["photo"])
        assert scenes[3]["name"] != other[3]["name"]


def test_scenes_are_a_sequence():
    scenes = drawn.StreetScenes("val", SIZE, length=3)
    assert len(scenes) == len([item["name"] for item in scenes]) == 3
    assert scenes[-1]["name"] == scenes[2]["name"] == "val_000000_000002"
    with pytest.raises(IndexError):
        scenes[3]


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 128), (64, 64), (96, 33)])
def test_scenes_have_any_size(size):
    check_item(drawn.StreetScenes("train", size)[0], size)


def test_the_layout_is_the_same_at_every_size():
    for index in range(3):
        small, large = (drawn.StreetScenes("train", size)[index] for size in ((64, 128), (192, 384)))
        agree = [(small["label"] == large["label"][k::3, k::3]).float().mean() for k in range(3)]
        assert agree[1] > 0.97
        assert agree[1] > max(agree[0], agree[2])  # labels belong to the centres of pixels
        colors = [item["photo"].float().mean((1, 2)) for item in (small, large)]
        assert (colors[0] - colors[1]).abs().max() < 6


def test_instances_of_scenes_agree_with_their_labels():
    for index in range(10):
        item = drawn.StreetScenes("train", (32, 64))[index]
        ids = item["instances"]
        assert torch.equal(torch.where(ids >= 1000, ids // 1000, ids), item["label"].int())
        assert set((ids[ids >= 1000] // 1000).tolist()) <= {24, 25, 26}


@pytest.fixture(scope="module")
def hundred() -> list[items.Item]:
    scenes = drawn.StreetScenes("train", (32, 64), length=100)
    return [scenes[index] for index in range(100)]


def test_scenes_show_every_class_in_varying_shares(hundred):
    shares = np.stack([np.bincount(item["label"].numpy().ravel(), minlength=34) for item in hundred]) / (
        32 * 64
    )
    assert set(np.flatnonzero(shares.sum(0))) == {0, 7, 8, 11, 13, 17, 20, 21, 23, 24, 25, 26}
    assert (shares[:, [7, 8, 11, 21, 23, 26]].std(0) > 0.03).all()
    assert 0.2 < shares[:, 7].mean() < 0.45
    assert shares[:, 11].mean() > 0.15
    assert shares[:, 0].mean() < 0.05


def test_scenes_all_differ(hundred):
    for key in ("photo", "label"):
        assert len({item[key].numpy().tobytes() for item in hundred}) == 100


def test_colours_of_a_class_vary_within_and_between_scenes(hundred):
    for label in (7, 11, 21, 23, 26):
        pixels = [item["photo"].float()[:, item["label"] == label] for item in hundred]
        pixels = [p for p in pixels if p.shape[1] > 30]
        assert torch.stack([p.mean(1) for p in pixels]).std(0).min() > 10, label
        assert torch.stack([p.std(1) for p in pixels]).mean() > 5, label


def test_labels_fit_photos(hundred):
    """Check that edges of the map are edges of the photo: neighbours across a boundary differ more than inside."""
    across, inside = [], []
    for item in hundred:
        step = item["photo"].float().diff(dim=2).abs().mean(0)
        edge = item["instances"].diff(dim=1) != 0
        across.append(step[edge].mean())
        inside.append(step[~edge].mean())
    assert torch.stack(across).mean() > 2 * torch.stack(inside).mean()


@pytest.mark.parametrize("arguments", [{"split": "train_extra"}, {"length": 0}, {"seed": -1}])
def test_scenes_refuse_what_they_cannot_draw(arguments):
    with refused(ValueError, next(iter(arguments.values()))):
        drawn.StreetScenes(**({"split": "train", "image_size": SIZE} | arguments))


# Both


def test_batches_collate_also_from_workers(release):
    for dataset in (cityscapes.Cityscapes(release, "train", SIZE), drawn.StreetScenes("train", SIZE, length=3)):
        for workers in (0, 1):
            (batch,) = DataLoader(dataset, batch_size=3, num_workers=workers)
            assert batch["photo"].shape == batch["condition"].shape == (3, 3, *SIZE)
            assert batch["label"].shape == (3, *SIZE)
            assert len(batch["name"]) == 3
            assert torch.equal(batch["photo"][1], dataset[1]["photo"])
            assert torch.equal(items.boundaries(batch)[1], items.boundaries(dataset[1]))


def test_some_cities_of_a_split(release):
    dataset = cityscapes.Cityscapes(release, "train", SIZE, ["aachen"])
    assert dataset.names == ["aachen_000000_000002", "aachen_000000_000012"]
    assert cityscapes.Cityscapes(release, "train", SIZE, ["ulm", "aachen"]).names[2:] == ["ulm_000000_000003"]
    with refused(FileNotFoundError, "missing bonn: cities with photos are aachen, ulm"):
        cityscapes.Cityscapes(release, "train", SIZE, ["ulm", "bonn"])
    with refused(ValueError, "cities are folders of --data"):
        datasets.open_dataset(None, "train", SIZE, cities=["ulm"])


def test_some_pairs_are_spread_over_the_split(release):
    dataset = cityscapes.Cityscapes(release, "train", SIZE)
    assert datasets.some(dataset, None) is datasets.some(dataset, 3) is dataset
    assert [item["name"] for item in datasets.some(dataset, 2)] == [dataset.names[0], dataset.names[2]]
    with refused(ValueError, "--pairs 4: there are only 3 training pairs"):
        datasets.some(dataset, 4)


def test_hidden_labels_are_those_of_some_pairs():
    batch = default_collate([drawn.StreetScenes("train", SIZE, 40)[i] for i in range(40)])
    pairs = Pairs(torch.device("cpu"), labels=True, seed=1)
    plain, hidden = pairs(batch, draw=3)[0], pairs(batch, draw=3, label_dropout=0.25)[0]
    empty = (hidden == labels.UNKNOWN).flatten(1).all(1)
    assert 3 <= empty.sum() <= 18
    assert torch.equal(hidden[~empty], plain[~empty])
    alone = [pairs({key: value[i:i + 1] for key, value in batch.items()}, draw=3, label_dropout=0.25)[0]
             for i in range(40)]
    assert torch.equal(torch.cat(alone), hidden), "not of the batch"
    assert not torch.equal(pairs(batch, draw=4, label_dropout=0.25)[0], hidden)


def test_open_dataset_draws_scenes_where_no_root_is_given(release):
    assert isinstance(datasets.open_dataset(release, "val", SIZE), cityscapes.Cityscapes)
    scenes = datasets.open_dataset(None, "val", SIZE, length=4, seed=2)
    assert isinstance(scenes, drawn.StreetScenes)
    assert len(scenes) == 4
    assert scenes.seed == 2


def test_boundaries_mark_both_sides_of_every_edge():
    label = torch.full((5, 6), 7, dtype=torch.uint8)
    label[1:3, 2:4] = 26
    expected = torch.zeros(1, 5, 6)
    expected[0, 0:4, 2:4] = 1
    expected[0, 1:3, 1:5] = 1
    assert torch.equal(items.boundaries({"label": label}), expected)
    assert items.boundaries({"label": label}).dtype == torch.float32
    assert items.boundaries({"label": torch.full((5, 6), 7)}).sum() == 0
    assert items.boundaries({"label": torch.full((1, 1), 7)}).shape == (1, 1, 1)


def test_boundaries_part_objects_of_one_class_where_instances_are_known():
    label, instances = torch.full((4, 4), 26), torch.full((4, 4), 26000)
    instances[:, 2:] = 26001
    assert items.boundaries({"label": label}).sum() == 0
    edges = items.boundaries({"label": label, "instances": instances})
    assert (edges[0, :, 1:3] == 1).all()
    assert edges.sum() == 8
