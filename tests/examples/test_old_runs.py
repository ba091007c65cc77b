"""A run that an earlier version began goes on as it would have gone on there."""

import shutil
from pathlib import Path

import pytest
from resuming import without_speed

import train

GOLDEN = Path(__file__).parent / "golden_runs" / "c_flow"
"""Directory of a run of two epochs, as the last version before the package ``streets`` left it.

It was begun there by ``train.py --model c_flow --width 2 --steps 1 --context-width 2 --image-size 4 8 --batch-size 4
--init-pairs 6 --generated 16 --validate-every 1 --device cpu --no-linear-decay --flip --ema 0.9 --clip-norm 1
--warmup-steps 2 --epochs 2``, and ``expected/metrics.csv`` is its ``metrics.csv`` after ``--resume --epochs 4`` there.
"""


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(GOLDEN, run)
    train.main(["--out", str(run), "--resume", "--epochs", "4"])
    found, expected = without_speed(run), without_speed(GOLDEN / "expected")
    assert found[:12] == expected[:12] == without_speed(GOLDEN)
    assert len(found) == len(expected) == 24
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours.pop("split") == theirs.pop("split")
        values = {name: float(value) for name, value in theirs.items() if value}
        # Other processors round differently; where they do not, the figures are the same to the last digit.
        assert {name: float(value) for name, value in ours.items() if value} == pytest.approx(values, rel=2e-4)
