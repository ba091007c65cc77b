"""Two processes train what one does, for every model; which pairs they take, and what they agree on."""

import gc
import os
import signal
import socket
import subprocess
import sys

import pytest
import torch
from run_helpers import SCRIPTS, damaged_data, quick_processes, rows, until
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

import train
from models import MODELS
from streets.config.kinds import WITHOUT_LIKELIHOOD
from streets.data.loading import Order
from streets.runs import checkpoints
from streets.system import processes
from streets.system.stopping import PREEMPTED
from streets.training import loop

OPTIONS = ["--width", "8", "--batch-size", "4", "--init-pairs", "6", "--generated", "26", "--image-size", "32", "32",
           "--epochs", "1", "--warmup-steps", "0", "--validate-every", "1", "--flip", "--device", "cpu"]
FLOW = ["--steps", "1", "1"]


def options_of(name):
    return OPTIONS if name in WITHOUT_LIKELIHOOD else [*OPTIONS, *FLOW]


def torchrun(count, *command, **options):
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
                           str(count), *map(str, command)], text=True, capture_output=True, timeout=500, **options)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Train every model by two processes; Full-Glow also with two batches a step."""
    folder = tmp_path_factory.mktemp("two")
    calls = [["--model", name, "--out", str(folder / name), *options_of(name)] for name in MODELS]
    calls.append(["--model", "full_glow", "--out", str(folder / "accumulate"), "--accumulate", "2", "--ema", "0.9",
                  *options_of("full_glow")])
    script = folder / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nimport torch, train\n"
                      "from streets.system import processes\n"
                      f"with processes.group(torch.device('cpu')):\n    for call in {calls!r}:\n"
                      "        train.main(call)\n")
    result = torchrun(2, script)
    assert not result.returncode, result.stderr
    return folder


def same_run(one, two):
    """Check that two runs agree to float tolerance, and return the largest difference of their weights."""
    for split in ("step", "train", "val"):
        left, right = rows(one, split), rows(two, split)
        assert [row["step"] for row in left] == [row["step"] for row in right]
        for a, b in zip(left, right, strict=True):
            for name in a.keys() - {"split", "images_per_second"}:
                assert float(a[name] or 0) == pytest.approx(float(b[name] or 0), rel=2e-4, abs=1e-5), name
    left, right = (load_file(run / "model.safetensors") for run in (one, two))
    assert left.keys() == right.keys()
    return max(float((left[name].double() - right[name].double()).abs().max()) for name in left)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_what_one_does(name, two, tmp_path):
    train.main(["--model", name, "--out", str(tmp_path / "one"), *options_of(name)])
    assert same_run(tmp_path / "one", two / name) < 2e-5  # where steps of Adam moved weights by some 1e-3


def test_batches_of_a_step_and_the_moving_average(two, tmp_path):
    train.main(["--model", "full_glow", "--out", str(tmp_path / "one"), "--ema", "0.9", *options_of("full_glow")])
    assert same_run(tmp_path / "one", two / "accumulate") < 2e-5
    last = load_file(tmp_path / "one" / "model.safetensors"), load_file(two / "full_glow" / "model.safetensors")
    assert any(not torch.allclose(last[0][name], last[1][name], rtol=1e-3) for name in last[0])


def stopping_step(training, *arguments):
    shown = one_step(training, *arguments)
    training.stop.status = PREEMPTED
    return shown


one_step, destroy = loop.one_step, torch.distributed.destroy_process_group


def watched(rank, port, end, folder, options):
    """Train as one of two processes that torchrun started, and say what is left when the group is destroyed."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost",
                      MASTER_PORT=str(port))

    def checked():
        left = [each for each in gc.get_objects() if type(each) in (DistributedDataParallel, loop.Training)]
        (folder / f"left_{rank}").write_text(str(len(left)))
        destroy()

    torch.distributed.destroy_process_group = checked
    if end == "stopped":
        loop.one_step = stopping_step
    train.main(options)


@pytest.fixture(scope="module")
def server():
    """Start processes quickly: what a training imports is there."""
    with quick_processes(__name__, "torch._dynamo", "torch.utils.tensorboard", "torchmetrics") as context:
        yield context


@pytest.mark.parametrize("end", ["whole", "stopped"])
def test_nothing_that_uses_the_group_outlives_it(end, server, tmp_path):
    """A wrapped model that is freed after its group waits for the group's threads, now and then forever."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = [*OPTIONS, *FLOW, "--image-size", "8", "16", "--out", str(tmp_path / "run")]
    both = [server.Process(target=watched, args=(rank, port, end, tmp_path, options)) for rank in range(2)]
    try:
        for process in both:
            process.start()
        for process in both:
            process.join(100)
        assert [process.exitcode for process in both] == [PREEMPTED if end == "stopped" else 0] * 2
    finally:
        for process in both:
            process.kill()
            process.join()
    assert [(tmp_path / f"left_{rank}").read_text() for rank in range(2)] == ["0", "0"]
    assert len(rows(tmp_path / "run", "step")) == (1 if end == "stopped" else 7)


def test_sigterm_to_torchrun_and_another_number_of_processes(tmp_path):
    out, options = tmp_path / "run", [*OPTIONS, *FLOW, "--workers", "1", "--image-size", "8", "16", "--resume"]
    process = subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
                                SCRIPTS / "train.py", *options, "--epochs", "100000", "--out", out], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until((out / "best.safetensors").exists, process)
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    assert "stopped by SIGTERM after step" in said, errors
    step = checkpoints.read(checkpoints.found(out / "checkpoints")[0])[1]["step"]
    assert step == int(rows(out, "step")[-1]["step"])
    epochs = -(-4 * step // 26) + 1
    train.main([*options, "--epochs", str(epochs), "--out", str(out)])
    assert [int(row["step"]) for row in rows(out, "step")] == [*range(1, -(-26 * epochs // 4) + 1)]


def test_what_one_process_cannot_read_ends_all(tmp_path):
    bad, _ = damaged_data(tmp_path / "data")
    options = [*OPTIONS, *FLOW, "--data", str(tmp_path / "data"), "--image-size", "8", "16", "--init-pairs", "1"]
    result = torchrun(2, SCRIPTS / "train.py", *options, "--out", tmp_path / "run")
    assert result.returncode
    assert f"train.py: error: expected a readable PNG, JPEG, WebP or TIFF in {bad}" in result.stderr


def test_every_pair_once_an_epoch_whatever_the_processes(monkeypatch):
    whole = Order(10, 4, seed=3)
    stream = [i for step in range(5) for i in whole.pairs(step)]
    assert sorted(stream[:10]) == list(range(10))
    assert sorted(stream[10:]) == list(range(10, 20))
    assert stream[:10] != [i - 10 for i in stream[10:]] != list(range(10))
    assert [whole.steps(epochs) for epochs in (0, 1, 2, 4)] == [0, 3, 5, 10]
    assert [i for batch in Order(10, 4, 3, accumulate=2).batches(0, 5) for i in batch] == stream
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        parts.append([*Order(10, 4, seed=3).batches(0, 5)])
    assert [i for both in zip(*parts, strict=True) for part in both for i in part] == stream
    with pytest.raises(ValueError, match="expect a multiple of 4"):
        Order(10, 6, 3, accumulate=2)
    with pytest.raises(ValueError, match="only 10 training pairs"):
        Order(10, 12, 3)


def test_a_process_alone_needs_no_group():
    assert (processes.rank(), processes.world()) == (0, 1)
    assert processes.texts("ü", torch.device("cpu")) == ["ü"]
    assert processes.largest(3, torch.device("cpu")) == 3
