"""Runs that several files of tests look at or go on with; none of them changes these."""

import shutil

import pytest
import resuming

import train


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Train a run that is never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train.main([*resuming.OPTIONS, "--out", str(out)])
    return out


@pytest.fixture(scope="session")
def after_nine(tmp_path_factory):
    """Train a run that is stopped after nine steps."""
    return resuming.stopped_early(tmp_path_factory.mktemp("stopped") / "run", 9)


@pytest.fixture
def stopped(after_nine, tmp_path):
    """Copy a run that was stopped after nine steps, to go on with."""
    return shutil.copytree(after_nine, tmp_path / "run")
