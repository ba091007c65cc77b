"""Small trainings that are stopped and go on, and the comparison of two runs, for the tests of resumed runs."""

import csv

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from streets.runs import checkpoints
from streets.system.stopping import PREEMPTED, Stop
from streets.training import loop

OPTIONS = ["--model", "full_glow", "--width", "4", "--steps", "1", "1", "--context-width", "4",
           "--image-size", "8", "16", "--batch-size", "4",
           "--init-pairs", "6", "--generated", "26", "--epochs", "4", "--validate-every", "2", "--device", "cpu",
           "--checkpoint-every", "1", "--flip", "--ema", "0.9", "--clip-norm", "1"]
PIX2PIX = ["--model", "pix2pix", "--width", "4", "--image-size", "32", "32", "--batch-size", "4", "--generated", "26",
           "--epochs", "3", "--validate-every", "1", "--device", "cpu", "--checkpoint-every", "2"]
LONG = [*OPTIONS, "--epochs", "100000"]


def resume(out, options=OPTIONS):
    train.main([*options, "--out", str(out), "--resume"])


def stopped_early(out, steps=9, *options):
    """Train a run that ends at its ``steps``-th step, with its checkpoints."""
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


def without_speed(out):
    with (out / "metrics.csv").open() as file:
        return [{key: row[key] for key in row if key != "images_per_second"} for row in csv.DictReader(file)]


def plotted(out):
    events = EventAccumulator(str(out), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]
            if "images_per_second" not in tag}


def assert_same(out, whole):
    """Check that two runs are the same in every bit, but for the time that they took."""
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
