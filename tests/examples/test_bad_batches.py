"""Batches that cannot be used: a loss that is not finite, and files that cannot be read."""

import inspect
import os

import numpy as np
import pytest
import torch
from resuming import OPTIONS, PIX2PIX, stopped_early
from run_helpers import damaged_data, rows

import train
from models import MODELS
from streets.data.loading import Order
from streets.runs import checkpoints
from streets.system.seeds import seed_of
from streets.system.stopping import Stop
from streets.training.objectives import first_not_finite
from streets.training.opening import opened


def with_nan(monkeypatch, steps, place="target._transform.bijectors.1.bijectors.1"):
    """Put a Full-Glow in place of which one operation gives NaN in some steps, known by their seeds."""
    seeds = {seed_of(0, "step", step) for step in steps}

    def build(**arguments):
        model = full_glow(**arguments)
        model.get_submodule(place).register_forward_hook(lambda module, _, output: (
            output[0] * float("nan"), output[1]) if torch.initial_seed() in seeds else output)
        return model

    full_glow = MODELS["full_glow"]
    build.__signature__ = inspect.signature(full_glow)
    monkeypatch.setitem(MODELS, "full_glow", build)


def test_nan_stops_the_run_before_the_weights_are_touched(monkeypatch, tmp_path, capsys):
    with_nan(monkeypatch, [4])
    with pytest.raises(SystemExit) as end:
        train.main([*OPTIONS, "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "at step 5 the loss is nan" in said
    assert "the output of target._transform.bijectors.1.bijectors.1 (LUConv1x1) was not finite" in said
    order = Order(26, 4, 0)
    for index in order.pairs(4):  # in the first epoch
        assert f"train_000000_{index:06d}" in said
    tensors, facts = checkpoints.read(checkpoints.found(tmp_path / "run" / "checkpoints")[0])
    assert facts["step"] == 4
    assert all(torch.isfinite(value).all() for value in tensors.values())


def test_bad_batches_are_skipped_and_counted(monkeypatch, tmp_path, capsys):
    with_nan(monkeypatch, [4, 7])
    out = tmp_path / "run"
    stopped = [*OPTIONS, "--epochs", "2", "--out", str(out), "--skip-bad-batches"]
    with pytest.raises(SystemExit):
        train.main([*stopped, "1"])
    assert "at step 8 the loss is nan" in capsys.readouterr().err
    tensors = [checkpoints.read(path)[0] for path in checkpoints.found(out / "checkpoints")]
    train.main([*stopped, "2", "--resume"])
    assert [row["step"] for row in rows(out, "skipped")] == ["5", "8"]
    assert [int(row["step"]) for row in rows(out, "step")] == [1, 2, 3, 4, 6, 7, 9, 10, 11, 12, 13]
    every = [row for split in ("step", "train", "val") for row in rows(out, split)]
    assert all(np.isfinite(float(row["bits_per_dim"])) for row in every)
    assert checkpoints.read(checkpoints.found(out / "checkpoints")[0])[1]["skipped"] == 2
    assert all(torch.isfinite(value).all() for state in tensors for value in state.values())


def test_an_epoch_without_a_good_step(monkeypatch, tmp_path):
    with_nan(monkeypatch, range(7))
    out = tmp_path / "run"
    train.main([*OPTIONS, "--epochs", "2", "--validate-every", "1", "--skip-bad-batches", "7", "--out", str(out)])
    assert len(rows(out, "skipped")) == 7
    assert len(rows(out, "step")) == 6


def test_a_skipped_step_leaves_everything_as_it_was(monkeypatch, tmp_path):
    with_nan(monkeypatch, [5])
    stopped_early(tmp_path / "run", 5)
    before = checkpoints.read(checkpoints.found(tmp_path / "run" / "checkpoints")[0])[0]
    train.main([*OPTIONS, "--epochs", "1", "--skip-bad-batches", "1", "--out", str(tmp_path / "run"), "--resume",
                "--checkpoint-every", "6"])
    paths = {checkpoints.read(path)[1]["step"]: path for path in checkpoints.found(tmp_path / "run" / "checkpoints")}
    after = checkpoints.read(paths[6])[0]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bad_step_of_pix2pix_leaves_everything_as_it_was(tmp_path, capsys):
    config = train.parse([*PIX2PIX, "--out", str(tmp_path / "run")])
    with opened(config, Stop(), torch.device("cpu")) as training:
        model, objective = training.model.train(), training.objective
    context, x_b = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.l1_weight = float("inf")  # the generator's loss fails after the discriminator's step
    for _ in range(2):
        with pytest.raises(FloatingPointError):
            objective.update([(context, x_b)])
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not objective.optimizers[0].state
    with torch.no_grad():
        model.generator[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError):
        objective.update([(context, x_b)])
    assert "generator.0" in first_not_finite(objective, [(context, x_b)])


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_file_that_cannot_be_read_is_named_or_skipped(workers, tmp_path, capsys):
    bad, worse = damaged_data(tmp_path / "data")
    options = [*OPTIONS, "--data", str(tmp_path / "data"), "--epochs", "3", "--workers", workers]
    with pytest.raises(SystemExit) as end:
        train.main([*options, "--init-pairs", "1", "--batch-size", "6", "--out", str(tmp_path / "one")])
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("train.py: error: expected a readable PNG")
    assert str(bad) in said
    train.main([*options, "--out", str(tmp_path / "two"), "--skip-bad-files"])
    said = capsys.readouterr().out
    assert str(bad) in said
    assert str(worse) in said
    assert "1 of 6 pairs of train cannot be read" in said
    assert "1 of 3 pairs of val cannot be read" in said
    assert "5 training and 2 validation pairs" in said
    assert len(rows(tmp_path / "two", "step")) == 4


def test_data_of_another_length(tmp_path, capsys):
    damaged = damaged_data(tmp_path / "data")
    for file in damaged:
        other = file.with_name(file.name.replace("city_2", "city_0").replace("city_1", "city_0"))
        file.write_bytes(other.read_bytes())
    options = [*OPTIONS, "--data", str(tmp_path / "data")]
    out = tmp_path / "run"
    train.main([*options, "--epochs", "1", "--out", str(out)])
    os.truncate(damaged[0], 60)
    capsys.readouterr()
    train.main(["--out", str(out), "--resume", "--epochs", "2", "--skip-bad-files"])
    assert "the order of the pairs is another from here on" in capsys.readouterr().out
    for path in (tmp_path / "data").rglob("*city_2*"):
        path.unlink()
    with pytest.raises(SystemExit):
        train.main([*options, "--out", str(out), "--resume", "--no-skip-bad-files", "--epochs", "2"])
    assert "restore the files" in capsys.readouterr().err
