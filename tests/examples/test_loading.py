"""Workers that read data: they end with the process that started them, however that ends and however they began."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_helpers import SCRIPTS, until

from streets.data import loading

LOADER = """
import multiprocessing, sys, time
from streets.data import loading

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    batches = loading.loader(range(10_000), 2, batch_size=2)
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


def alive(pid):
    """Tell if a process is there, and is not only waiting to be collected."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_end_with_a_killed_training(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LOADER)
    process = subprocess.Popen([sys.executable, script, method], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(SCRIPTS)})
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    assert all(map(alive, workers))
    for pid in workers:
        os.kill(pid, signal.SIGTERM)  # of the group, which they leave to the training
    assert process.poll() is None
    assert all(map(alive, workers))
    process.kill()
    process.wait()  # not for its output, which workers that stay would hold open
    process.stdout.close()
    try:
        until(lambda: not any(map(alive, workers)), seconds=30)
    finally:
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)


def test_batches_come_in_order_and_a_reason_in_place_of_one(tmp_path):
    class Numbers:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            if index == 4:
                raise OSError("four cannot be read")
            return index

    batches = loading.loader(Numbers(), 1, batch_size=2)
    assert [next(batches).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="four cannot be read; or leave out"):
        next(batches)
