"""sample.py as a user calls it: pictures of all models, synthetic data sets in shards and after a kill, misuse."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condflows.testing import perturb

import data
import labels
import runs
import sample
from models import MODELS

SCRIPT = Path(__file__).parents[2] / "examples" / "cityscapes" / "sample.py"
SIZE = (32, 64)
NAME = "ulm_000000_000019"


def make_run(path, model="full_glow", **config):
    """A run directory with untrained but perturbed weights."""
    arguments = {"depth": 5, "width": 4} if model == "pix2pix" else {"steps": (1, 1), "width": 8}
    if config.get("boundaries"):
        arguments["side_channels"] = 1
    net = perturb(MODELS[model](**arguments), 0.02)
    runs.create(path, {"model": model, "model_arguments": arguments, "image_size": SIZE, "generated": 48, "seed": 3}
                | config)
    for file in runs.WEIGHTS.values():
        runs.save_weights(net, path / file)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "full_glow")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Five pairs with instances in the Cityscapes layout, larger than they are sampled."""
    root = tmp_path_factory.mktemp("data")
    scenes = data.StreetScenes("train", (48, 96), length=5)
    for i, item in enumerate(scenes):
        city = ("aachen", "ulm")[i % 2]
        name = f"{city}_000000_{19 * i:06d}"
        photo, maps = (root / kind / "train" / city for kind in ("leftImg8bit", "gtFine"))
        for folder in (photo, maps):
            folder.mkdir(parents=True, exist_ok=True)
        item["label"][0, 0] = 255  # a licence plate
        save(photo / f"{name}_leftImg8bit.png", item["photo"].permute(1, 2, 0).numpy())
        save(maps / f"{name}_gtFine_labelIds.png", item["label"].numpy())
        save(maps / f"{name}_gtFine_instanceIds.png", item["instances"].numpy().astype(np.uint16))
    return root


def save(path, array):
    Image.fromarray(np.ascontiguousarray(array)).save(path)


def ids_of(root):
    return root / "gtFine" / "train" / "ulm" / f"{NAME}_gtFine_labelIds.png"


def photo_of(root):
    return root / "leftImg8bit" / "train" / "ulm" / f"{NAME}_leftImg8bit.png"


def read(path):
    return np.array(Image.open(path))


def call(*arguments):
    sample.main([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The one line that a mistake ends in."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("sample.py: error: ")
    assert said.count("\n") == 1
    return said


def files(folder):
    """The bytes of every file, but for the manifests, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".json"}


# Pictures


@pytest.mark.parametrize("model", MODELS)
def test_every_model_samples(model, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", model), tmp_path / "out"
    call(run, "--scenes", 2, "--samples", 2, "--out", out)
    names = [f"val_000003_{i:06d}" for i in (0, 5)]  # an eighth of the generated training scenes
    assert set(files(out)) == {"grid.png"} | {
        f"{name}_{kind}.png" for name in names for kind in ("condition", "sample_0", "sample_1")}
    scenes = data.StreetScenes("val", SIZE, seed=3)
    for name, index in zip(names, (0, 5), strict=True):
        assert np.array_equal(read(out / f"{name}_condition.png"), scenes[index]["condition"].permute(1, 2, 0).numpy())
        first, second = (read(out / f"{name}_sample_{k}.png") for k in (0, 1))
        assert first.shape == second.shape == (*SIZE, 3)
        assert not np.array_equal(first, second)
    grid = read(out / "grid.png")
    assert grid.shape == (2 * (96 + 2) - 2, 4 * (192 + 2) - 2, 3)
    cells = grid[:96:3, ::3][:, :64], grid[:96:3, 194:386:3], grid[98::3, 3 * 194::3]
    assert np.array_equal(cells[0], read(out / f"{names[0]}_condition.png"))
    assert np.array_equal(cells[1], scenes[0]["photo"].permute(1, 2, 0).numpy())
    assert np.array_equal(cells[2], read(out / f"{names[1]}_sample_1.png"))
    assert str(out) in capsys.readouterr().out


def test_other_sizes(run, tmp_path):
    call(run, "--scenes", 1, "--samples", 1, "--image-size", 64, 128, "--out", tmp_path / "out")
    assert read(tmp_path / "out" / "val_000003_000000_sample_0.png").shape == (64, 128, 3)


def test_a_sample_depends_on_seed_name_and_number_alone(run, root, tmp_path):
    def sampled(out, *arguments):
        call(run, "--data", root, "--split", "train", "--out", tmp_path / out, *arguments)
        return {name: value for name, value in files(tmp_path / out).items() if "sample" in name}

    all_of_them = sampled("a", "--scenes", 5, "--samples", 2)
    assert len(set(all_of_them.values())) == 10
    alone = sampled("b", "--indices", "ulm_000000_000019", 1, "--samples", 1)
    assert alone == {name: all_of_them[name] for name in alone}
    assert set(alone) == {"ulm_000000_000019_sample_0.png", "aachen_000000_000038_sample_0.png"}
    other = sampled("c", "--indices", 1, "--samples", 1, "--seed", 1)
    assert other["aachen_000000_000038_sample_0.png"] != all_of_them["aachen_000000_000038_sample_0.png"]


def test_several_temperatures(run, tmp_path):
    out = tmp_path / "out"
    call(run, "--scenes", 1, "--samples", 2, "--temperature", 0, 0.5, 1, "--out", out)
    values = {t: [read(out / f"val_000003_000000_temperature_{t}_sample_{k}.png").astype(float) for k in (0, 1)]
              for t in ("0", "0.5", "1")}
    apart = [np.abs(first - second).mean() for first, second in values.values()]
    assert apart[0] == 0 < apart[1] < apart[2]
    assert read(out / "grid.png").shape[1] == (2 + 6) * 194 - 2
    call(run, "--scenes", 1, "--samples", 1, "--temperature", 0.5, "--out", tmp_path / "one")
    assert np.array_equal(read(tmp_path / "one" / "val_000003_000000_sample_0.png"), values["0.5"][0])


def test_training_ids_are_no_label_ids(tmp_path):
    path = tmp_path / "a_gtFine_labelTrainIds.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"give the .*_labelIds"):
        data.read_label_map(path)


def test_label_maps_of_files(run, root, tmp_path):
    """Ids and the same map in colours, also with a palette or transparency, give the same samples."""
    colors = Image.fromarray(labels.colorize(read(ids_of(root))))
    variants = {"RGB": colors, "RGBA": colors.convert("RGBA"), "P": colors.quantize(256, dither=Image.Dither.NONE)}
    expected = None
    for kind, image in variants.items():
        path = tmp_path / kind / f"{NAME}_gtFine_color.png"
        path.parent.mkdir()
        image.save(path)
        call(run, "--label-maps", path, "--samples", 1, "--out", tmp_path / f"{kind}_out")
        expected = expected or files(tmp_path / f"{kind}_out")
        assert files(tmp_path / f"{kind}_out") == expected
    call(run, "--label-maps", ids_of(root), "--samples", 1, "--out", tmp_path / "ids_out")
    assert files(tmp_path / "ids_out") == expected
    assert read(tmp_path / "ids_out" / "grid.png").shape[1] == 2 * 194 - 2


def test_boundaries_of_a_label_map(root, tmp_path):
    run = make_run(tmp_path / "run", boundaries=True)
    call(run, "--label-maps", ids_of(root), "--samples", 1, "--out", tmp_path / "out")
    call(run, "--data", root, "--split", "train", "--indices", NAME, "--samples", 1, "--out", tmp_path / "same")
    name = f"{NAME}_sample_0.png"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


def test_photos_to_label_maps(root, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", direction="photo2label"), tmp_path / "out"
    call(run, "--photos", photo_of(root), "--samples", 1, "--out", out)
    call(run, "--data", root, "--split", "train", "--indices", NAME, "--samples", 1, "--out",
         tmp_path / "same")
    for kind in ("condition", "sample_0"):
        name = f"{NAME}_{kind}.png"
        assert (out / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    assert "--photos" in refused(capsys, run, "--label-maps", photo_of(root), "--out", tmp_path / "no")
    assert "photo2label" in refused(capsys, run, "--augment", tmp_path / "no")


def test_the_readers_keep_the_size_of_a_file(root):
    item = data.read_label_map(ids_of(root))
    assert item.keys() == {"condition", "label", "instances", "name"}
    assert item["name"] == NAME
    assert np.array_equal(item["label"].numpy(), read(ids_of(root)))
    assert item["instances"].dtype == torch.int32
    photo = data.read_photo(photo_of(root))["photo"]
    assert np.array_equal(photo.permute(1, 2, 0).numpy(), read(photo_of(root)))
    small = data.Cityscapes(root, "train", (16, 32))
    expected = small[small.names.index(item["name"])]
    came = data.read_label_map(ids_of(root), (16, 32)) | data.read_photo(photo_of(root), (16, 32))
    assert came.keys() == expected.keys()
    assert all(np.array_equal(came[key], expected[key]) for key in came)


# Synthetic data sets


def augment(run, root, out, *arguments):
    call(run, "--data", root, "--split", "train", "--samples", 2, "--augment", out, *arguments)


@pytest.fixture(scope="module")
def augmented(run, root, tmp_path_factory):
    out = tmp_path_factory.mktemp("augmented") / "set"
    augment(run, root, out)
    return out


def test_a_synthetic_set_is_a_cityscapes_set(run, root, augmented, tmp_path):
    real, made = data.Cityscapes(root, "train", SIZE), data.Cityscapes(augmented, "train", SIZE)
    assert len(made) == 10
    call(run, "--data", root, "--split", "train", "--scenes", 5, "--samples", 2, "--out", tmp_path)
    for item in made:
        city, sequence, frame = item["name"].split("_")
        assert (frame[0], len(frame)) == ("9", 10)
        origin = f"{city}_{sequence}_{frame[4:]}"
        expected = real[real.names.index(origin)]
        for key in ("label", "instances"):
            assert torch.equal(item[key], expected[key])
        sampled = read(tmp_path / f"{origin}_sample_{int(frame[1:4])}.png")
        assert np.array_equal(item["photo"].permute(1, 2, 0).numpy(), sampled)
    assert (made[0]["label"] == 255).any()


def test_the_official_tools_can_tell_the_files(root, augmented):
    """They take names apart at underscores, and find the files of a frame by the beginning of the name."""
    names = [path.name for folder in (root, augmented) for path in folder.glob("leftImg8bit/*/*/*.png")]
    assert len(names) == 15
    for name in names:
        assert len(name.split("_")) == 4
        assert sum(other.startswith("_".join(name.split("_")[:3])) for other in names) == 1


def test_shards_are_the_whole_set(run, root, augmented, tmp_path, capsys):
    for shard in (1, 0):
        augment(run, root, tmp_path / "set", "--shard", shard, "--num-shards", 2)
    assert "6 pairs written, 0 were there (shard 0 of 2)" in capsys.readouterr().out
    assert files(tmp_path / "set") == files(augmented)
    augment(run, root, tmp_path / "set", "--shard", 6, "--num-shards", 7)  # fewer scenes than shards
    assert files(tmp_path / "set") == files(augmented)


def test_a_killed_run_is_continued(run, root, augmented, tmp_path, monkeypatch, capsys):
    out, original, calls = tmp_path / "set", runs.save_picture, []

    def killed(image, path):
        calls.append(path)
        if len(calls) == 12:  # between the label map and the photo of the fourth pair
            raise KeyboardInterrupt
        original(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_picture", killed)
        with pytest.raises(SystemExit) as stop:
            augment(run, root, out)
    assert stop.value.code == 130
    assert len(data.Cityscapes(out, "train", SIZE)) == 3
    kept = {path: path.stat().st_mtime_ns for path in out.glob("leftImg8bit/*/*/*.png")}
    augment(run, root, out)
    assert "7 pairs written, 3 were there" in capsys.readouterr().out
    assert files(out) == files(augmented)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


def test_lost_files_are_made_again(run, root, augmented, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(augmented, out)
    for path in list(out.glob("leftImg8bit/*/*/*.png"))[::3]:
        path.unlink()
    augment(run, root, out)
    assert files(out) == files(augmented)


def test_other_settings_do_not_mix(run, root, augmented, capsys):
    before = files(augmented)
    arguments = run, "--data", root, "--split", "train", "--augment", augmented
    said = refused(capsys, *arguments, "--samples", 2, "--temperature", 0.5, "--seed", 1)
    assert "made with temperature 0.8, seed 0, asked for now: temperature 0.5, seed 1;" in said
    assert "samples 2, asked for now: samples 5;" in refused(capsys, *arguments)
    shard = refused(capsys, *arguments, "--samples", 2, "--weights", "last", "--shard", 0, "--num-shards", 3)
    assert "weights best, asked for now: weights last;" in shard
    assert files(augmented) == before
    assert [path.name for path in augmented.glob("*.json")] == ["augment-0-of-1.json"]
    manifest = json.loads((augmented / "augment-0-of-1.json").read_text())
    assert (manifest["run"], manifest["seed"], manifest["temperature"]) == (str(run), 0, 0.8)


def test_painted_maps_make_a_set_too(run, root, tmp_path):
    """Instances are left out where not all maps have them."""
    save(tmp_path / "painted.png", labels.colorize(np.full(SIZE, 7)))
    call(run, "--label-maps", tmp_path / "painted.png", ids_of(root), "--samples", 1, "--augment", tmp_path / "set")
    made = data.Cityscapes(tmp_path / "set", "val", SIZE)
    assert [set(item) for item in made] == [{"photo", "condition", "label", "name"}] * 2


# Mistakes


MISTAKES = {
    "no output": ([], "--out DIR"),
    "two outputs": (["--out", "OUT", "--augment", "OUT"], "--augment DIR"),
    "size that the levels do not divide": (["--out", "OUT", "--image-size", "32", "66"], "multiples of 4"),
    "negative temperature": (["--out", "OUT", "--temperature", "0.5", "-0.5"], "--temperature -0.5"),
    "no number": (["--out", "OUT", "--temperature", "nan"], "--temperature nan"),
    "no samples": (["--out", "OUT", "--samples", "0"], "--samples 0"),
    "no scenes": (["--out", "OUT", "--scenes", "0"], "--scenes 0"),
    "index out of range": (["--out", "OUT", "--indices", "6"], "no scene 6 among the 6: give an index from 0 to 5"),
    "unknown name": (["--out", "OUT", "--indices", "ulm"], "no scene ulm among the 6"),
    "twice the same": (["--out", "OUT", "--indices", "1", "val_000003_000001"], "val_000003_000001"),
    "no such data": (["--out", "OUT", "--data", "nowhere"], "nowhere"),
    "split without pairs": (["--out", "OUT", "--data", "ROOT", "--split", "val"], "splits with photos are train"),
    "unknown split": (["--out", "OUT", "--split", "middle"], "'middle'"),
    "no such file": (["--out", "OUT", "--label-maps", "nowhere.png"], "nowhere.png"),
    "photos for label2photo": (["--out", "OUT", "--photos", "a.png"], "--label-maps"),
    "files and data": (["--out", "OUT", "--label-maps", "a.png", "--indices", "3"], "leave out --data, --indices"),
    "no such device": (["--out", "OUT", "--device", "abacus"], "--device abacus"),
    "no such shard": (["--augment", "OUT", "--shard", "2", "--num-shards", "2"], "--shard 2"),
    "two temperatures": (["--augment", "OUT", "--temperature", "0", "1"], "one --temperature"),
    "replacing a set": (["--augment", "OUT", "--overwrite"], "remove"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_status_2(mistake, run, root, tmp_path, capsys):
    arguments, message = MISTAKES[mistake]
    places = {"OUT": str(tmp_path / "out"), "ROOT": str(root)}
    assert message in refused(capsys, run, *(places.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "out").exists()


def test_mistaken_runs(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert str(tmp_path / "nowhere") in refused(capsys, tmp_path / "nowhere", "--out", out)
    other = make_run(tmp_path / "other", "c_flow")
    shutil.copy(run / "best.safetensors", other)
    assert "belongs to another model" in refused(capsys, other, "--out", out)
    for model, message in (("pix2pix", "--temperature 0.5: pix2pix has none"), ("glow", "--augment")):
        path = make_run(tmp_path / model, model)
        arguments = ["--out", out, "--temperature", 0.5] if model == "pix2pix" else ["--augment", out]
        assert message in refused(capsys, path, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(("array", "message"), [
    (np.full(SIZE, 77, np.uint8), "got 77"),
    (np.full(SIZE, 300, np.uint16), "got 300"),
    (np.full((*SIZE, 3), (128, 64, 127), np.uint8), "the colour (128, 64, 127), first found at pixel (0, 0)"),
])
def test_values_outside_the_table_are_named(array, message, run, tmp_path, capsys):
    path = tmp_path / "painted.png"
    save(path, array)
    said = refused(capsys, run, "--label-maps", path, "--out", tmp_path / "out")
    assert message in said
    assert str(path) in said
    assert ("antialiasing" in said) == (array.ndim == 3)
    assert not (tmp_path / "out").exists()


def test_antialiased_colours_are_refused(run, tmp_path, capsys):
    painted = Image.new("RGB", (128, 64), (70, 130, 180))
    painted.paste((128, 64, 128), (0, 30, 128, 64))
    painted.resize((70, 40), Image.Resampling.BILINEAR).save(tmp_path / "painted.png")
    said = refused(capsys, run, "--label-maps", tmp_path / "painted.png", "--out", tmp_path / "out")
    assert re.search(r"the colour \(\d+, \d+, \d+\), first found at pixel \(\d+, 0\): paint", said)


def test_used_and_unwritable_directories(run, root, tmp_path, capsys, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "grid.png").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("sampling.draw", lambda *_: pytest.fail("sampled"))
        for out in (used, used / "grid.png"):
            assert str(out) in refused(capsys, run, "--out", out)
        assert "in use for something else" in refused(capsys, run, "--augment", used)
        for option in ("--out", "--augment"):
            assert "grid.png" in refused(capsys, run, option, used / "grid.png" / "below")
    assert (used / "grid.png").read_text() == "mine"
    call(run, "--scenes", 1, "--samples", 1, "--out", used, "--overwrite")
    assert read(used / "grid.png").shape == (96, 3 * 194 - 2, 3)


def test_samples_that_are_not_finite_are_named(tmp_path, capsys):
    broken = make_run(tmp_path / "run")
    model = runs.load_model(broken)
    with torch.no_grad():
        next(model.target.parameters()).fill_(float("nan"))
    runs.save_weights(model, broken / "best.safetensors")
    with pytest.raises(SystemExit) as stop:
        call(broken, "--scenes", 1, "--out", tmp_path / "out")
    assert stop.value.code == 2
    assert "sample 0 of val_000003_000000 at temperature 0.8" in capsys.readouterr().err


def test_help_is_quick_and_complete():
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-X", "importtime", SCRIPT, "--help"], capture_output=True, text=True,
                            check=True)
    assert time.perf_counter() - started < 60
    assert "| torch" not in result.stderr
    for option in ("--label-maps", "--temperature", "--augment", "--num-shards"):
        assert option in result.stdout
