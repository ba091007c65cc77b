"""Gaussian noise on the images of a training, and its removal from samples, in whatever uses a run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from resuming import OPTIONS, assert_same, resume, stopped_early
from run_helpers import make_run

import evaluate
import sample
import train
import transfer
from condflows import denoise
from streets.data.datasets import open_dataset
from streets.runs.pretrained import Pretrained
from streets.runs.run import Run
from streets.training import validation

NOISE = 0.1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "noisy", "encoded_glow", noise=NOISE)


@pytest.fixture(scope="module")
def batch():
    scenes = open_dataset(None, "val", (16, 32), 4)
    return torch.utils.data.default_collate([scenes[i] for i in range(2)])


def test_noise_is_added_to_the_modelled_image_alone(run, batch):
    noisy, plain = Run(run).pairs(seed=1), Run(run).pairs(seed=1)
    plain.sigma = 0.0
    difference = noisy.modelled(batch) - plain.modelled(batch)
    assert difference.std() == pytest.approx(NOISE, rel=0.1)
    assert abs(difference.mean()) < NOISE / 10
    assert torch.equal(noisy.context(batch), plain.context(batch))
    assert torch.equal(noisy.modelled(batch), noisy.modelled(batch))
    assert not torch.equal(noisy.modelled(batch), noisy.modelled(batch, draw=1))
    one = {key: value[1:] for key, value in batch.items()}
    assert torch.equal(noisy.modelled(one), noisy.modelled(batch)[1:])  # not of the batch


def test_samples_are_denoised(run, batch):
    opened = Run(run)
    context = opened.pairs().context(batch)
    seeds = [torch.Generator().manual_seed(5) for _ in range(3)]
    noisy = opened.model.sample(3, context, 0.9, seeds[0])
    clean = opened.sample(3, context, 0.9, seeds[1])
    for i in range(3):
        torch.testing.assert_close(clean[:, i], denoise(opened.model, noisy[:, i], NOISE, context))
    assert (clean - noisy).abs().max() > 1e-3
    exported = Pretrained.from_run(run)
    torch.testing.assert_close(exported.sample(3, context, 0.9, seeds[2]), clean)


def test_an_exported_model_keeps_its_noise(run, tmp_path):
    Pretrained.from_run(run).save_pretrained(tmp_path / "exported")
    assert Run(tmp_path / "exported").noise == NOISE
    assert "Gaussian noise of deviation 0.1" in (tmp_path / "exported" / "README.md").read_text()


def test_an_evaluation_says_so(run, tmp_path):
    plain = make_run(tmp_path / "plain", "full_glow")
    evaluate.main([str(run), str(plain), "--data", "generated", "--generated", "4", "--repeats", "2", "--out",
                   str(tmp_path / "out")])
    text = (tmp_path / "out" / "results.md").read_text()
    of_noisy, of_plain = (next(line for line in text.splitlines() if line.startswith(f"| {name}"))
                          for name in ("encoded_glow", "full_glow"))
    assert ", with noise 0.1 |" in of_noisy
    assert "with noise" not in of_plain
    assert "Those of noisy images cannot be compared with others." in text
    results = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [results[name]["noise"] for name in ("encoded_glow", "full_glow")] == [NOISE, 0.0]


def test_pictures_and_transfers_are_denoised(run, tmp_path):
    plain = make_run(tmp_path / "plain", "encoded_glow")
    found = {}
    for path in (run, plain):
        sample.main([str(path), "--data", "generated", "--scenes", "1", "--samples", "1", "--temperature", "0.9",
                     "--out", str(tmp_path / path.name / "samples")])
        transfer.main([str(path), "--data", "generated", "--content", "0", "--structure", "1",
                       "--out", str(tmp_path / path.name / "transfer")])
        found[path] = [np.array(Image.open(tmp_path / path.name / kind / "grid.png"), int)
                       for kind in ("samples", "transfer")]
    for of_noisy, of_plain in zip(*found.values(), strict=True):
        assert of_noisy.shape == of_plain.shape
        assert (of_noisy != of_plain).any()  # the weights are the same


def test_a_training_with_noise_goes_on_as_it_was(tmp_path):
    whole = tmp_path / "whole"
    train.main([*OPTIONS, "--noise", "0.05", "--out", str(whole)])
    out = stopped_early(tmp_path / "run", 9, "--noise", "0.05")
    resume(out, [*OPTIONS, "--noise", "0.05"])
    assert_same(out, whole)
    assert Run(whole).noise == 0.05


def test_the_pictures_of_validations_are_denoised(run, batch, monkeypatch, tmp_path):
    noises = []
    drawn = validation.sample
    monkeypatch.setattr(validation, "sample", lambda *given: noises.append(given[-1]) or drawn(*given))
    train.main([*OPTIONS, "--noise", "0.05", "--epochs", "1", "--validate-every", "1", "--out", str(tmp_path / "run")])
    assert set(noises) == {0.05}


def test_the_small_preset_clips_shorter_gradients_of_noisy_images():
    for arguments, clip in (([], 50.0), (["--noise", "0"], 50.0), (["--noise", "0.00"], 50.0),
                            (["--noise", "0.03"], 5.0),
                            (["--noise", "0.03", "--clip-norm", "7"], 7.0),
                            (["--noise", "0.03", "--preset", "paper-256"], None)):
        assert train.parse([*arguments, "--out", "run"]).clip_norm == clip
