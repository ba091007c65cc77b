"""Parts of the application's tests that several files use: places, small runs and data, pictures, and processes."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from process_table import quick_processes as quick_processes
from process_table import until as until

import train
from condflows.testing import perturb
from models import MODELS
from streets.config.kinds import OF_LABEL_IDS
from streets.data.drawn import StreetScenes
from streets.runs import directory, weights

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "cityscapes"
SHARED = ROOT / ".." / "shared" / "data"
CAMVID = SHARED / "camvid64"
SIZE = (32, 64)
"""Image size of the runs of ``make_run``."""


# Files


def read(path):
    """Read a picture as an array."""
    return np.array(Image.open(path))


def save(path, array):
    """Write an array as a PNG file, whatever the name says."""
    Image.fromarray(np.ascontiguousarray(array)).save(path, "PNG")


def write(path, array):
    """Write an array as its name says, .npy or a picture, into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def files(folder):
    """Read the bytes of every file, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(out, split):
    """Read the rows of metrics.csv of one split."""
    with (out / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


# Runs and data


def train_on_images(place):
    """Make pairs of one channel of 8 bits and one of 16 in ``data``, and a run of them in ``run``."""
    for split in ("train", "val"):
        for i in range(4):
            for side, image in {"A": np.full((16, 32), 40 * i, np.uint8),
                                "B": np.full((16, 32), 9000 * i, np.uint16)}.items():
                write(place / "data" / side / split / f"{i}.png", image)
    train.main(["--data", str(place / "data"), "--image-size", "8", "16", "--steps", "1", "1", "--width", "4",
                "--batch-size", "4", "--epochs", "1", "--init-pairs", "4", "--device", "cpu",
                "--out", str(place / "run")])
    return place


def make_run(path, name="full_glow", **config):
    """Make the directory of a run that was not trained, but is no start either; the best weights differ from the last.

    Args:
        path: its directory.
        name: its model.
        config: entries of its configuration, in place of these.
    """
    depth = {"pix2pix": 5, "flow_matching": 3}
    arguments = {"depth": depth[name], "width": 4} if name in depth else {"steps": (1, 1), "width": 4}
    if name in OF_LABEL_IDS:
        arguments["classes"] = 34
    if config.get("boundaries"):
        arguments["side_channels"] = 1
    torch.manual_seed(0)
    model = MODELS[name](**arguments).to(memory_format=torch.channels_last)
    directory.create(path, {
        "model": name, "model_arguments": arguments, "image_size": SIZE, "out": path, "batch_size": 4, "data": None,
        "generated": 48,
        "seed": 3, "source_weight": 1e-4 if hasattr(model, "source") else None, "clip_norm": None,
        "learning_rate": 1e-3, "warmup_steps": 0, "linear_decay": False} | config)
    for seed, file in enumerate(weights.WEIGHTS.values()):
        weights.save_weights(perturb(model, 0.02, seed), path / file)
    (path / "metrics.csv").write_text("step,epoch,split,bits_per_dim,images_per_second\n3,1,train,5,10\n3,1,val,4,\n"
                                      "6,2,train,4,10\n")
    return path


def write_pairs(root, cities, size=(16, 32), split="train"):
    """Write pairs of drawn scenes in the Cityscapes layout: a number of them for each city."""
    scenes = iter(StreetScenes(split, size, sum(cities.values())))
    for city, count in cities.items():
        photos, maps = (root / kind / split / city for kind in ("leftImg8bit", "gtFine"))
        for folder in (photos, maps):
            folder.mkdir(parents=True, exist_ok=True)
        for frame in range(count):
            item, name = next(scenes), f"{city}_000000_{frame:06d}"
            save(photos / f"{name}_leftImg8bit.png", item["photo"].permute(1, 2, 0).numpy())
            save(maps / f"{name}_gtFine_labelIds.png", item["label"].numpy())
    return root


def damaged_data(root):
    """Make a data set on disk of which one training photo and one validation label map are no images."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            photo, label = (root / kind / split / "city" for kind in ("leftImg8bit", "gtFine"))
            photo.mkdir(parents=True, exist_ok=True)
            label.mkdir(parents=True, exist_ok=True)
            save(photo / f"city_{i}_leftImg8bit.png", rng.integers(0, 256, (8, 16, 3), np.uint8))
            save(label / f"city_{i}_gtFine_labelIds.png", rng.integers(0, 34, (8, 16), np.uint8))
    bad = root / "leftImg8bit" / "train" / "city" / "city_2_leftImg8bit.png"
    worse = root / "gtFine" / "val" / "city" / "city_1_gtFine_labelIds.png"
    os.truncate(bad, 60)
    worse.write_bytes(b"")
    return bad, worse


# Errors


def refused(error: type[Exception], *fragments: object):
    """Expect an error of one line that holds every fragment."""
    text = "".join(f"(?=.*{re.escape(str(fragment))})" for fragment in fragments)
    return pytest.raises(error, match=rf"\A{text}[^\n]*\Z")


def line_of_mistake(main, capsys, *arguments):
    """Call a script with a mistake, and return the one line that it ends in."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith(f"{main.__module__}.py: error: ")
    assert said.count("\n") == 1
    return said
