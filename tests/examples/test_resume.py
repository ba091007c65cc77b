"""Runs that go on from a checkpoint: the run that was never stopped; checkpoints and settings that do not fit."""

import json
import os
import pickle

import pytest
import torch
from resuming import OPTIONS, assert_same, plotted, resume, stopped_early
from run_helpers import rows
from safetensors.torch import load_file

import train
from streets.runs import checkpoints, curves
from streets.system import processes
from streets.system.stopping import PREEMPTED, Stop
from streets.training import loop
from streets.training.opening import opened


def test_resume_needs_no_options_and_may_train_longer(whole, stopped):
    out = stopped
    train.main(["--out", str(out), "--resume"])
    assert_same(out, whole)
    train.main(["--out", str(out), "--resume", "--epochs", "6"])
    assert json.loads((out / "config.json").read_text())["epochs"] == 6
    assert [int(row["step"]) for row in rows(out, "step")] == list(range(1, 6 * 26 // 4 + 1))
    assert rows(out, "step")[:26] == rows(whole, "step")[:26]


def test_a_run_begun_with_overwrite_goes_on(whole, stopped):
    stopped_early(stopped, 2, "--overwrite")
    train.main(["--out", str(stopped), "--resume"])
    assert_same(stopped, whole)


def test_checkpoints_that_are_passed_over_do_not_stay(stopped):
    folder = stopped / "checkpoints"
    (folder / "step_000000031.safetensors").write_bytes(b"damaged")
    (folder / "step_000000030.safetensors.partial").write_bytes(b"killed")
    stopped_early(stopped, 11, "--resume")
    assert [path.name for path in sorted(folder.iterdir())] == [f"step_{i:09d}.safetensors" for i in (10, 11)]


def test_a_truncated_checkpoint_is_passed_over(whole, stopped, capsys):
    last, _ = checkpoints.found(stopped / "checkpoints")
    os.truncate(last, last.stat().st_size - 1)
    capsys.readouterr()
    resume(stopped)
    said = capsys.readouterr().out
    assert f"{last} is no whole checkpoint" in said
    assert "after step 8" in said
    assert_same(stopped, whole)


def test_no_checkpoint_that_can_be_read(stopped, tmp_path, capsys):
    marker = tmp_path / "ran"
    last, before = checkpoints.found(stopped / "checkpoints")
    last.write_bytes(pickle.dumps(Payload(str(marker))))
    before.write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        resume(stopped)
    assert end.value.code == 2
    assert "none of the 2 checkpoints" in capsys.readouterr().err
    assert not marker.exists()


class Payload:
    """An object whose pickle runs code when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_of_a_later_format_says_so(stopped, capsys):
    for path in checkpoints.found(stopped / "checkpoints"):
        tensors, facts = checkpoints.read(path)
        path.write_bytes(checkpoints.save(tensors, {"facts": json.dumps(facts | {"format": 99})}))
    with pytest.raises(SystemExit):
        resume(stopped)
    assert "its format is 99" in capsys.readouterr().out


def test_a_run_of_which_only_the_model_is_left_is_not_begun_anew(stopped, capsys):
    for path in checkpoints.found(stopped / "checkpoints"):
        path.unlink()
    with pytest.raises(SystemExit):
        resume(stopped)
    assert "no checkpoint to go on from" in capsys.readouterr().err
    assert (stopped / "model.safetensors").exists()


CHANGES = {
    "fewer epochs than were made": (["--epochs", "0"], "--epochs 0"),
    "another model": (["--model", "c_flow"], "asked for now is --model c_flow"),
    "another width": (["--width", "8"], "was made with --width 4"),
    "another order of the data": (["--seed", "1"], "asked for now is --seed 1"),
    "a new beginning": (["--overwrite"], "leave out --overwrite"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resumed_run_keeps_its_settings(change, stopped, capsys):
    before = {path: path.read_bytes() for path in stopped.rglob("*.*") if path.is_file()}
    arguments, message = CHANGES[change]
    with pytest.raises(SystemExit) as end:
        train.main(["--out", str(stopped), "--resume", *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in stopped.rglob("*.*") if path.is_file()}


def test_a_stop_in_the_midst_of_asking_is_not_lost(tmp_path, monkeypatch):
    stop = Stop()

    def largest(number, device):
        stop.status = PREEMPTED  # the signal comes now
        return number

    monkeypatch.setattr(processes, "largest", largest)
    config = train.parse([*OPTIONS, "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit), opened(config, stop, torch.device("cpu")) as training:
        loop.run(training)
    assert training.step == 1


def test_a_process_that_follows_at_once_is_read_last(tmp_path):
    """Order the files for TensorBoard, which goes by their names: the second, the machine, the process's number."""
    first = curves.Logger(tmp_path)
    first.write("step", 1, 1, loss=1)
    first.write("step", 2, 1, loss=2)
    length = first.length()
    first.write("step", 3, 1, loss=3)
    first.close()
    (file,) = tmp_path.glob("events.out.tfevents.*")
    second = file.name.split(".")[3]
    file.rename(tmp_path / f"events.out.tfevents.{second}.zz.99999.0")
    (tmp_path / "events.out.tfevents.copy").touch()
    again = curves.Logger(tmp_path, 2, length)
    again.write("step", 3, 1, loss=30)
    again.close()
    (tmp_path / "events.out.tfevents.copy").unlink()
    assert plotted(tmp_path)["loss/step"] == [(1, 1), (2, 2), (3, 30)]


def test_a_directory_that_cannot_be_written(capsys):
    with pytest.raises(SystemExit) as end:
        train.main([*OPTIONS, "--out", "/proc/condflows"])
    assert end.value.code == 2
    assert "/proc/condflows" in capsys.readouterr().err


@pytest.fixture(scope="module")
def without_workers(tmp_path_factory):
    """Train a short run in one process."""
    out = tmp_path_factory.mktemp("without") / "run"
    train.main([*OPTIONS, "--epochs", "2", "--no-linear-decay", "--out", str(out)])
    return out


@pytest.mark.parametrize("workers", ["0", "2"])
def test_worker_processes_change_nothing(workers, without_workers, tmp_path):
    train.main([*OPTIONS, "--epochs", "2", "--no-linear-decay", "--workers", workers, "--out", str(tmp_path / "run")])
    assert_same(tmp_path / "run", without_workers)


def test_the_moving_average_is_what_is_saved(whole):
    average = checkpoints.under("average.module", checkpoints.read(checkpoints.found(whole / "checkpoints")[0])[0])
    last = load_file(whole / "model.safetensors")
    assert last.keys() == average.keys()
    assert all(torch.equal(last[name], average[name]) for name in last)
