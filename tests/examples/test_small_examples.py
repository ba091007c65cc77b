"""The examples of one file each as a user calls them: their pictures, what they print, misuse."""

import contextlib
import importlib.util
import io
import re
import runpy
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["two_moons", "volumes", "signals", "simulation_based_inference", "splines", "variational_inference", "tabular"]
needs_sbi = pytest.mark.skipif(importlib.util.find_spec("sbi") is None, reason="sbi is not installed: pip install sbi")
SCRIPTS = [pytest.param(name, marks=needs_sbi) if name == "simulation_based_inference" else name for name in NAMES]


class Call(NamedTuple):
    """The printed text of a script, and its exit status."""

    stdout: str
    stderr: str
    status: int | str | None


def call(name, directory, *arguments):
    """Call a script as ``python examples/NAME.py`` in a directory, but in this process, which has torch at hand."""
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    with (pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(),
          contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr)):
        patch.chdir(directory)
        patch.setattr(sys, "argv", [str(EXAMPLES / f"{name}.py"), *arguments])
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code
            if isinstance(status, str):  # which Python would print
                stderr.write(status)
    return Call(stdout.getvalue(), stderr.getvalue(), status)


def printed(output, name):
    """Find the first number that is printed after a name."""
    found = re.search(rf"{name} (-?\d+\.\d+)", output)
    assert found, output
    return float(found[1])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Return the output of a script in its tiny mode, which is run once."""
    done = {}

    def run(name):
        if name not in done:
            directory = tmp_path_factory.mktemp(name)
            result = call(name, directory, "--tiny")
            assert not result.status, result.stderr
            assert [path.name for path in directory.iterdir()] == ["runs"]
            with Image.open(directory / "runs" / f"{name}.png") as picture:
                assert picture.format == "PNG"
                assert np.asarray(picture.convert("L")).std() > 10
            done[name] = result.stdout
        return done[name]

    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs_and_draws(name, output):
    assert output(name)


@pytest.mark.parametrize(("name", "baseline"), [
    ("two_moons", "one normal"), ("volumes", "a normal for each voxel"), ("signals", "linear regression")])
def test_learns_more_than_a_normal_distribution(name, baseline, output):
    assert printed(output(name), "flow") > printed(output(name), baseline)


def test_learned_density_is_no_better_than_the_truth(output):
    said = output("two_moons")
    assert printed(said, "flow") < printed(said, "truth")
    assert printed(said, "KL divergence") == pytest.approx(
        printed(said, "truth") - printed(said, "flow"), abs=0.0021)


def test_splines_beat_affine_couplings(output):
    said = output("splines")
    assert printed(said, "one normal") < printed(said, "affine") < printed(said, "spline") < printed(said, "truth")


@pytest.mark.parametrize(("name", "said"), [
    ("two_moons", "3 quantities of 1000 rows"), ("signals", "4 quantities of 100 rows"),
    pytest.param("simulation_based_inference", "3 quantities of 1000 rows", marks=needs_sbi)])
def test_says_whether_it_is_calibrated(name, said, output):
    (line,) = [line for line in output(name).splitlines() if line.startswith("calibration")]
    assert line.endswith(said)


@needs_sbi
def test_posterior_is_closer_than_the_prior(output):
    said = output("simulation_based_inference")
    posterior = [float(kl) for kl in re.findall(r"KL divergence (-?\d+\.\d+)", said)]
    prior = [float(kl) for kl in re.findall(r"prior's (-?\d+\.\d+)", said)]
    assert len(posterior) == len(prior) == 4
    assert all(0 <= kl < 0.5 * other for kl, other in zip(posterior, prior, strict=True))


def test_a_density_alone_gives_posterior_and_evidence(output):
    """Compare with the grid; of two modes the flow has one, and half of the evidence."""
    said = output("variational_inference")
    divergences, estimates, exact, effective = (
        [float(figure) for figure in re.findall(rf"{name} (-?\d+\.?\d*)", said)]
        for name in ("KL divergence", "log-evidence", "exactly", "effective samples"))
    assert len(divergences) == len(estimates) == len(exact) == len(effective) == 6
    assert all(0 < divergence < 0.3 for divergence in divergences[:3])
    assert estimates[:3] == pytest.approx(exact[:3], abs=0.06)
    assert divergences[5] == pytest.approx(0.693, abs=0.02)
    assert (estimates[5], exact[5]) == (pytest.approx(-0.693, abs=0.02), pytest.approx(0, abs=0.001))
    assert effective[5] > 97


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("arguments", [["--out", "picture.txt"], ["--learning-rate", "-1"]])
def test_mistakes_end_before_the_training(name, arguments, tmp_path):
    result = call(name, tmp_path, *arguments)
    assert result.status
    assert "Traceback" not in result.stderr
    assert arguments[0] in result.stderr
    assert not list(tmp_path.iterdir())


def test_each_fits_on_a_page():
    files = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in files] == sorted(NAMES)
    for path in files:
        lines = path.read_text().splitlines()
        assert len(lines) < 120, path
        assert lines[0].startswith('"""')
        assert f"python examples/{path.name}" in path.read_text()
