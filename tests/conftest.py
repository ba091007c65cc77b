import contextlib
import os
import signal
import time

import process_table
import pytest
import torch
from hypothesis import HealthCheck, settings

# The same examples on every run; `--hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("search", deadline=None, suppress_health_check=list(HealthCheck), max_examples=200)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.hookimpl(trylast=True)  # after the workers of pytest-xdist have ended
def pytest_sessionfinish(session):
    """Fail if a process stays behind, and end it."""
    if hasattr(session.config, "workerinput"):
        return
    deadline = time.monotonic() + 20
    while (left := process_table.left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        print(f"\nERROR: the tests left process {process.pid}: {process.command[:200]}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
