"""Label sets: the tables that come along, those of files, and runs of other labels than Cityscapes'."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import CAMVID, line_of_mistake, make_run, read, refused, save, write_pairs

import evaluate
import inspect_data
import sample
import train
import train_classifier
import transfer
from models import MODELS
from streets.data import label_sets, shares
from streets.data.cityscapes import Cityscapes
from streets.data.instances import check_instances
from streets.data.label_sets import CITYSCAPES
from streets.data.labels import Label, LabelSet, OtherLabels
from streets.data.reading import LabelMaps, read_label_map
from streets.judging.judges import class_indices, load_judge
from streets.judging.judges.judge import for_labels
from streets.runs import weights
from streets.runs.pretrained import Pretrained
from streets.runs.run import Run

OPTIONS = ["--width", "4", "--steps", "1", "1", "--context-width", "4", "--image-size", "8", "16", "--batch-size", "4",
           "--init-pairs", "4", "--epochs", "1", "--device", "cpu"]
SIZES = {"ade20k": 151, "bdd100k": 41, "camvid": 12, "camvid32": 32, "cityscapes": 35, "cmp": 12, "cocostuff": 183,
         "idd": 40, "kitti": 35, "mapillary": 66, "voc": 22}
FACTS = {"ade20k": ("sky", 3, (6, 230, 230), 2), "bdd100k": ("sky", 30, (70, 130, 180), 10),
         "camvid": ("road", 3, (128, 64, 128), 3), "camvid32": ("Road", 17, (128, 64, 128), None),
         "cmp": ("window", 3, (0, 85, 255), None), "cocostuff": ("road", 148, (128, 96, 128), None),
         "idd": ("autorickshaw", 11, (255, 204, 54), 255), "kitti": ("car", 26, (0, 0, 142), 13),
         "mapillary": ("water", 31, (0, 170, 30), None), "voc": ("person", 15, (192, 128, 128), 15)}
OWN = [Label("ground", 0, None, (0, 0, 0)), Label("tree", 3, None, (0, 200, 0)), Label("house", 200, None, (9, 9, 9))]


@pytest.fixture
def own(tmp_path):
    """Write a table of three labels as CSV."""
    path = tmp_path / "own.csv"
    path.write_text("name,id,red,green,blue\nground,0,0,0,0\ntree,3,0,200,0\nhouse,200,9,9,9\n")
    return path


@pytest.fixture
def of_own(tmp_path):
    """Write pairs whose label maps have the ids of the own table."""
    root = write_pairs(tmp_path / "data", {"ulm": 6})
    write_pairs(root, {"ulm": 3}, split="val")
    for number, path in enumerate(sorted(root.glob("gtFine/*/*/*_labelIds.png"))):
        ids = np.full((16, 32), 3, np.uint8)
        ids[:, : 8 + number], ids[:4] = 200, 0
        save(path, ids)
    return root


# Tables


def test_the_tables_that_come_along():
    assert {name: len(label_sets.read(name).labels) for name in label_sets.names()} == SIZES
    for name, (label, number, color, train_id) in FACTS.items():
        found = next(row for row in label_sets.read(name).labels if row.name == label)
        assert (found.id, found.color, found.train_id) == (number, color, train_id), name


@pytest.mark.parametrize("name", label_sets.names())
def test_a_table_and_back(name):
    labels = label_sets.read(name)
    ids = np.array([label.id for label in labels.labels])
    painted = labels.colorize(ids)
    assert painted.tolist() == [list(label.color) for label in labels.labels]
    assert np.array_equal(labels.colorize(labels.ids_from_colors(painted)), painted)
    assert label_sets.from_table(name, json.loads(json.dumps(label_sets.as_table(labels)))) == labels
    assert labels.classes == max(i for i in ids if i < 255) + 1
    if labels.has_train_ids:
        known = labels.train_ids(ids)
        assert np.array_equal(labels.train_ids(labels.ids_from_train_ids(known)), known)


def test_colours_of_voc_are_those_of_its_rule():
    """Spread the bits of an id over the channels, lowest bits to the highest, as VOClabelcolormap does."""
    for label in label_sets.read("voc").labels:
        bits = f"{label.id:08b}"[::-1]
        channels = [int("".join(bits[c::3]).ljust(8, "0"), 2) for c in range(3)]
        assert list(label.color) == channels
    rest = {label.id: label.color for label in label_sets.read("cocostuff").labels}
    assert all(rest[label.id - 1] == label.color for label in label_sets.read("voc").labels if 0 < label.id < 255)


def test_street_sets_share_the_training_ids_of_cityscapes():
    of = {name: {label.name: label.train_id for label in label_sets.read(name).labels}
          for name in ("cityscapes", "bdd100k", "idd")}
    for name in ("bdd100k", "idd"):
        common = [label for label in CITYSCAPES.evaluated if label in of[name]]
        assert len(common) >= 18
        assert all(of[name][label] == of["cityscapes"][label] for label in common)


def test_own_tables_of_csv_and_json(own, tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{"name": label.name, "id": label.id, "color": label.color} for label in OWN]))
    for labels in (label_sets.read(str(own)), label_sets.read(str(path))):
        assert labels.labels == tuple(OWN)
        assert labels.classes == 201
        assert labels.evaluated == {"ground": 0, "tree": 3, "house": 200}
    with refused(OtherLabels, "own.csv has none", "train_id"):
        label_sets.read(str(own)).train_ids([0])


@pytest.mark.parametrize(("change", "fragment"), [
    ({"id": 256}, "an id from 0 to 255"), ({"id": -2}, "an id from 0 to 255"), ({"id": "3"}, "an id from 0 to 255"),
    ({"id": 0}, "an id of its own, got 0 again"), ({"name": "ground"}, "an name of its own"), ({"name": " "}, "a name"),
    ({"color": (0, 0)}, "a colour"), ({"color": (0, 0, 256)}, "a colour"), ({"color": (0, 0, 0.5)}, "a colour"),
    ({"train_id": 3}, "training ids for all labels or for none"), ({"train_id": 999}, "a training id from 0"),
])
def test_rows_that_are_no_label_are_named(change, fragment):
    with refused(ValueError, "mine, label 2", fragment):
        LabelSet("mine", [OWN[0], OWN[1]._replace(**change)])


@pytest.mark.parametrize("content", ["", "name,id\n", '[{"name": "a"', "[1]", "{}", "name,id,red,green,blue\n", "\x00",
                                     "name,id,red,green,blue\na,b,c,d,e\n", "[" * 100_000])
@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_files_that_are_no_table(content, suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    path.write_text(content)
    with refused(ValueError, path.name, "expected"):
        label_sets.read(str(path))


# Files of label maps


@pytest.mark.parametrize("name", ["bdd100k", "idd", "voc", "ade20k"])
def test_one_map_as_ids_training_ids_colours_and_palette(name, tmp_path):
    labels = label_sets.read(name)
    ids = np.array(list(labels.evaluated.values())[:8], dtype=np.uint8).reshape(2, 4)
    path = tmp_path / "a.png"
    palette = Image.fromarray(ids, "P")
    palette.putpalette(labels.colorize(np.where(labels._known, np.arange(256), ids[0, 0])).ravel().tolist())
    for values, picture in (("ids", Image.fromarray(ids)), ("train_ids", Image.fromarray(labels.train_ids(ids))),
                            ("colors", Image.fromarray(labels.colorize(ids))), ("ids", palette), ("colors", palette)):
        picture.save(path)
        assert np.array_equal(LabelMaps(labels, values).read(path), ids), (values, picture.mode)
        if values != "train_ids":
            assert np.array_equal(LabelMaps(labels).read(path), ids)


def test_what_a_name_says_is_kept(tmp_path):
    """Read training ids of a file that is named so, and refuse colours in one that is named for ids."""
    path = tmp_path / "a_gtFine_labelTrainIds.png"
    save(path, np.array([[0, 255]], np.uint8))
    assert LabelMaps().read(path).tolist() == [[7, 0]]
    assert LabelMaps(label_sets.read("bdd100k")).read(path).tolist() == [[7, 0]]
    path = tmp_path / "a_gtFine_labelIds.png"
    save(path, CITYSCAPES.colorize(np.full((2, 3), 7)))
    with refused(ValueError, path, "--label-values colors"):
        LabelMaps().read(path)
    assert (LabelMaps(values="colors").read(path) == 7).all()


def test_255_is_held_by_tables_that_have_it_alone(tmp_path):
    path = tmp_path / "a.png"
    save(path, np.array([[0, 255]], np.uint8))
    for name in ("voc", "cocostuff"):
        assert LabelMaps(label_sets.read(name)).read(path).tolist() == [[0, 255]]
    for name in ("cityscapes", "kitti", "idd", "mapillary"):
        with refused(OtherLabels, path, "got 255", "(0, 1)", "--label-values train_ids"):
            LabelMaps(label_sets.read(name)).read(path)


def test_instances_of_kitti_are_noticed(tmp_path):
    label = np.array([[7, 26, 26], [23, 23, 11]], np.uint8)
    check_instances(tmp_path, np.where(label == 26, 26001, label), label)
    check_instances(tmp_path, np.arange(6).reshape(2, 3), label)  # any numbers have edges
    with refused(OtherLabels, tmp_path, "256 * id + number", "KITTI"):
        check_instances(tmp_path, 256 * label.astype(int) + (label == 26), label)
    save(tmp_path / "a_gtFine_labelIds.png", label)
    save(tmp_path / "a_gtFine_instanceIds.png", 256 * label.astype(np.uint16))
    with refused(OtherLabels, "a_gtFine_instanceIds.png", "KITTI"):
        read_label_map(tmp_path / "a_gtFine_labelIds.png")


# Shares


def test_shares_are_those_of_the_files(of_own, own):
    maps = LabelMaps(label_sets.read(str(own)))
    found, number = shares.count_labels(Cityscapes(of_own, "val", (4, 4), maps=maps), 2)
    ids = np.stack([read(path) for path in sorted(of_own.glob("gtFine/val/*/*.png"))[::2]])
    assert number == 2
    assert found == pytest.approx({i: float((ids == i).mean()) for i in (0, 3, 200)})
    assert shares.describe({3: 0.5, 200: 0.3, 0: 0.2}, maps.labels, 1) == "50 % tree, 50 % 2 more"
    assert shares.describe({3: 0.996, 200: 0.004}, maps.labels) == "100 % tree, under 1 % house"


@pytest.mark.parametrize(("name", "found", "fragment"), [
    ("cityscapes", {0: 0.4, 2: 0.3, 8: 0.2, 10: 0.1}, "--label-values train_ids"),
    ("cityscapes", {0: 0.51, 7: 0.3, 23: 0.19}, "51 % of the pixels"), ("cityscapes", {26: 0.8, 24: 0.2}, "no road"),
    ("cityscapes", {7: 1.0}, "all pixels are road"), ("idd", {35: 0.9, 0: 0.1}, "unlabeled"),
    ("cmp", {3: 1.0}, "all pixels are window"),
])
def test_implausible_shares(name, found, fragment):
    assert any(fragment in doubt for doubt in shares.doubts(found, label_sets.read(name)))


@pytest.mark.parametrize(("name", "found"), [
    ("cityscapes", {7: 0.4, 11: 0.3, 21: 0.2, 0: 0.1}), ("voc", {0: 0.8, 15: 0.2}), ("camvid", {0: 0.6, 1: 0.4}),
    ("ade20k", {1: 0.5, 4: 0.3, 6: 0.1, 7: 0.1}), ("cmp", {1: 0.2, 2: 0.8}), ("cocostuff", {255: 0.1, 148: 0.9})])
def test_plausible_shares(name, found):
    assert not shares.doubts(found, label_sets.read(name))


@pytest.mark.skipif(not CAMVID.exists(), reason="shared data (CamVid in the Cityscapes layout) is not there")
def test_training_ids_of_real_scenes_under_the_name_of_ids_are_noticed(tmp_path, capsys):
    """Replace ids by training ids, unlabeled left black: what passes in silence where only the table is looked up."""
    for city in ("0006R0",):
        shutil.copytree(CAMVID / "leftImg8bit" / "train" / city, tmp_path / "leftImg8bit" / "train" / city)
        for path in (CAMVID / "gtFine" / "train" / city).iterdir():
            target = tmp_path / "gtFine" / "train" / city / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            known = CITYSCAPES.train_ids(read(path))
            save(target, np.where(known == 255, 0, known))
    shares.report(Cityscapes(tmp_path, "train", (8, 16)), CITYSCAPES, "train")
    said = capsys.readouterr().out
    assert said.startswith("label maps of train, 32 of 101: ")
    assert "--label-values train_ids" in said
    shares.report(Cityscapes(CAMVID, "train", (8, 16)), CITYSCAPES, "train")
    assert "warning" not in capsys.readouterr().out


# Runs


@pytest.mark.parametrize("model", ["encoded_glow", "full_glow"])
def test_a_run_of_own_labels(model, own, of_own, tmp_path, capsys):
    """Train, remove the table, and go on, sample and judge: the run knows its labels."""
    run = tmp_path / "run"
    train.main(["--model", model, "--data", str(of_own), "--labels", str(own), "--out", str(run), *OPTIONS])
    assert "label maps of train, 6 of 6: " in capsys.readouterr().out
    own.unlink()
    train.main(["--out", str(run), "--resume", "--epochs", "2", "--device", "cpu"])
    opened = Run(run)
    assert opened.labels.labels == tuple(OWN)
    if model == "encoded_glow":
        assert opened.config["model_arguments"]["classes"] == 201
    exported = Pretrained.from_run(run).config
    assert exported["labels"] == "own.csv"
    assert label_sets.of_config(exported) == opened.labels
    maps = of_own / "gtFine" / "val" / "ulm"
    painted = tmp_path / "painted.png"
    save(painted, opened.labels.colorize(read(next(maps.iterdir()))))
    sample.main([str(run), "--label-maps", str(painted), "--samples", "1", "--out", str(tmp_path / "of_file")])
    sample.main([str(run), "--data", str(of_own), "--samples", "1", "--out", str(tmp_path / "of_data")])
    condition = read(next((tmp_path / "of_data").glob("*_condition.png")))
    assert {tuple(color) for color in condition.reshape(-1, 3)} <= {label.color for label in OWN}
    label = next(maps.iterdir())
    photo = of_own / "leftImg8bit" / "val" / "ulm" / label.name.replace("_gtFine_labelIds", "_leftImg8bit")
    transfer.main([str(run), "--content-photo", str(photo), "--content-label", str(label), "--structure-label",
                   str(label), "--out", str(tmp_path / "transfer")])
    save(painted, np.full((8, 16), 7, np.uint8))
    assert "own.csv" in line_of_mistake(sample.main, capsys, run, "--label-maps", painted, "--out", tmp_path / "other")


def test_a_run_of_colours_and_its_judge(of_own, own, tmp_path, capsys):
    labels = label_sets.read(str(own))
    for path in of_own.glob("gtFine/*/*/*_labelIds.png"):
        save(path, labels.colorize(read(path)))
    options = ["--data", str(of_own), "--labels", str(own), "--label-values", "colors"]
    run, judge = tmp_path / "run", tmp_path / "judge"
    train.main(["--model", "full_glow", *options, "--out", str(run), *OPTIONS])
    train_classifier.main([*options, "--image-size", "16", "32", "--batch-size", "4", "--width", "4", "--layers", "1",
                           "1", "1", "1", "--epochs", "1", "--device", "cpu", "--out", str(judge)])
    evaluate.main([str(run), "--data", str(of_own), "--judge", "pspnet", "--judge-weights", str(judge), "--repeats",
                   "1", "--out", str(tmp_path / "results")])
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["references"]["real"]["class_iou"].keys() == {"ground", "tree", "house"}


def test_a_judge_knows_classes_by_name(tmp_path):
    judge = for_labels(load_judge("colors"), label_sets.read("idd"))
    ids = torch.tensor([0, 29, 33, 11, 35], dtype=torch.uint8)  # road, building, sky, autorickshaw, unlabeled
    assert class_indices(judge, ids).tolist() == [0, 2, 10, 255, 255]
    assert for_labels(judge, CITYSCAPES).label_ids == load_judge("colors").label_ids
    of_cmp = load_judge("colors", labels=label_sets.read("cmp"))
    assert of_cmp.names[2] == "window"
    assert of_cmp(torch.tensor([0, 85, 255], dtype=torch.uint8)[None, :, None, None]).item() == 2


def test_runs_before_label_sets_have_those_of_cityscapes(tmp_path):
    """Load weights of a run whose configuration names no labels, with the 34 classes of always."""
    path = make_run(tmp_path / "run", "encoded_glow")
    assert "labels" not in json.loads((path / "config.json").read_text())
    run = Run(path)
    assert run.labels == CITYSCAPES
    assert CITYSCAPES.classes == 34
    fresh = MODELS["encoded_glow"](steps=(1, 1), width=4, classes=CITYSCAPES.classes)
    weights.load_weights(fresh, path / "best.safetensors", run.config)


# inspect_data.py


def test_inspect_data(of_own, own, tmp_path, capsys):
    names = sorted(of_own.glob("gtFine/train/*/*.png"))
    save(names[1], np.full((16, 32), 4, np.uint8))
    sorted(of_own.glob("leftImg8bit/train/*/*.png"))[3].write_bytes(b"")
    out = tmp_path / "sheet.png"
    inspect_data.main([str(of_own), "--labels", str(own), "--out", str(out), "--height", "16"])
    said = capsys.readouterr().out
    for expected in ("train: 6 pairs, 6 of them read", "cities: ulm 6", "val: 3 pairs", "photos: 16x32 5",
                     "label maps: 16x32 6", "a training would refuse, 1 pairs:",
                     f"{names[1]}: expected label ids 0, 3, 200, got 4",
                     "left out with --skip-bad-files, 1 pairs:", "an empty file"):
        assert expected in said
    assert read(out).shape[1] == 2 * 32 * 6 + 2  # enlarged six times to 96 pixels
    assert "is in use" in line_of_mistake(inspect_data.main, capsys, of_own, "--out", out)
    (tmp_path / "empty").mkdir()
    said = line_of_mistake(inspect_data.main, capsys, tmp_path / "empty", "--out", tmp_path / "b.png")
    assert "expected leftImg8bit and gtFine" in said
    assert "found nothing" in said
