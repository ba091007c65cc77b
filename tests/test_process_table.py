"""The check that no process is left by the tests."""

import os
import signal
import subprocess
import time
from pathlib import Path

import process_table
import pytest


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_a_process_whose_parent_has_ended_is_found():
    done = subprocess.run(["sh", "-c", "sleep 600 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True, check=True)
    pid, deadline = int(done.stdout), time.monotonic() + 60
    (found,) = [process for process in process_table.left() if process.pid == pid]
    assert "sleep 600" in found.command
    assert found.parent != os.getpid()
    os.kill(pid, signal.SIGKILL)
    while any(process.pid == pid for process in process_table.left()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [process for process in process_table.left() if process.pid == pid]
