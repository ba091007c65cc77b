"""Runs that are killed, stopped, or meet what they cannot use: what goes on is the run that was never stopped."""

import csv
import inspect
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import SCRIPT, rows

import train
from models import MODELS
from streets.data.loading import Order
from streets.runs import checkpoints, curves, weights
from streets.system import files, processes
from streets.system.seeds import seed_of
from streets.system.stopping import PREEMPTED, Stop
from streets.training import loop
from streets.training.objectives import first_not_finite
from streets.training.opening import opened

OPTIONS = ["--width", "4", "--steps", "1", "1", "--context-width", "4", "--image-size", "8", "16", "--batch-size", "4",
           "--init-pairs", "6", "--generated", "26", "--epochs", "8", "--validate-every", "2", "--device", "cpu",
           "--checkpoint-every", "1", "--flip", "--ema", "0.9", "--clip-norm", "1"]
PIX2PIX = ["--model", "pix2pix", "--width", "4", "--image-size", "32", "32", "--batch-size", "4", "--generated", "26",
           "--epochs", "3", "--validate-every", "1", "--device", "cpu", "--checkpoint-every", "2"]
LONG = [*OPTIONS, "--epochs", "100000"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are started here: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def server():
    """Processes that have imported torch already, and nothing else of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["streets.training.loop", "torch.utils.tensorboard", "torchmetrics"])
    return context


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train.main([*OPTIONS, "--out", str(out)])
    return out


def child(*arguments):
    """A training without a word."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    torch.set_num_threads(1)
    train.main([*arguments])


def resume(out, options=OPTIONS):
    train.main([*options, "--out", str(out), "--resume"])


def without_speed(out):
    with (out / "metrics.csv").open() as file:
        return [{key: row[key] for key in row if key != "images_per_second"} for row in csv.DictReader(file)]


def plotted(out):
    events = EventAccumulator(str(out), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]
            if "images_per_second" not in tag}


def assert_same(out, whole):
    """Two runs are the same in every bit, but for the time that they took."""
    assert without_speed(out) == without_speed(whole)
    names = ["model.safetensors", "best.safetensors", *(f"samples/{p.name}" for p in whole.glob("samples/*"))]
    for name in names:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert {p.name for p in out.glob("samples/*")} == {p.name for p in whole.glob("samples/*")}
    kept = [checkpoints.found(run / "checkpoints") for run in (out, whole)]
    assert [p.name for p in kept[0]] == [p.name for p in kept[1]]
    assert len(kept[0]) == 2
    for left, right in zip(*kept, strict=True):
        (left, about_left), (right, about_right) = checkpoints.read(left), checkpoints.read(right)
        assert left.keys() == right.keys()
        assert any(name.startswith("optimizer.") for name in left)
        assert all(torch.equal(left[name], right[name]) for name in left)
        for facts in (about_left, about_right):
            del facts["log_length"]  # the speed is in it
        assert about_left == about_right
    left, right = plotted(out), plotted(whole)
    assert left.keys() == right.keys()
    for name in left:
        assert [step for step, _ in left[name]] == [step for step, _ in right[name]], name
        # What was plotted again, at the step of a checkpoint, was read from metrics.csv.
        assert [value for _, value in left[name]] == pytest.approx([value for _, value in right[name]], rel=1e-5)


def killed(server, out, options, chance, least):
    """Start the training and kill it after some steps and a moment, so many times."""
    kills = 0
    while kills < least:
        process = server.Process(target=child, args=[*options, "--out", str(out), "--resume"])
        process.start()
        log, more = out / "metrics.csv", chance.choice([0, 0, 1, 2, 3, 4])
        before = log.stat().st_size if log.exists() else 0
        deadline = time.time() + 60
        # A resumed run cuts the log first; so wait for change.
        while process.is_alive() and time.time() < deadline:
            if log.exists() and log.stat().st_size >= before + 60 * more:
                break
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3 if more == 0 else 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the training ended before it was killed often enough"
        kills += 1
    return kills


def test_killed_at_twenty_random_moments(server, whole, tmp_path):
    assert killed(server, tmp_path / "run", OPTIONS, random.Random(0), 20) == 20
    assert (tmp_path / "run" / "checkpoints").exists()
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_pix2pix_with_its_dropout_and_its_two_optimizers(server, tmp_path):
    killed(server, tmp_path / "run", [*PIX2PIX, "--workers", "1"], random.Random(1), 4)
    resume(tmp_path / "run", PIX2PIX)
    train.main([*PIX2PIX, "--out", str(tmp_path / "whole")])
    assert_same(tmp_path / "run", tmp_path / "whole")


def killed_in_a_write(moment, *arguments):
    """A training that is killed in the tenth write of a checkpoint: half of it written, not yet renamed, or renamed."""
    replace, write_bytes, count = os.replace, Path.write_bytes, [0]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def written(path, data):
        count[0] += path.name.startswith("step_")
        half = count[0] == 10 and moment == "half"
        write_bytes(path, data[:len(data) // 2] if half else data)
        if half:
            die()

    def replaced(source, target):
        if count[0] == 10 and moment == "written":
            die()
        replace(source, target)
        if count[0] == 10 and moment == "renamed":
            die()

    Path.write_bytes, files.os.replace = written, replaced
    child(*arguments)


@pytest.mark.parametrize("moment", ["half", "written", "renamed"])
def test_killed_in_the_write_of_a_checkpoint(moment, server, whole, tmp_path):
    out = tmp_path / "run"
    process = server.Process(target=killed_in_a_write, args=[moment, *OPTIONS, "--out", str(out)])
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    last, *_ = checkpoints.found(out / "checkpoints")
    assert checkpoints.read(last)[1]["step"] == (10 if moment == "renamed" else 9)
    assert list((out / "checkpoints").glob("*.partial")) == [] or moment != "renamed"
    resume(out)
    assert_same(out, whole)


def killed_in_the_beginning(moment, *arguments):
    """A training that is killed before the configuration, the first file of a run, is in its place, or after that."""
    replace = os.replace

    def replaced(source, target):
        if target.name == "config.json" and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if target.name == "config.json":
            os.kill(os.getpid(), signal.SIGKILL)

    files.os.replace = replaced
    child(*arguments)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("again", [False, True])
def test_killed_in_the_beginning(moment, again, server, whole, tmp_path):
    out = tmp_path / "run"
    if again:  # over another run
        stopped_early(out, 2)
    process = server.Process(target=killed_in_the_beginning, args=[
        moment, *OPTIONS, "--out", str(out), *(["--overwrite"] if again else [])])
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train.main([*OPTIONS, "--out", str(out), "--overwrite"]) if again and moment == "before" else resume(out)
    assert_same(out, whole)


def test_a_run_begun_with_overwrite_goes_on(whole, tmp_path):
    out = stopped_early(tmp_path / "run", 2)
    stopped_early(out, 9, "--overwrite")
    train.main(["--out", str(out), "--resume"])
    assert_same(out, whole)


def test_checkpoints_that_are_passed_over_do_not_stay(tmp_path):
    out = stopped_early(tmp_path / "run")
    folder = out / "checkpoints"
    (folder / "step_000000031.safetensors").write_bytes(b"damaged")
    (folder / "step_000000030.safetensors.partial").write_bytes(b"killed")
    stopped_early(out, 11, "--resume")
    assert [path.name for path in sorted(folder.iterdir())] == [f"step_{i:09d}.safetensors" for i in (10, 11)]


def test_a_stop_in_the_midst_of_asking_is_not_lost(tmp_path, monkeypatch):
    stop = Stop()

    def largest(number, device):
        stop.status = PREEMPTED  # the signal comes now
        return number

    monkeypatch.setattr(processes, "largest", largest)
    with pytest.raises(SystemExit), opened(train.parse([*OPTIONS, "--out", str(tmp_path / "run")]), stop) as training:
        loop.run(training)
    assert training.step == 1


def test_an_epoch_without_a_good_step(monkeypatch, tmp_path):
    with_nan(monkeypatch, range(7))
    out = tmp_path / "run"
    train.main([*OPTIONS, "--epochs", "2", "--validate-every", "1", "--skip-bad-batches", "7", "--out", str(out)])
    assert len(rows(out, "skipped")) == 7
    assert len(rows(out, "step")) == 6


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


def until(condition, process, seconds=120):
    deadline = time.time() + seconds
    while not condition():
        assert process.poll() is None, "the training ended"
        assert time.time() < deadline
        time.sleep(0.05)


def start(out, *options):
    # A shell's background jobs ignore SIGINT, and so would the child.
    return subprocess.Popen([sys.executable, SCRIPT, *options, "--out", out], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, PREEMPTED), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_a_status_of_its_own(number, status, tmp_path):
    out = tmp_path / "run"
    process = start(out, *LONG, "--checkpoint-every", "1000", "--workers", "1")
    try:
        until((out / "best.safetensors").exists, process)
        os.killpg(process.pid, number)  # the workers too, as torchrun does
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status
    assert f"stopped by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl-C'} after step" in said
    assert "Traceback" not in errors
    last, *_ = checkpoints.found(out / "checkpoints")
    step = checkpoints.read(last)[1]["step"]
    assert step == int(rows(out, "step")[-1]["step"])
    assert torch.isfinite(weights.load_model(out).sample(1, torch.rand(1, 3, 8, 16))).all()
    epochs = str(-(-step * 4 // 26) + 1)
    resume(out, [*LONG, "--checkpoint-every", "1000", "--epochs", epochs])
    assert [int(row["step"]) for row in rows(out, "step")] == list(range(1, -(-int(epochs) * 26 // 4) + 1))


def test_a_signal_before_anything_is_not_lost(tmp_path):
    process = start(tmp_path / "run", *LONG)
    time.sleep(1.5)  # torch is being imported
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (PREEMPTED, -signal.SIGTERM)


def stopped_early(out, steps=9, *options):
    """A run that ended at its ``steps``-th step, with its checkpoints."""
    stop, one_step = Stop(), loop.one_step

    def stopping(training, *arguments):
        shown = one_step(training, *arguments)
        if training.step == steps:
            stop.status = PREEMPTED
        return shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "one_step", stopping)
        with pytest.raises(SystemExit) as end:
            loop.train(train.parse([*OPTIONS, *options, "--out", str(out)]), stop)
    assert end.value.code == PREEMPTED
    return out


def test_a_truncated_checkpoint_is_passed_over(whole, tmp_path, capsys):
    out = stopped_early(tmp_path / "run")
    last, _ = checkpoints.found(out / "checkpoints")
    os.truncate(last, last.stat().st_size - 1)
    capsys.readouterr()
    resume(out)
    said = capsys.readouterr().out
    assert f"{last} is no whole checkpoint" in said
    assert "after step 8" in said
    assert_same(out, whole)


def test_no_checkpoint_that_can_be_read(tmp_path, capsys):
    out = stopped_early(tmp_path / "run")
    marker = tmp_path / "ran"
    last, before = checkpoints.found(out / "checkpoints")
    last.write_bytes(pickle.dumps(Payload(str(marker))))
    before.write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        resume(out)
    assert end.value.code == 2
    assert "none of the 2 checkpoints" in capsys.readouterr().err
    assert not marker.exists()


class Payload:
    """What a pickle runs when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_of_a_later_format_says_so(tmp_path, capsys):
    out = stopped_early(tmp_path / "run")
    for path in checkpoints.found(out / "checkpoints"):
        tensors, facts = checkpoints.read(path)
        path.write_bytes(checkpoints.save(tensors, {"facts": json.dumps(facts | {"format": 99})}))
    with pytest.raises(SystemExit):
        resume(out)
    assert "its format is 99" in capsys.readouterr().out


def on_a_full_disk(*arguments):
    """A training that from the fifth checkpoint on can write no file of more than 20 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save, count = checkpoints.save, [0]

    def limited(tensors, metadata):
        count[0] += 1
        if count[0] == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return save(tensors, metadata)

    checkpoints.save = limited
    errors = os.open(arguments[0], os.O_WRONLY | os.O_CREAT)
    os.dup2(errors, 2)
    torch.set_num_threads(1)
    train.main([*arguments[1:]])


def test_a_process_that_follows_at_once_is_read_last(tmp_path):
    """TensorBoard reads files in the order of their names: the second, the machine, the number of the process."""
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


def test_a_full_disk_leaves_the_checkpoint_before(server, whole, tmp_path):
    out, errors = tmp_path / "run", tmp_path / "errors"
    process = server.Process(target=on_a_full_disk, args=[str(errors), *OPTIONS, "--out", str(out)])
    process.start()
    process.join()
    assert process.exitcode == 2
    assert re.search(r"train.py: error: .*step_000000005.safetensors cannot be written: .*\n$", errors.read_text())
    assert [checkpoints.read(path)[1]["step"] for path in checkpoints.found(out / "checkpoints")] == [4, 3]
    assert list((out / "checkpoints").glob("*.partial")) == []
    resume(out)
    assert_same(out, whole)


def test_a_directory_that_cannot_be_written(capsys):
    with pytest.raises(SystemExit) as end:
        train.main([*OPTIONS, "--out", "/proc/condflows"])
    assert end.value.code == 2
    assert "/proc/condflows" in capsys.readouterr().err


CHANGES = {
    "fewer epochs than were made": (["--epochs", "0"], "--epochs 0"),
    "another model": (["--model", "c_flow"], "asked for now is --model c_flow"),
    "another width": (["--width", "8"], "was made with --width 4"),
    "another order of the data": (["--seed", "1"], "asked for now is --seed 1"),
    "a new beginning": (["--overwrite"], "leave out --overwrite"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resumed_run_keeps_its_settings(change, tmp_path, capsys):
    out = stopped_early(tmp_path / "run", 2)
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    arguments, message = CHANGES[change]
    with pytest.raises(SystemExit) as end:
        train.main(["--out", str(out), "--resume", *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}


def test_resume_needs_no_options_and_may_train_longer(whole, tmp_path):
    out = stopped_early(tmp_path / "run", 9)
    train.main(["--out", str(out), "--resume"])
    assert_same(out, whole)
    train.main(["--out", str(out), "--resume", "--epochs", "10"])
    assert json.loads((out / "config.json").read_text())["epochs"] == 10
    assert [int(row["step"]) for row in rows(out, "step")] == list(range(1, 10 * 26 // 4 + 1))
    assert rows(out, "step")[:52] == rows(whole, "step")[:52]


def test_a_run_of_which_only_the_model_is_left_is_not_begun_anew(tmp_path, capsys):
    out = stopped_early(tmp_path / "run", 2)
    for path in checkpoints.found(out / "checkpoints"):
        path.unlink()
    with pytest.raises(SystemExit):
        resume(out)
    assert "no checkpoint to go on from" in capsys.readouterr().err
    assert (out / "model.safetensors").exists()


def with_nan(monkeypatch, steps, place="target._transform.bijectors.1.bijectors.1"):
    """Full-Glow of which one operation gives NaN in some steps, which are known by their seeds."""
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
    for index in order.pairs(4):
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
    with opened(config, Stop()) as training:
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


def damaged_data(root):
    """A data set on disk of which one training photo and one validation label map are no images."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            photo, label = (root / kind / split / "city" for kind in ("leftImg8bit", "gtFine"))
            photo.mkdir(parents=True, exist_ok=True)
            label.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 16, 3), np.uint8)).save(photo / f"city_{i}_leftImg8bit.png")
            Image.fromarray(rng.integers(0, 34, (8, 16), np.uint8)).save(label / f"city_{i}_gtFine_labelIds.png")
    bad = root / "leftImg8bit" / "train" / "city" / "city_2_leftImg8bit.png"
    worse = root / "gtFine" / "val" / "city" / "city_1_gtFine_labelIds.png"
    os.truncate(bad, 60)
    worse.write_bytes(b"")
    return bad, worse


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


@pytest.mark.parametrize("workers", ["0", "2"])
def test_worker_processes_change_nothing(workers, whole, tmp_path):
    train.main([*OPTIONS, "--epochs", "2", "--no-linear-decay", "--workers", workers, "--out", str(tmp_path / "run")])
    train.main([*OPTIONS, "--epochs", "2", "--no-linear-decay", "--out", str(tmp_path / "other")])
    assert_same(tmp_path / "run", tmp_path / "other")


def test_the_moving_average_is_what_is_saved(whole):
    average = checkpoints.under("average.module", checkpoints.read(checkpoints.found(whole / "checkpoints")[0])[0])
    last = load_file(whole / "model.safetensors")
    assert last.keys() == average.keys()
    assert all(torch.equal(last[name], average[name]) for name in last)
