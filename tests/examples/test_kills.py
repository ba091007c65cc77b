"""Trainings that are killed or stopped by a signal: what goes on is the run that was never stopped."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from resuming import LONG, OPTIONS, PIX2PIX, assert_same, resume
from run_helpers import SCRIPTS, quick_processes, rows, until

import train
from streets.runs import checkpoints, weights
from streets.system import files
from streets.system.stopping import PREEMPTED

LONGER = [*OPTIONS, "--epochs", "8"]


@pytest.fixture(scope="module")
def server():
    """Start processes quickly: what a training imports is there, torch's compiler and TensorBoard included."""
    with quick_processes(__name__, "torch._dynamo", "torch.utils.tensorboard", "torchmetrics") as context:
        yield context


def child(*arguments):
    """Train without a word."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    train.main([*arguments])


def died(server, target, *arguments):
    """Wait for the end of a training that kills itself."""
    process = server.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def killed(server, out, options, chance, least):
    """Start the training and kill it after some steps and a moment, so many times."""
    kills = 0
    while kills < least:
        process = server.Process(target=child, args=[*options, "--out", str(out), "--resume"])
        process.start()
        log, more = out / "metrics.csv", chance.choice([0, 0, 1, 2, 3, 4])
        before = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 60
        # A resumed run cuts the log first; so wait for change.
        while process.is_alive() and time.monotonic() < deadline:
            if log.exists() and log.stat().st_size >= before + 60 * more:
                break
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.3 if more == 0 else 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the training ended before it was killed often enough"
        kills += 1
    return kills


def test_killed_at_twenty_random_moments(server, tmp_path):
    assert killed(server, tmp_path / "run", LONGER, random.Random(0), 20) == 20
    assert (tmp_path / "run" / "checkpoints").exists()
    resume(tmp_path / "run", LONGER)
    train.main([*LONGER, "--out", str(tmp_path / "whole")])
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_pix2pix_with_its_dropout_and_its_two_optimizers(server, tmp_path):
    killed(server, tmp_path / "run", [*PIX2PIX, "--workers", "1"], random.Random(1), 4)
    resume(tmp_path / "run", PIX2PIX)
    train.main([*PIX2PIX, "--out", str(tmp_path / "whole")])
    assert_same(tmp_path / "run", tmp_path / "whole")


def killed_in_a_write(moment, *arguments):
    """Train until killed in the tenth write of a checkpoint: half of it written, not yet renamed, or renamed."""
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
    died(server, killed_in_a_write, moment, *OPTIONS, "--out", str(out))
    last, *_ = checkpoints.found(out / "checkpoints")
    assert checkpoints.read(last)[1]["step"] == (10 if moment == "renamed" else 9)
    assert list((out / "checkpoints").glob("*.partial")) == [] or moment != "renamed"
    resume(out)
    assert_same(out, whole)


def killed_in_the_beginning(moment, *arguments):
    """Train until killed before the configuration, the first file of a run, is in its place, or after that."""
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
def test_killed_in_the_beginning(moment, again, server, whole, tmp_path, request):
    out = request.getfixturevalue("stopped") if again else tmp_path / "run"  # over another run
    died(server, killed_in_the_beginning, moment, *OPTIONS, "--out", str(out), *(["--overwrite"] if again else []))
    train.main([*OPTIONS, "--out", str(out), "--overwrite"]) if again and moment == "before" else resume(out)
    assert_same(out, whole)


def on_a_full_disk(*arguments):
    """Train with a disk that from the fifth checkpoint on takes no file of more than 20 kB."""
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
    train.main([*arguments[1:]])


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


def start(out, *options):
    # A shell's background jobs ignore SIGINT, and so would the child.
    return subprocess.Popen([sys.executable, SCRIPTS / "train.py", *options, "--out", out], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the libraries of a process are read from /proc")
def test_a_signal_before_anything_is_not_lost(tmp_path):
    process = start(tmp_path / "run", *LONG)
    until(lambda: "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(), process)  # it is being imported
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (PREEMPTED, -signal.SIGTERM)
