"""The benchmark that needs a GPU runs, at sizes of seconds, without one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_all_tables_of_the_gpu():
    command = [sys.executable, "tests/benchmarks/gpu.py", "--tiny", "--device", "cpu"]
    run = subprocess.run(command, cwd=ROOT, timeout=600,
                         capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-2000:]
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines() if line.startswith("|")]
    for model in ("Full-Glow", "condflows"):
        measured = [row[1:3] for row in rows if row[0] == model and len(row) == 7]
        assert measured == [
            [precision, form] for precision in ("float32", "TF32", "bf16") for form in ("eager", "compiled")]
    for name in ("normflows", "nflows", "FrEIA (Householder)"):
        assert sum(row[0] == name for row in rows if len(row) == 7) == 3
    assert [row[:2] for row in rows if row[0] in ("8x16", "16x32")] == [
        [size, precision] for size in ("8x16", "16x32") for precision in ("float32", "TF32", "bf16")]
    vectors = [row for row in rows if row[1:2] in (["eager"], ["compiled"])]
    assert [row[0] for row in vectors][:3] == ["condflows", "condflows", "nflows"]
    figures = [cell for row in rows if row[0] in ("Full-Glow", "condflows", "nflows") for cell in row[-4:-2]]
    assert len(figures) > 20
    assert all(float(figure) > 0 for figure in figures)
