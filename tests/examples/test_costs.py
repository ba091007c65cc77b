"""Predictions of a dry run, against a training: parameters, operations, and the memory of its process."""

import dataclasses
import os
import platform
import subprocess
import sys

import pytest
import torch
from run_helpers import SCRIPTS, line_of_mistake, write_pairs
from torch.utils.flop_counter import FlopCounterMode

import train
from models import MODELS
from streets.config.kinds import OF_LABEL_IDS, WITHOUT_LIKELIHOOD
from streets.training import costs
from streets.training.objectives import make_objective
from streets.training.options import model_arguments

FLOW = ["--steps", "1", "1"]
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only Linux with glibc measures as needed")

READ = """
import sys
from pathlib import Path
import torch
import train
from models import MODELS
from streets.training import costs
from streets.training.objectives import make_objective
from streets.training.options import model_arguments

def status(entry):
    return 1024 * int(Path("/proc/self/status").read_text().split(entry + ":")[1].split()[0])

config = train.parse(sys.argv[1:])
"""

# Prints by how much the memory of the process grew in a step, and the tensors that were there before.
MEASURE = READ + """
model = MODELS[config.model](**model_arguments(config)).to(memory_format=torch.channels_last)
objective = make_objective(model, config)

def update(height, width):
    shape = (config.batch_size // config.accumulate, 3, height, width)
    objective.update([tuple(torch.rand(shape).contiguous(memory_format=torch.channels_last) for _ in range(2))
                      for _ in range(config.accumulate)])

update(64, 64)  # libraries, and the optimizers' states
for optimizer in objective.optimizers:
    optimizer.zero_grad()
held = costs.size([*model.parameters(), *model.buffers(), *(optimizer.state for optimizer in objective.optimizers)])
before = status("VmRSS")
update(*config.image_size)
print(status("VmHWM") - before + held)
"""

# Prints the peak that is predicted, and by how much the memory of the process grew for that.
GROWTH = READ + """
costs.predict(train.parse(["--device", "cpu", "--model", "glow", "--steps", "1"]))  # libraries
before = status("VmRSS")
print(costs.predict(config).peak, status("VmHWM") - before)
"""


def options(*arguments):
    return train.parse(["--device", "cpu", "--model", "full_glow", *arguments])


def predict(*arguments):
    return costs.predict(options(*arguments))


def script(text, *arguments):
    """Return the numbers that a program prints, in a process that gives every freed block back to the system."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", text, "--device", "cpu", "--model", "full_glow", *arguments]
    done = subprocess.run(command, text=True, capture_output=True, env=environment, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_operations_are_those_of_a_real_step(name):
    arguments = ["--model", name, "--width", "8", *(FLOW if name not in WITHOUT_LIKELIHOOD else [])]
    config = options(*arguments, "--batch-size", "2")
    model = MODELS[name](**model_arguments(config))
    objective = make_objective(model, config)
    given, x_b = torch.rand(2, 2, 3, *config.image_size)
    if name in OF_LABEL_IDS:
        given = torch.randint(34, (2, 1, *config.image_size))
    with FlopCounterMode(display=False) as counter:
        objective.update([(given, x_b)])
    found = predict(*arguments, "--batch-size", "2")
    assert found.parameters == sum(p.numel() for p in model.parameters())
    # The counter's hooks keep actnorms and the 1x1 convolutions after them from becoming one product.
    assert found.flop_per_image == pytest.approx(counter.get_total_flops() / 2, rel=0.02)
    assert found.flop_per_image > 0
    assert found.memory["parameters and buffers"] == costs.size(model.state_dict())
    assert found.memory["gradients"] == costs.size(list(model.parameters()))
    assert found.memory["optimizer"] == costs.size([each.state for each in objective.optimizers])
    assert found.memory["optimizer"] == pytest.approx(2 * found.memory["gradients"], rel=0.1)


@needs_glibc
@pytest.mark.parametrize("arguments", [
    ["--image-size", "256", "512", "--batch-size", "4", "--width", "64", *FLOW],
    ["--image-size", "256", "512", "--batch-size", "6", "--width", "128", *FLOW, "--checkpoint-activations"],
    ["--model", "glow", "--image-size", "256", "512", "--batch-size", "24", "--accumulate", "3", "--precision", "bf16",
     *FLOW],
    ["--model", "pix2pix", "--image-size", "192", "320", "--batch-size", "2", "--width", "64"],
], ids=["plain", "checkpoint", "accumulate and bf16", "pix2pix"])
def test_the_peak_of_memory_is_that_of_a_process(arguments):
    (measured,) = script(MEASURE, *arguments)
    assert measured > 300e6  # so that the little that is not tensors does not matter
    assert predict(*arguments).peak == pytest.approx(measured, rel=0.15)


@needs_glibc
def test_a_prediction_allocates_nothing_of_the_models_size():
    peak, growth = script(GROWTH, "--preset", "native-1024x2048", "--steps", "1", "1", "1", "1")
    assert peak > 1e9
    assert growth < 0.1 * peak


WHOLE = """
import sys
import train
train.main(sys.argv[1:])
# The peak since the start of the program: getrusage counts what its parent had too.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("\\n", 1024 * int(peak.split()[1]), sep="")
"""


@needs_glibc
@pytest.mark.parametrize("threshold", ["1000000", None])
def test_the_memory_of_the_whole_process(threshold, tmp_path):
    """Train a narrow model on large images, of which glibc keeps much, unless it is told to give it back."""
    arguments = ["--preset", "native-1024x2048", "--image-size", "512", "1024", "--steps", "1", "1", "1", "1",
                 "--width", "8", "--context-width", "8", "--generated", "1", "--epochs", "1"]
    found = predict(*arguments)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPTS)}
    environment |= {} if threshold is None else {"MALLOC_MMAP_THRESHOLD_": threshold}
    done = subprocess.run([sys.executable, "-c", WHOLE, "--device", "cpu", *arguments, "--out", tmp_path / "run"],
                          env=environment, text=True, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stderr
    measured = int(done.stdout.splitlines()[-1])
    if threshold:
        assert measured == pytest.approx(found.process(False), rel=0.15)
    else:
        assert 1.05 * found.process(False) < measured < 1.05 * found.process(True)


def test_the_initialization_is_predicted():
    few, many = (predict("--model", "glow", *FLOW, "--init-pairs", str(pairs)) for pairs in (4, 64))
    assert many.peak == few.peak
    assert 8 * few.initialization < many.initialization
    assert many.initialization > many.peak
    assert many.process(False) == pytest.approx(costs.PROGRAM + many.initialization)
    assert predict("--model", "pix2pix", "--width", "8").initialization == 0


def test_data_are_opened_before_a_prediction(tmp_path, capsys):
    root = write_pairs(write_pairs(tmp_path / "data", {"aachen": 6}), {"ulm": 2}, split="val")
    arguments = ["--model", "glow", *FLOW, "--dry-run", "--data", str(root)]
    train.main(arguments)
    assert "to initialize from 6 pairs at once" in capsys.readouterr().out
    assert "only 6 training pairs" in line_of_mistake(train.main, capsys, *arguments, "--pairs", "7")
    assert "cities with photos are aachen" in line_of_mistake(train.main, capsys, *arguments, "--cities", "ulm")


def test_what_changes_memory_and_operations_is_seen():
    glow = ["--model", "glow", "--width", "128", "--steps", "2", "2", "--batch-size", "8"]
    plain, checkpointed = predict(*glow), predict(*glow, "--checkpoint-activations")
    assert checkpointed.peak < plain.peak
    assert checkpointed.flop_per_image > plain.flop_per_image
    assert predict(*glow, "--precision", "bf16").peak < plain.peak
    parts, part = predict(*glow, "--accumulate", "4"), predict(*glow, "--batch-size", "2")
    assert part.peak + 0.5 * part.memory["gradients"] < parts.peak < plain.peak
    assert parts.flop_per_image == pytest.approx(plain.flop_per_image, rel=0.01)
    averaged = predict(*glow, "--ema", "0.9")
    assert averaged.peak == plain.peak + plain.memory["parameters and buffers"]
    assert predict(*FLOW, "--boundaries").parameters > predict(*FLOW).parameters


def test_one_of_several_processes(monkeypatch):
    alone = predict("--model", "glow", *FLOW, "--batch-size", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert predict("--model", "glow", *FLOW, "--batch-size", "8") == alone
    assert "2 x 32x64 in 1 parts" in costs.report(alone, options("--batch-size", "8"))
    with pytest.raises(ValueError, match="expect a multiple of 8"):
        predict(*FLOW, "--batch-size", "4", "--accumulate", "2")


def test_random_numbers_stay_as_they_are():
    before = torch.get_rng_state()
    predict("--model", "glow", *FLOW, "--checkpoint-activations")
    assert torch.equal(torch.get_rng_state(), before)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="levels expect multiples of 4"):
        predict(*FLOW, "--image-size", "30", "64")
    with pytest.raises(ValueError, match="--epochs 0"):
        predict("--epochs", "0")


def test_the_report():
    found = costs.Costs(12_340_000, 5.6e10, {"gradients": 2**29, "activations": 2**30})
    said = costs.report(found, dataclasses.replace(options(), image_size=(64, 128)))
    assert "up to 1.95 GiB, as glibc keeps" in said  # 0.45 of the program
    assert "about 1.95 GiB, but slower, where MALLOC_MMAP_THRESHOLD_=1000000 is set" in said
    for expected in ("full_glow: 12.34 million parameters", "56 GFLOP", "4 x 64x128", "1.5 GiB",
                     "gradients: 0.5 GiB", "activations: 1 GiB"):
        assert expected in said
