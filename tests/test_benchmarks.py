"""Benchmarks run at sizes of seconds: the one that needs a GPU without one, those of photos on small or drawn ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import train

ROOT = Path(__file__).parents[1]


def table(*command):
    """Run a script, and return the cells of the tables that it prints."""
    run = subprocess.run([sys.executable, *command], cwd=ROOT, timeout=600,
                         capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr[-2000:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in run.stdout.splitlines()
            if line.startswith("|")]


def test_all_tables_of_the_gpu():
    rows = table("tests/benchmarks/gpu.py", "--tiny", "--device", "cpu")
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


def test_gains_on_photos(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        folder = tmp_path / "leftImg8bit" / split / "street"
        folder.mkdir(parents=True)
        for i in range(2):
            photo = generator.integers(256, size=(32, 48, 3), dtype=np.uint8)
            Image.fromarray(photo).save(folder / f"street_000000_{i:06d}_leftImg8bit.png")
    rows = table("tests/benchmarks/gains.py", "--data", str(tmp_path), "--seconds", "0.2", "--seeds", "2")
    assert [row[0] for row in rows[2:]] == ["one normal", "affine", "spline", "mixture"]
    assert all(-200 < float(row[4]) < -50 for row in rows[2:])  # independent, uniform on 256 levels: -88.7
    assert all(int(row[3].replace(",", "")) > 0 for row in rows[3:])


def test_ablations_on_drawn_scenes():
    rows = table("tests/benchmarks/ablations.py", "--seconds", "0.05", "--steps", "1", "1", "1", "--widest", "8")
    assert len(rows) > 14
    assert all(4 < float(row[place].split()[0]) < 12 for row in rows[2:] for place in (3, 5))
    assert [row[4] == "" for row in rows[2:]] == [True] + [False] * (len(rows) - 3)


def test_gated_nets_on_drawn_scenes():
    rows = table("tests/benchmarks/gated.py", "--steps", "2", "--seeds", "1")
    assert [row[0].split(",")[0] for row in rows[2:]] == [
        "CouplingConditioner", "GatedConditioner", "CouplingConditioner", "GatedConditioner"]
    assert all(4 < float(cell) < 12 for row in rows[2:] for cell in row[4:])


def test_dequantization_and_bfloat16_of_a_run(tmp_path):
    run = tmp_path / "run"
    train.main(["--model", "glow", "--generated", "8", "--epochs", "1", "--image-size", "16", "32", "--steps", "1", "1",
                "--width", "8", "--batch-size", "4", "--out", str(run)])
    rows = table("tests/benchmarks/dequantization.py", str(run), "--epochs", "1", "--draws", "2", "--seeds", "1")
    assert [row[1:3] for row in rows[2:]] == [
        [noise, split] for noise in ("uniform", "variational") for split in ("val", "test")]
    assert all(float(row[4]) <= float(row[3]) for row in rows[2:])
    rows = table("tests/benchmarks/bfloat16.py", "--run", str(run), "--photos", "2")
    assert len(rows) == 2 + 7
    assert float(rows[2][1]) < 1e-4
    assert all(float(row[1]) < 0.02 for row in rows[3:])


def test_times_of_a_net_in_bfloat16():
    rows = table("tests/benchmarks/bfloat16.py", "--widths", "8", "16", "--rounds", "1")
    assert [row[0] for row in rows[2:]] == ["8", "16"]
    assert all(float(row[3]) > 0 for row in rows[2:])
