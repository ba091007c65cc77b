"""A directory has one writer: a second process of any script ends at once, and the first goes on untouched."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys

import filelock
import pytest
from run_helpers import SCRIPTS, line_of_mistake, until

import sample
import train
from streets.runs import checkpoints
from streets.runs.curves import read_curves
from streets.runs.directory import writing
from streets.system import locks
from streets.system.stopping import PREEMPTED

OPTIONS = ["--model", "full_glow", "--width", "4", "--steps", "1", "1", "--context-width", "4",
           "--image-size", "8", "16", "--batch-size", "4",
           "--init-pairs", "6", "--generated", "26", "--validate-every", "1000", "--device", "cpu"]
HOLD = """
import sys, time
from pathlib import Path
from streets.runs.directory import writing

with writing(Path(sys.argv[1]), overwrite=True):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, to judge and to sample from."""
    out = tmp_path_factory.mktemp("finished") / "run"
    train.main([*OPTIONS, "--epochs", "1", "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def holder(tmp_path_factory):
    """Another process that writes into the directory ``held``, and that directory."""
    held = tmp_path_factory.mktemp("holder") / "held"
    process = subprocess.Popen([sys.executable, "-c", HOLD, held], cwd=SCRIPTS, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process, held
    finally:
        process.kill()
        process.communicate()


def names(directory):
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("script", ["train", "evaluate", "sample", "transfer", "train_classifier"])
def test_every_script_is_refused(script, run, holder, capsys):
    process, out = holder
    (out / "mine.txt").write_text("untouched")
    arguments = {"train": ["--overwrite"], "evaluate": [run, "--judge", "pspnet", "--overwrite"],
                 "sample": [run, "--overwrite"], "train_classifier": ["--overwrite"],
                 "transfer": [run, "--content", "0", "--structure", "1", "--overwrite"]}[script]
    main = __import__(script).main
    said = line_of_mistake(main, capsys, *arguments, "--out", out)
    assert re.search(rf"^{script}.py: error: --out {out} is being written by process {process.pid} on "
                     rf"{re.escape(socket.gethostname())} since \d", said)
    assert "or give another directory" in said
    assert (out / "mine.txt").read_text() == "untouched"
    assert process.poll() is None


def test_two_trainings_in_one_directory(tmp_path, capsys):
    """The second ends with one line; the first is the run that it would have been alone, and lets go at its end."""
    out = tmp_path / "run"
    options = [*OPTIONS, "--epochs", "100000", "--out", str(out)]
    first = subprocess.Popen([sys.executable, SCRIPTS / "train.py", *options], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    try:
        until((out / "metrics.csv").exists, first)
        for more in ([], ["--resume"], ["--overwrite"]):
            capsys.readouterr()
            with pytest.raises(SystemExit) as stop:
                train.main([*options, *more])
            assert stop.value.code == 2
            said = capsys.readouterr()
            assert said.err.count("\n") == 1
            assert f"process {first.pid} on {socket.gethostname()}" in said.err
            assert said.out == ""
        first.send_signal(signal.SIGTERM)
        assert "stopped by SIGTERM" in first.communicate(timeout=60)[0]
    finally:
        first.kill()
    assert first.returncode == PREEMPTED
    rows = [row for row in read_curves(out / "metrics.csv") if row["split"] == "step"]
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    assert b"\0" not in (out / "metrics.csv").read_bytes()
    assert checkpoints.read(checkpoints.found(out / "checkpoints")[0])[1]["step"] == len(rows)
    assert not names(out) & {locks.LOCK, locks.WRITER}
    train.main(["--out", str(out), "--resume", "--epochs", str(len(rows) * 4 // 26 + 1)])


def test_a_killed_writer_lets_go_at_once(tmp_path):
    """Its workers, which outlive it for some seconds, hold nothing."""
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, SCRIPTS / "train.py", *OPTIONS, "--epochs", "100000", "--workers", "2",
                                "--checkpoint-every", "5", "--out", out], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    until(lambda: checkpoints.found(out / "checkpoints"), process)
    process.kill()
    process.wait()
    assert names(out) > {locks.LOCK, locks.WRITER}
    step = checkpoints.read(checkpoints.found(out / "checkpoints")[0])[1]["step"]
    train.main(["--out", str(out), "--resume", "--workers", "0", "--epochs", str(step * 4 // 26 + 2)])
    assert not names(out) & {locks.LOCK, locks.WRITER}


def test_several_processes_are_one_writer(tmp_path, holder):
    _, held = holder
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               SCRIPTS / "train.py", *OPTIONS, "--epochs", "1", "--out"]
    done = subprocess.run([*command, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not names(tmp_path / "run") & {locks.LOCK, locks.WRITER}
    done = subprocess.run([*command, held, "--overwrite"], capture_output=True, text=True, check=False)
    assert done.returncode
    assert done.stderr.count(f"train.py: error: --out {held} is being written by process") == 2
    assert "streets" not in done.stderr  # no traceback of the application


def test_a_directory_of_a_refused_start_is_not_left(tmp_path, run, capsys):
    assert "there are only" in line_of_mistake(train.main, capsys, *OPTIONS, "--batch-size", "4000", "--out",
                                       tmp_path / "a" / "b")
    assert names(tmp_path) == set()
    (tmp_path / "mine").mkdir()
    assert "there are only" in line_of_mistake(train.main, capsys, *OPTIONS, "--batch-size", "4000", "--out",
                                       tmp_path / "mine" / "b")
    assert names(tmp_path) == {"mine"}
    sample.main([str(run), "--scenes", "1", "--samples", "1", "--out", str(tmp_path / "samples")])
    assert names(tmp_path / "samples") == {"grid.png", "val_000000_000000_condition.png",
                                           "val_000000_000000_sample_0.png"}


def test_an_empty_directory_and_one_of_a_killed_writer_are_free(tmp_path):
    (tmp_path / locks.LOCK).touch()
    (tmp_path / locks.WRITER).write_text("{damaged")
    with writing(tmp_path, overwrite=False):
        facts = json.loads((tmp_path / locks.WRITER).read_text())
        assert (facts["host"], facts["process"]) == (socket.gethostname(), os.getpid())
    assert names(tmp_path) == set()


def test_a_writer_that_has_only_just_begun_has_no_name(tmp_path):
    lock = filelock.FileLock(tmp_path / locks.LOCK)
    with lock, pytest.raises(ValueError, match="is being written by another process"), locks.one_writer(tmp_path):
        pass


@pytest.mark.parametrize("number", sorted(locks.WITHOUT_LOCKS))
def test_a_file_system_without_locks_is_said(number, tmp_path, monkeypatch, capsys):
    def acquire(self, *_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with writing(tmp_path, overwrite=False):
        (tmp_path / "result.txt").touch()
    assert "on a file system without locks" in capsys.readouterr().out
    assert names(tmp_path) == {"result.txt"}


def test_other_errors_of_the_lock_are_errors(tmp_path, monkeypatch):
    def acquire(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.raises(OSError, match="No space"), writing(tmp_path, overwrite=False):
        pass
