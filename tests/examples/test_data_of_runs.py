"""The data that a run is used on and measured with: those of its training, unless others are asked for."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import run_helpers
import torch
from run_helpers import line_of_mistake, write_pairs

import evaluate
import sample
import train
import train_classifier
import transfer
from streets.data.drawn import StreetScenes
from streets.judging import tables
from streets.judging.reconstruction import reconstruction
from streets.runs.pretrained import Pretrained
from streets.runs.run import Run

SIZE = (16, 32)
make_run = partial(run_helpers.make_run, image_size=SIZE)


@pytest.fixture
def root(tmp_path):
    """Write a data set of two splits."""
    return write_pairs(write_pairs(tmp_path / "data", {"aachen": 3}, SIZE), {"ulm": 3}, SIZE, "val").resolve()


@pytest.fixture
def run(root, tmp_path):
    """Make a run that was trained on the data set."""
    return make_run(tmp_path / "run", data=str(root))


def call(script, *arguments):
    script.main([str(argument) for argument in arguments])


def measured(out):
    return json.loads((out / "results.json").read_text())


def test_a_run_is_sampled_on_the_data_of_its_training(run, root, tmp_path, capsys):
    call(sample, run, "--scenes", 3, "--samples", 1, "--out", tmp_path / "out")
    assert f"scenes of {root}, which {run} was trained on" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("ulm_*_condition.png"))) == 3
    call(sample, run, "--scenes", 1, "--samples", 1, "--data", "generated", "--out", tmp_path / "drawn")
    assert list((tmp_path / "drawn").glob("val_*_condition.png"))
    call(transfer, run, "--content", 0, "--structure", 1, "--out", tmp_path / "transfer")
    assert (tmp_path / "transfer" / "ulm_000000_000000_on_ulm_000000_000001.png").exists()


def test_a_synthetic_data_set_says_its_data(run, root, tmp_path):
    call(sample, run, "--samples", 1, "--augment", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "augment.json").read_text())["data"] == str(root)
    assert len(list((tmp_path / "out" / "leftImg8bit" / "val" / "ulm").iterdir())) == 3


def test_single_files_need_no_data(run, root, tmp_path):
    label_map = next((root / "gtFine").rglob("*.png")).rename(tmp_path / "map.png")
    shutil.rmtree(root)
    call(sample, run, "--label-maps", label_map, "--samples", 1, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "map_sample_0.png").exists()


@pytest.mark.parametrize("script", [sample, transfer, evaluate])
def test_data_that_have_gone_are_an_error(script, run, root, tmp_path, capsys):
    shutil.rmtree(root)
    pair = ["--content", 0, "--structure", 1] if script is transfer else []
    said = line_of_mistake(script.main, capsys, run, *pair, "--out", tmp_path / "out")
    assert f"{run} was trained on {root}, and there is no such folder or file now: give --data" in said
    assert not (tmp_path / "out").exists()


def test_a_run_is_measured_on_the_data_of_its_training_without_a_judge(run, root, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "classes.png").write_text("of an evaluation with a judge")
    call(evaluate, run, "--repeats", 2, "--temperatures", 0.5, 1, "--out", out, "--overwrite")
    results = measured(out)
    assert (results["settings"]["data"], results["settings"]["judge"]) == (str(root), None)
    assert results["references"] == {}
    figures = results["runs"]["full_glow"]
    assert figures["bits_per_dim"]["pairs"] == 3
    assert [score["distance"] > 0 for score in figures["scores"]] == [True, True]
    assert [score["changed"] for score in figures["scores"]] == [None, None]
    assert 0 < figures["reconstruction"]["mean"] < figures["reconstruction"]["largest"] < 1e-4
    table = (out / "results.md").read_text()
    assert table.startswith(f"3 pairs of {root}, split `val`, at 16x32, no judge")
    assert "| model | bits per dimension | temperature | distance | reconstruction |" in table
    assert "| full_glow | 0.5 |" in table
    assert "IoU" not in table
    assert {path.name for path in out.iterdir()} == {
        "results.json", "results.md", "samples.png", "curves.png", "full_glow.json"}
    assert table in capsys.readouterr().out


def test_drawn_scenes_where_they_were_trained_on_or_are_asked_for(run, tmp_path):
    drawn = make_run(tmp_path / "drawn")
    options = ["--generated", 4, "--repeats", 1]
    for name, more in {"drawn": [drawn], "asked": [run, "--data", "generated"]}.items():
        call(evaluate, *more, *options, "--out", tmp_path / "out" / name)
        settings = measured(tmp_path / "out" / name)["settings"]
        assert (settings["data"], settings["pairs"]) == ("drawn scenes", 4)


def test_runs_of_different_data_are_not_compared_unasked(run, root, tmp_path, capsys):
    drawn = make_run(tmp_path / "drawn", "glow")
    options = [run, drawn, "--repeats", 1, "--generated", 4]
    said = line_of_mistake(evaluate.main, capsys, *options, "--out", tmp_path / "out")
    assert f"{drawn} was trained on drawn scenes and {run} on {root}: choose with --data" in said
    call(evaluate, *options, "--data", root, "--out", tmp_path / "out")
    assert measured(tmp_path / "out")["settings"]["data"] == str(root)


def test_an_exported_model_says_only_that_its_data_were_drawn(run, tmp_path, capsys):
    Pretrained.from_run(run).save_pretrained(tmp_path / "photos")
    Pretrained.from_run(make_run(tmp_path / "of_drawn", data=None)).save_pretrained(tmp_path / "drawn")
    assert "data" not in json.loads((tmp_path / "photos" / "config.json").read_text())
    said = line_of_mistake(sample.main, capsys, tmp_path / "photos", "--out", tmp_path / "out")
    assert "is an exported model, which does not say where its data are: give --data" in said
    call(sample, tmp_path / "drawn", "--scenes", 1, "--samples", 1, "--out", tmp_path / "out")
    assert list((tmp_path / "out").glob("val_*_condition.png"))


def test_training_on_drawn_scenes_can_be_asked_for(tmp_path, capsys):
    assert train.parse(["--data", "generated"]).data is None
    assert train.parse(["--data", "/generated"]).data is not None
    said = line_of_mistake(train_classifier.main, capsys, "--extra", tmp_path, "--out", tmp_path / "out")
    assert f"--extra {tmp_path}: there is no --data to add it to" in said


def test_reconstruction_is_the_distance_from_what_noise_gives_back(tmp_path):
    run, scenes = Run(make_run(tmp_path / "run")), StreetScenes("val", SIZE, 3)
    model, given = run.model, []

    class Off:
        """A flow whose inverse is off by 0.25 in one value of each image."""

        def transform_to_noise(self, x_b, context):
            given.append(x_b)
            return model.transform_to_noise(x_b, context)

        def transform_from_noise(self, noise, context):
            off = torch.zeros(3, *SIZE)
            off[0, 0, 0] = 0.25
            return model.transform_from_noise(noise, context) + off

    exact = reconstruction(run, scenes, 2, 0)
    run.model = Off()
    found = reconstruction(run, scenes, 2, 0)
    assert found["largest"] == pytest.approx(0.25, abs=1e-4)
    assert found["mean"] == pytest.approx(0.25 / (3 * SIZE[0] * SIZE[1]) + exact["mean"], rel=0.1)
    assert np.concatenate([x.numpy() for x in given]).shape == (3, 3, *SIZE)
    run.model.transform_from_noise = lambda noise, context: noise * float("nan")
    broken = reconstruction(run, scenes, 2, 0)
    assert broken == {"largest": None, "mean": None}
    assert [tables.reconstruction_cell(each) for each in (None, broken, {"largest": 3e-6})] == [
        "", "not finite", "3.0e-06"]
