"""Output of the scripts while they work and at their end, on a terminal and in a log."""

import re
import sys

import pytest
from resuming import OPTIONS, stopped_early
from run_helpers import make_run

import sample
import train
from streets.system import progress
from streets.system.stopping import Stop
from streets.training import loop

TINY = [*OPTIONS, "--epochs", "3", "--validate-every", "3"]


def test_a_log_has_a_line_now_and_then(capsys, monkeypatch):
    for _ in progress.bar(range(1000), desc="short work"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    for _ in progress.bar(range(3), desc="work"):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "work: 0 of 3, ? left", *(f"work: {n} of 3, 00:00 left" for n in (1, 2, 3))]


def test_bars_within_bars_write_whole_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    for _ in progress.bar(range(2), desc="outer"):
        for _ in progress.bar(range(2), desc="inner", leave=False):
            progress.say("said")
    said = capsys.readouterr()
    assert all(re.fullmatch(r"(outer|inner): \d of 2, .+ left", line) for line in said.err.splitlines())
    assert said.out == "said\n" * 4


def test_a_training_that_is_logged_has_a_line_an_epoch(tmp_path, capsys):
    train.main([*TINY, "--out", str(tmp_path / "run")])
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if "epoch" in line]
    assert "\r" not in said.err
    # 26 pairs in batches of 4; what is left is counted over all epochs.
    for line, beginning in zip(lines, ("epoch 1/3: 7 of 20, ", "epoch 2/3: 13 of 20, ", "epoch 3/3: 20 of 20, "),
                               strict=True):
        assert re.fullmatch(re.escape(beginning) + r"loss=.*, bits_per_dim=.*, \d\d:\d\d left", line)
    assert said.out.splitlines()[-1] == (
        f"curves:  {tmp_path}/run/curves.png and metrics.csv, or tensorboard --logdir {tmp_path}/run")
    assert f"weights: {tmp_path}/run/model.safetensors (last) and best.safetensors (best on validation)\n" in said.out
    assert f"samples: {tmp_path}/run/samples\n" in said.out


def test_a_terminal_has_a_bar_of_all_epochs_and_one_of_validation(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train.main([*TINY, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert re.search(r"\repoch 3/3: 100%\|.*\| 20/20 ", said)
    assert re.search(r"\rvalidation: +0%\|.*\| 0/1 ", said)


def test_a_run_that_is_stopped_says_so_last_and_names_what_is_there(tmp_path, capsys):
    out = stopped_early(tmp_path / "run", 3)
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"weights: {out}/model.safetensors (last)",
        f"curves:  {out}/metrics.csv, or tensorboard --logdir {out}",
        f"stopped by SIGTERM after step 3, of which there is a checkpoint: --out {out} --resume goes on"]


@pytest.mark.parametrize("every", ["2", "1000"])
def test_a_run_that_fails_before_there_are_weights_names_none(every, tmp_path, capsys, monkeypatch):
    def failing(training, *arguments):
        if training.step == 3:
            raise ValueError("a mistake")
        return one_step(training, *arguments)

    one_step, out = loop.one_step, tmp_path / "run"
    monkeypatch.setattr(loop, "one_step", failing)
    with pytest.raises(ValueError, match="a mistake"):
        loop.train(train.parse([*TINY, "--checkpoint-every", every, "--out", str(out)]), Stop())
    checkpoints = [f"weights: none yet; {out}/checkpoints is what --resume goes on from"] if every == "2" else []
    assert capsys.readouterr().out.splitlines()[2:] == [
        *checkpoints, f"curves:  {out}/metrics.csv, or tensorboard --logdir {out}"]


def test_nothing_is_printed_after_the_place_of_samples(tmp_path, capsys):
    sample.main([str(make_run(tmp_path / "run")), "--scenes", "2", "--samples", "1", "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1].endswith("and each in a file of its own beside it")
