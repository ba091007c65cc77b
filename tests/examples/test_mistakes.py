"""The mistakes of docs/wrong_inputs_scripts.md: each ends in one line and exit status 2, and nothing is lost."""

import importlib
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from run_helpers import SCRIPTS, save
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from wrong_inputs import OF_FILES, OF_SCRIPTS, matches

import train
import train_classifier
from streets.data import drawn
from streets.data.label_sets import CITYSCAPES
from streets.runs.pretrained import Pretrained
from streets.runs.weights import load_model
from streets.system import command_line

OPTIONS = ["--model", "full_glow", "--width", "4", "--steps", "1", "1", "--context-width", "4",
           "--image-size", "8", "16", "--batch-size", "4",
           "--init-pairs", "4", "--generated", "8", "--epochs", "1", "--device", "cpu", "--checkpoint-every", "1"]
OF_JUDGE = ["--image-size", "16", "32", "--generated", "8", "--batch-size", "4", "--width", "4", "--layers", "1", "1",
            "1", "1", "--epochs", "1", "--device", "cpu"]
NAMES = {"LONG": "x" * 300, "BROKEN": "a\nb"}
"""Names that are no words for a page."""

CITY, MAPS = Path("ROOT/leftImg8bit/train/ulm"), Path("ROOT/gtFine/train/ulm")
CONFIG, BEST, LAST = (Path("RUN", name) for name in ("config.json", "best.safetensors", "model.safetensors"))
RUNS_CODE = pickle.dumps(print)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make the files that the page names: RUN, OTHER, JUDGE, ROOT, photo.png, map.png."""
    place = tmp_path_factory.mktemp("made")
    train.main([*OPTIONS, "--out", str(place / "RUN")])
    shutil.copytree(place / "RUN", place / "OTHER")
    change_config(place / "OTHER", direction="photo2label")
    train_classifier.main([*OF_JUDGE, "--out", str(place / "JUDGE")])
    for split in ("train", "val"):
        for i, item in enumerate(drawn.StreetScenes(split, (16, 32), 8)):
            photos, maps = (place / "ROOT" / kind / split / "ulm" for kind in ("leftImg8bit", "gtFine"))
            for folder in (photos, maps):
                folder.mkdir(parents=True, exist_ok=True)
            save(photos / f"ulm_{i}_leftImg8bit.png", item["photo"].permute(1, 2, 0))
            save(maps / f"ulm_{i}_gtFine_labelIds.png", item["label"])
    save(place / "photo.png", item["photo"].permute(1, 2, 0))
    save(place / "map.png", item["label"])
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Copy these files, and make the copy the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command):
    """Run a command in this process."""
    script, *arguments = shlex.split(command)
    importlib.import_module(script.removesuffix(".py")).main([NAMES.get(word, word) for word in arguments])


def tree(place):
    """Read all files that are there, by path."""
    return {path: os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            for path in sorted(place.rglob("*"))}


# How mistakes are made that are not in the command alone.


def write(path, content):
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path):
    write(path, Path(path).read_bytes()[:-100])


def each(pattern, action):
    paths = sorted(Path(".").glob(str(pattern)))
    assert paths
    for path in paths:
        action(path)


def change_config(run="RUN", **changes):
    path = Path(run, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def not_finite():
    save_file({name: value * float("nan") for name, value in load_file(BEST).items()}, BEST)


def change_facts(path, **changes):
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"]) | changes
    facts = {name: value for name, value in facts.items() if value is not None}
    save_file(load_file(path), path, {"facts": json.dumps(facts)})


def painted():
    colors = Image.fromarray(CITYSCAPES.colorize(np.array(Image.open("map.png"))))
    colors.resize((64, 64), Image.Resampling.BILINEAR).save("painted.png")


def pairs(count=4, shape=(16, 32)):
    """Write pairs of grey and colour into PAIRS."""
    for folder, channels in (("A", ()), ("B", (3,))):
        Path("PAIRS", folder).mkdir(parents=True)
        for i in range(count):
            save(Path("PAIRS", folder, f"{i}.png"), np.full((*shape, *channels), 10 * i, np.uint8))


def trained_on_pairs():
    pairs(5)
    train.main([*OPTIONS, "--data", "PAIRS", "--out", "OF_PAIRS"])


def pairs_of(suffix, write_b):
    """Write pairs of which the images B are of other files."""
    pairs()
    for path in sorted(Path("PAIRS/B").iterdir()):
        path.unlink()
        write_b(path.with_suffix(suffix))


def trained_on_data():
    train.main([*OPTIONS, "--data", "ROOT", "--out", "WITH_DATA"])
    for folder in (CITY, MAPS):
        each(f"{folder}/*_7_*", Path.unlink)


TABLE = "name,id,red,green,blue\n" + "".join(
    f"{label.name},{label.id},{','.join(map(str, label.color))}\n" for label in CITYSCAPES.labels)


def trained_with_labels():
    write("labels.csv", TABLE)
    train.main([*OPTIONS, "--data", "ROOT", "--labels", "labels.csv", "--out", "LABELLED"])


def of_kitti(path):
    ids = np.array(Image.open(path)).astype(np.uint16)
    save(path.with_name(path.name.replace("labelIds", "instanceIds")), 256 * ids + (ids == 26))


LOCKS = []
"""Locks that are held until the tests end."""


def held_by_another():
    write("DIR/.writer.json", '{"host": "node7", "process": 4711, "since": "2026-11-26 21:50:00"}')
    LOCKS.append(FileLock("DIR/.lock"))
    LOCKS[-1].acquire()


def exported():
    change_config(data=str(Path("ROOT").resolve()))
    Pretrained.from_run(Path("RUN")).save_pretrained("EXPORTED")


def augment_begun():
    run("sample.py RUN --indices 0 --samples 1 --augment DIR")


PREPARED = {
    "a run whose data have gone": lambda: change_config(data="/gone"),
    "a model that does not say its data": lambda: exported(),
    "runs of different data": lambda: (
        shutil.copytree("RUN", "OF_PHOTOS"), change_config("OF_PHOTOS", data=str(Path("ROOT").resolve()))),
    "a photo and a label map of two sizes": lambda: save("small.png", np.full((8, 16), 7, np.uint8)),
    "runs of two sizes": lambda: (shutil.copytree("RUN", "LARGER"), change_config("LARGER", image_size=[16, 32])),
    "an output that another process writes": lambda: held_by_another(),
    "an output that is a broken link": lambda: Path("LINK").symlink_to("NOWHERE/run"),
    "a run that is an empty directory": lambda: Path("EMPTY").mkdir(),
    "a model without checkpoints, to resume": lambda: shutil.rmtree("RUN/checkpoints"),
    "checkpoints that are all damaged": lambda: each("RUN/checkpoints/*", cut),
    "a data set without label maps": lambda: shutil.rmtree("ROOT/gtFine"),
    "a data set without training": lambda: shutil.rmtree("ROOT/leftImg8bit/train"),
    "a photo without its label map in the data": lambda: each(f"{MAPS}/*_3_*", Path.unlink),
    "a label map without its photo in the data": lambda: each(f"{CITY}/*_3_*", Path.unlink),
    "data that changed while a run was stopped": lambda: trained_on_data(),
    "--augment with other settings": lambda: augment_begun(),
    "--augment over damaged settings": lambda: write("DIR/augment.json", "{"),
    "results kept of other settings": lambda: write("DIR/references.json", '{"settings": {"data": "elsewhere"}}'),
    "results kept that are damaged": lambda: write("DIR/references.json", "[]"),
    "a photo that is empty": lambda: each(f"{CITY}/*", lambda path: write(path, "")),
    "a photo that is text": lambda: write("photo.png", "a photo"),
    "a photo that is cut short": lambda: each(f"{CITY}/*", cut),
    "a photo of validation that is cut short": lambda: cut("ROOT/leftImg8bit/val/ulm/ulm_3_leftImg8bit.png"),
    "a photo of 16 bits": lambda: each(f"{CITY}/*", lambda path: save(path, np.zeros((16, 32), np.uint16))),
    "a photo larger than its label map": lambda: each(
        f"{CITY}/*", lambda path: save(path, np.zeros((32, 64), np.uint8))),
    "a photo that is a GIF": lambda: Image.open("photo.png").save("photo.png", "GIF"),
    "no photo that can be read": lambda: each("ROOT/leftImg8bit/*/*/*", lambda path: write(path, "")),
    "a photo that a classifier cannot read": lambda: each(f"{CITY}/*", lambda path: write(path, "")),
    "folders that are no pairs": lambda: (pairs(), Path("PAIRS/A").rename("PAIRS/edges"),
                                          Path("PAIRS/B").rename("PAIRS/shoes")),
    "runs of pairs of images and of label maps on one page": trained_on_pairs,
    "pairs to paint on": pairs,
    "labels of pairs of images": pairs,
    "values of label maps of pairs of images": pairs,
    "label maps for a model of images": trained_on_pairs,
    "data without label maps for a model of them": pairs,
    "photos of another kind for a model of images": trained_on_pairs,
    "tiles larger than the images": pairs,
    "a picture without a partner": lambda: (pairs(), Path("PAIRS/B/2.png").unlink()),
    "two pictures of one name": lambda: (pairs(), shutil.copy("PAIRS/A/2.png", "PAIRS/A/2.jpg")),
    "pictures beside the folders of splits": lambda: (pairs(), shutil.copytree("PAIRS/A", "PAIRS/A/train"),
                                                      shutil.move("PAIRS/B", "PAIRS/b"), Path("PAIRS/B").mkdir(),
                                                      shutil.move("PAIRS/b", "PAIRS/B/train")),
    "a picture in colour among grey ones": lambda: (pairs(8), shutil.copy("PAIRS/B/3.png", "PAIRS/A/3.png")),
    "images side by side without a word on which is given": lambda: pairs(),
    "images side by side of an odd width": lambda: pairs(shape=(16, 31)),
    "a table of one column": lambda: (pairs(), write("pairs.csv", "PAIRS/A/0.png\n")),
    "a single pair": lambda: pairs(1),
    "arrays of numbers between 0 and 1": lambda: pairs_of(".npy", lambda path: np.save(path, np.zeros((16, 32)))),
    "colours for print": lambda: pairs_of(".tif", lambda path: Image.new("CMYK", (32, 16)).save(path)),
    "cities of pairs": lambda: pairs(),
    "edges of objects where there are no labels": lambda: pairs(),
    "a classifier of pairs": lambda: pairs(),
    "a label map in other ids": lambda: each(f"{MAPS}/*", lambda path: save(path, np.full((16, 32), 99, np.uint8))),
    "a label map painted with soft edges": lambda: painted(),
    "label maps in other ids, to leave out": lambda: each(
        f"{MAPS}/*_[0-3]_*", lambda path: save(path, np.full((16, 32), 99, np.uint8))),
    "ids named training ids": lambda: shutil.copy("map.png", "ulm_gtFine_labelTrainIds.png"),
    "training ids named ids": lambda: each(f"{MAPS}/*", lambda path: save(path, np.full((16, 32), 255, np.uint8))),
    "instances numbered as KITTI's": lambda: each(f"{MAPS}/*", of_kitti),
    "a table that is no table": lambda: write("labels.csv", "name,id,red\nroad,7,0\n"),
    "a table with an id twice": lambda: write("labels.csv", "name,id,red,green,blue\nroad,7,0,0,1\nsky,7,0,0,2\n"),
    "a table with a colour that is none": lambda: write("labels.csv", "name,id,red,green,blue\nroad,7,0,many,0\n"),
    "a table that changed while a run was stopped": lambda: (
        trained_with_labels(), write("labels.csv", TABLE.replace("road", "way"))),
    "runs of two label sets": lambda: trained_with_labels(),
    "colours in place of ids": lambda: each(f"{MAPS}/*", lambda path: save(path, np.zeros((16, 32, 3), np.uint8))),
    "a label map that is empty": lambda: write("empty.png", ""),
    "label maps of one class": lambda: each(
        "ROOT/gtFine/*/*/*", lambda path: save(path, np.full((16, 32), 7, np.uint8))),
    "labels that the judge does not know": lambda: each(
        "ROOT/gtFine/*/*/*", lambda path: save(path, np.zeros((16, 32), np.uint8))),
    "weights that are not there yet": lambda: each("RUN/*.safetensors", Path.unlink),
    "weights that are empty": lambda: write(BEST, ""),
    "weights that are cut short": lambda: cut(BEST),
    "a pickle in place of weights": lambda: write(BEST, RUNS_CODE),
    "weights of another model": lambda: save_file({"weight": torch.zeros(3)}, BEST),
    "weights with a key too many": lambda: save_file(load_file(LAST) | {"extra": torch.zeros(3)}, LAST),
    "weights that are not finite": lambda: not_finite(),
    "likelihoods that are not finite": lambda: not_finite(),
    "a judge's weights that run code": lambda: write("bad.pth", RUNS_CODE),
    "a checkpoint of another model": lambda: change_config(width=8),
    "checkpoints of a later format": lambda: each("RUN/checkpoints/*", lambda path: change_facts(path, format=99)),
    "checkpoints that lack what is needed": lambda: each(
        "RUN/checkpoints/*", lambda path: change_facts(path, pairs=None)),
    "no configuration": lambda: CONFIG.unlink(),
    "a configuration that is empty": lambda: write(CONFIG, ""),
    "a configuration that is cut short": lambda: cut(CONFIG),
    "a configuration that is a list": lambda: write(CONFIG, "[]"),
    "a configuration that is no text": lambda: write(CONFIG, b"\xff\xfe\x00"),
    "a configuration that is nested too deep": lambda: write(CONFIG, "[" * 100_000),
    "a configuration of an unknown model": lambda: change_config(model="real_nvp"),
    "a configuration with an argument that the model lacks": lambda: change_config(model_arguments={"depth": 3}),
    "a configuration with arguments of another kind": lambda: change_config(model_arguments={"steps": "four"}),
    "a configuration with a function's name": lambda: change_config(model_arguments={"affine": "soft_affine"}),
    "a configuration with a size of NaN": lambda: change_config(image_size=[float("nan"), 16]),
    "a configuration with a word for a number": lambda: change_config(generated="many"),
    "a configuration with a word for a number, to resume": lambda: change_config(epochs="many"),
    "a configuration that is damaged, to resume": lambda: cut(CONFIG),
    "a run of a later version": lambda: change_config(versions={"condflows": "99.0"}),
    "curves of something else": lambda: write("RUN/metrics.csv", "a,b\n1,2\n"),
    "curves of something else, to resume": lambda: write("RUN/metrics.csv", "a,b\n1,2\n"),
    "a judge's configuration that is cut short": lambda: cut("JUDGE/config.json"),
    "a judge's configuration without classes": lambda: write("JUDGE/config.json", "{}"),
    "a run without weights": lambda: (shutil.copytree("RUN", "EMPTY"), each("EMPTY/*.safetensors", Path.unlink)),
    "a model with a damaged configuration": lambda: (shutil.copytree("RUN", "DAMAGED"), cut("DAMAGED/config.json")),
    "a model with the weights of another": lambda: (
        shutil.copytree("RUN", "MIXED"), shutil.copy("JUDGE/model.safetensors", "MIXED/best.safetensors")),
}


@pytest.mark.parametrize("row", OF_SCRIPTS, ids=lambda row: row.mistake)
def test_a_mistake_ends_in_one_line_and_status_2(row, place, capfd):
    PREPARED.get(row.mistake, lambda: None)()
    before = tree(place)
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        run(row.given)
    said = capfd.readouterr().err
    *bars, line = said.splitlines()
    assert end.value.code == 2
    assert "Traceback" not in said
    assert not any("error" in bar.lower() for bar in bars)
    head = f"{row.given.split()[0]}: error: "
    assert line.startswith(head)
    assert matches(line.removeprefix(head), row.gets), line
    after = tree(place)
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize("row", OF_FILES, ids=lambda row: row.mistake)
def test_a_mistake_with_model_files_gets_the_error_of_the_page(row, place):
    PREPARED.get(row.mistake, lambda: None)()
    before = tree(place)
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        eval(row.given, {"Pretrained": Pretrained, "load_model": load_model, "Path": Path})
    assert matches(f"{error.type.__name__}: {error.value}", row.gets), f"{error.type.__name__}: {error.value}"
    assert tree(place) == before


ENDS = {
    "a mistake in two lines": (ValueError("a\nb"), 2, "some.py: error: a b\n"),
    "no memory": (MemoryError(), 2, "some.py: error: there is not enough memory: "),
    "no memory on a GPU": (RuntimeError("CUDA out of memory. Tried to"), 2, "some.py: error: there is not enough"),
    "a full disk": (OSError(28, "No space left on device", "DIR/a.png"), 2, "some.py: error: DIR/a.png: No space left"),
    "Ctrl-C": (KeyboardInterrupt(), 130, ""),
    "an output that nobody reads": (BrokenPipeError(), 141, ""),
}


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("closed", [False, True])
def test_how_a_script_ends(kind, closed, monkeypatch, capsys):
    error, status, said = ENDS[kind]
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if closed else getattr(sys, name))
    with pytest.raises(SystemExit) as end:
        command_line.run("some.py", lambda: raises(error))
    assert end.value.code == status
    assert capsys.readouterr().err.startswith("" if closed else said)


def raises(error):
    raise error


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError):
        command_line.run("some.py", lambda: raises(KeyError("a bug")))


@pytest.mark.parametrize("command", ["train.py --epochs ß", "sample.py NOWHERE --out DIR"])
def test_mistakes_in_a_process_of_its_own(command, tmp_path):
    """Run the scripts from another directory, without an input, and where the terminal knows no unicode."""
    script, *arguments = command.split()
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run([sys.executable, SCRIPTS / script, *arguments], cwd=tmp_path, env=environment,
                            stdin=subprocess.DEVNULL, capture_output=True)
    assert result.returncode == 2
    assert result.stdout == b""
    assert result.stderr.startswith(f"{script}: error: ".encode())
    assert result.stderr.count(b"\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_mistake_that_is_prepared_is_on_the_page():
    assert len(OF_SCRIPTS) >= 40
    assert PREPARED.keys() <= {row.mistake for row in OF_SCRIPTS + OF_FILES}
