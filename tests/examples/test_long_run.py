"""Runs as long as a user's: 2,000 steps without a figure that is not finite, and a model that still inverts."""

import math

import pytest
import torch
from torch.utils.data import default_collate

import train
from condflows.testing import invertibility_report
from streets.data.drawn import StreetScenes
from streets.runs.run import Run

OPTIONS = ["--model", "full_glow", "--steps", "1", "1", "--width", "16", "--context-width", "8", "--image-size", "16",
           "32", "--device", "cpu", "--batch-size", "4", "--generated", "80", "--epochs", "100",
           "--validate-every", "50"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_two_thousand_steps(precision, tmp_path):
    train.main([*OPTIONS, "--precision", precision, "--out", str(tmp_path / "run")])
    run = Run(tmp_path / "run", "last")
    rows = run.metrics()
    figures = {name: [float(row[name]) for row in rows if row["split"] == "step"]
               for name in ("loss", "bits_per_dim", "source_bits_per_dim", "gradient_norm")}
    for values in figures.values():
        assert len(values) == 2000
        assert all(map(math.isfinite, values))
    assert sum(figures["bits_per_dim"][-100:]) < sum(figures["bits_per_dim"][:100]) - 100

    held_out = StreetScenes("test", run.image_size, 16)
    x_a, x_b = run.pairs()(default_collate([held_out[i] for i in range(len(held_out))]))
    report = {place.name: place for place in invertibility_report(run.model, x_b, x_a)}
    assert report["source._transform"].error < 1e-3
    assert report["target._transform"].error < 1e-3
    with torch.no_grad():
        samples = run.model.sample(4, x_a)
    assert torch.isfinite(samples).all()
    assert samples.abs().max() < 10
