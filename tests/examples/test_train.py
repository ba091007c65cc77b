"""The training script as a user calls it: a run from nothing, on real photos, interrupted, and misused."""

import json
import subprocess
import sys
import time
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import CAMVID, SCRIPTS, rows, write_pairs

import condflows
import train
from models import MODELS
from models.full_glow import full_glow
from streets.config import temperatures
from streets.config.kinds import WITHOUT_LIKELIHOOD
from streets.config.presets import PRESETS
from streets.data import datasets
from streets.data.pairs import Pairs, to_bytes
from streets.judging.bits import bits
from streets.runs import curves, directory, weights
from streets.runs.run import Run
from streets.training import opening
from streets.training.descent import learning_rate_factor
from streets.training.options import model_arguments

SMALL = ["--model", "full_glow", "--width", "8", "--batch-size", "4", "--init-pairs", "8", "--generated", "16",
         "--validate-every", "1"]
TINY = [*SMALL, "--image-size", "16", "32", "--steps", "1", "1", "--context-width", "4"]


def test_a_run_from_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    train.main([*TINY, "--epochs", "2", "--out", str(out)])
    config = json.loads((out / "config.json").read_text())
    assert config["image_size"] == [16, 32]
    assert config["source_weight"] == 1e-2
    assert config["versions"]["condflows"] == condflows.__version__
    assert len(rows(out, "step")) == 8
    assert len(rows(out, "train")) == len(rows(out, "val")) == 2
    assert all(np.isfinite(float(row["bits_per_dim"])) for split in ("step", "val") for row in rows(out, split))
    assert list(out.glob("events.*"))
    grid = np.array(Image.open(out / "samples" / "epoch_0002.png"))
    assert grid.shape == (2 * (6 * 16 + 2) - 2, 5 * (6 * 32 + 2) - 2, 3)
    assert np.array(Image.open(out / "curves.png")).std() > 0
    said = capsys.readouterr().out
    for expected in (str(out), "samples:", "curves:", "weights:", "bits per dimension"):
        assert expected in said
    model = weights.load_model(out)
    assert isinstance(model, condflows.PairedFlow)
    assert model.sample(1, torch.rand(1, 3, 16, 32)).shape == (1, 1, 3, 16, 32)


def test_the_same_seed_gives_the_same_run(tmp_path):
    for name in ("one", "two"):
        train.main([*TINY, "--epochs", "1", "--flip", "--out", str(tmp_path / name)])
    curves = [[row["loss"] for row in rows(tmp_path / name, "step")] for name in ("one", "two")]
    assert curves[0] == curves[1]
    train.main([*TINY, "--epochs", "1", "--seed", "1", "--out", str(tmp_path / "three")])
    assert [row["loss"] for row in rows(tmp_path / "three", "step")] != curves[0]


def test_compiled_and_bf16_runs_are_the_plain_one_but_for_rounding(tmp_path, monkeypatch):
    calls = []

    def compile_steps(flow, **options):
        calls.append(flow)
        return condflows.compile.compile_steps(flow, backend="aot_eager")

    monkeypatch.setattr(condflows, "compile_steps", compile_steps)
    curves = {}
    for name, options in {"plain": [], "compiled": ["--compile"], "bf16": ["--precision", "bf16"]}.items():
        train.main([*TINY, "--steps", "1", "--image-size", "8", "8", "--generated", "8", "--epochs", "2",
                    "--validate-every", "2", "--warmup-steps", "0", *options, "--out", str(tmp_path / name)])
        curves[name] = [float(row["bits_per_dim"]) for split in ("step", "val") for row in rows(tmp_path / name, split)]
    assert len(calls) == 1
    assert isinstance(calls[0], condflows.PairedFlow)
    assert curves["compiled"] == pytest.approx(curves["plain"], abs=1e-4)
    assert curves["bf16"] == pytest.approx(curves["plain"], abs=0.01)
    assert curves["bf16"] != curves["plain"]


def test_training_learns(tmp_path):
    """Train on one pair, over and over: the conditional likelihood rises; its figure is that of the loaded model."""
    out = tmp_path / "run"
    train.main([*TINY, "--epochs", "12", "--validate-every", "12", "--warmup-steps", "2", "--out", str(out)])
    first, last = (float(rows(out, "train")[i]["bits_per_dim"]) for i in (0, -1))
    assert last < first - 0.5
    dataset = datasets.open_dataset(None, "val", (16, 32), 2, 0)
    value = bits(Run(out, "last"), dataset, draws=1, batch_size=4, seed=0)["mean"]
    assert value == pytest.approx(float(rows(out, "val")[-1]["bits_per_dim"]), abs=1e-4)


def test_the_objective_is_the_papers(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(PRESETS["small"], "epochs", 1)
    original = curves.Logger.write

    def write(self, split, step, epoch, **values):
        seen.append((split, values))
        original(self, split, step, epoch, **values)

    monkeypatch.setattr(curves.Logger, "write", write)
    train.main([*TINY, "--source-weight", "0.5", "--out", str(tmp_path / "run")])
    values = next(values for split, values in seen if split == "step")
    # The loss is in nats per dimension; log p = -(bpd - 8) * D * ln 2.
    nats = [(values[name] - 8) * np.log(2) for name in ("source_bits_per_dim", "bits_per_dim")]
    assert values["loss"] == pytest.approx(0.5 * nats[0] + nats[1], abs=1e-4)


def test_real_photos(tmp_path):
    if not CAMVID.is_dir():
        pytest.skip("shared data (CamVid in the Cityscapes layout) is not there")
    out = tmp_path / "run"
    train.main(["--data", str(CAMVID), *TINY, "--batch-size", "32", "--epochs", "2", "--out", str(out)])
    values = [float(row["bits_per_dim"]) for row in rows(out, "val")]
    assert values[1] < values[0] < 8


def test_some_cities_and_some_pairs(tmp_path, capsys):
    root = write_pairs(tmp_path / "data", {"aachen": 3, "bonn": 4, "ulm": 2})
    write_pairs(root, {"lindau": 2}, split="val")
    out = tmp_path / "run"
    options = [*TINY, "--data", str(root), "--batch-size", "2", "--epochs", "1", "--out", str(out)]
    train.main([*options, "--cities", "ulm", "aachen", "--pairs", "4"])
    assert "4 training and 2 validation pairs" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert (config["cities"], config["pairs"]) == (["ulm", "aachen"], 4)
    assert config["data_statistics"]["training_pairs"] == 4
    with pytest.raises(SystemExit):
        train.main([*options, "--cities", "ulm", "--pairs", "4", "--resume"])
    assert "--cities" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train.main([*options, "--cities", "ulm", "--pairs", "4", "--overwrite"])
    assert "--pairs 4: there are only 2 training pairs" in capsys.readouterr().err


def test_pictures_at_a_temperature_for_each_level(tmp_path, capsys):
    out = tmp_path / "run"
    train.main([*TINY, "--epochs", "1", "--temperature", "1,0", "--out", str(out)])
    assert json.loads((out / "config.json").read_text())["temperature"] == [1, 0]
    train.main([*TINY, "--epochs", "2", "--out", str(out), "--resume"])
    assert len(list((out / "samples").glob("*.png"))) == 2
    with pytest.raises(SystemExit):
        train.main([*TINY, "--temperature", "1,0.5,1", "--out", str(tmp_path / "other")])
    assert "--temperature 1,0.5,1: full_glow has 2 levels" in capsys.readouterr().err


def test_labels_are_dropped_and_pictures_guided(tmp_path, monkeypatch):
    options = [*TINY, "--model", "encoded_glow", "--epochs", "1"]
    seen = Mock(wraps=Pairs.__call__)
    monkeypatch.setattr(Pairs, "__call__", lambda self, *given: seen(self, *given))
    train.main([*options, "--out", str(tmp_path / "run")])
    assert {call.args[4] for call in seen.call_args_list if len(call.args) > 4} == {0.1}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["label_dropout"], config["guidance"]) == (0.1, 1.0)
    train.main([*options, "--guidance", "0", "--out", str(tmp_path / "plain")])
    one, two = (next((tmp_path / name / "samples").glob("*.png")).read_bytes() for name in ("run", "plain"))
    assert one != two
    assert train.parse(["--direction", "photo2label"]).label_dropout == 0
    assert train.parse(["--model", "c_flow"]).label_dropout == 0


def test_presets_are_the_papers():
    paper = train.parse(["--preset", "paper-256"])
    assert paper.image_size == (256, 256)
    assert model_arguments(paper) == {}  # the builder's defaults are the paper's
    assert (paper.batch_size, paper.epochs, paper.learning_rate, paper.source_weight) == (1, 45, 1e-4, 1e-4)
    assert train.parse(["--model", "full_glow"]).source_weight == 1e-2  # of a rate that is 20 times the paper's
    high = train.parse(["--preset", "paper-512x1024", "--epochs", "3"])
    assert (high.image_size, high.steps, high.epochs) == ((512, 1024), (8,) * 4, 3)
    assert high.checkpoint_activations
    assert train.parse(["--image-size", "64", "128"]).image_size == (64, 128)
    pix2pix = train.parse(["--preset", "paper-256", "--model=pix2pix"])
    assert (pix2pix.learning_rate, pix2pix.source_weight, pix2pix.steps) == (2e-4, None, None)
    assert model_arguments(pix2pix) == {"depth": 8}
    assert train.parse(["--model", "pix2pix", "--learning-rate", "1e-3"]).learning_rate == 1e-3


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_preset_suits_every_model(name, preset):
    config = train.parse(["--model", name, "--preset", preset])
    model_arguments(config)
    temperatures.check_temperature(config.temperature, name)


def test_a_directory_in_use_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious.safetensors").write_text("mine")
    with pytest.raises(SystemExit):
        train.main([*TINY, "--out", str(tmp_path)])
    assert "is in use" in capsys.readouterr().err
    train.main([*TINY, "--epochs", "1", "--out", str(tmp_path), "--overwrite"])
    assert (tmp_path / "precious.safetensors").read_text() == "mine"


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_and_loads(name, tmp_path):
    """Take a few steps on the same pairs: what validation looks at falls, and the weights give it again."""
    out, tiny = tmp_path / "run", [*SMALL, "--image-size", "32", "64", "--epochs", "4", "--warmup-steps", "0"]
    steps = [] if name in WITHOUT_LIKELIHOOD else ["--steps", "1", "1"]
    train.main([*tiny, *steps, "--model", name, "--out", str(out)])
    figure = {"pix2pix": "l1", "flow_matching": "velocity_error"}.get(name, "bits_per_dim")
    values = [float(row[figure]) for row in rows(out, "val")]
    assert values[-1] < values[0]
    run = Run(out)
    assert run.has_likelihood == (figure == "bits_per_dim")
    assert run.has_temperature == (name != "pix2pix")
    item = datasets.open_dataset(None, "val", (32, 64), 2, 0)[0]
    context = run.pairs().context(torch.utils.data.default_collate([item]))
    assert run.model.sample(2, context, 1.0).shape == (1, 2, 3, 32, 64)
    assert np.array(Image.open(out / "curves.png")).std() > 0
    if name not in ("full_glow", "dual_glow", "c_flow"):
        assert {row["source_bits_per_dim"] for row in rows(out, "step")} == {""}


def test_boundaries_reach_full_glow(tmp_path):
    train.main([*TINY, "--epochs", "1", "--boundaries", "--flip", "--out", str(tmp_path / "run")])
    run = Run(tmp_path / "run")
    item = datasets.open_dataset(None, "val", (16, 32), 2, 0)[0]
    (x_a, side), x_b = run.pairs()(torch.utils.data.default_collate([item]))
    assert side.shape == (1, 1, 16, 32)
    assert set(side.unique().tolist()) == {0, 1}
    with_, without = run.model.log_prob(x_b, (x_a, side)), run.model.log_prob(x_b, (x_a, torch.zeros_like(side)))
    assert with_ != without


@pytest.mark.parametrize("model", ["full_glow", "c_glow_v1"])
def test_learned_noise_is_trained_with_the_model(model, tmp_path):
    options = [*TINY, "--model", model, "--warmup-steps", "0", "--ema", "0.5"]
    for name, epochs, kind in (("plain", "1", "uniform"), ("whole", "3", "variational"), ("parts", "2", "variational")):
        train.main([*options, "--epochs", epochs, "--no-linear-decay", "--dequantization", kind, "--out",
                    str(tmp_path / name)])
    plain, whole, parts = (tmp_path / name for name in ("plain", "whole", "parts"))
    # At the start the noise is uniform, so the first step is that of uniform noise but for rounding.
    first = [float(rows(out, "step")[0]["bits_per_dim"]) for out in (plain, whole)]
    assert first[0] == pytest.approx(first[1], abs=1e-4)
    train.main(["--out", str(parts), "--resume", "--epochs", "3"])
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    run = Run(whole)
    start = Run(whole).model
    assert any(not torch.equal(value, 0 * value) for name, value in run.model.state_dict().items()
               if name.startswith("dequantization.flow") and "conditioner.net.4" in name)
    scenes = datasets.open_dataset(None, "val", (16, 32), 4)
    values = bits(run, scenes, 3, 2, 0)
    assert values["mean"] < values["mean_of_one_draw"]
    del start.dequantization
    run.model = start
    assert bits(run, scenes, 3, 2, 0)["mean"] != values["mean"]


@pytest.mark.parametrize(("model", "option", "message"), [
    ("pix2pix", ["--dequantization", "variational"], "--dequantization variational: pix2pix has no likelihood"),
    ("pix2pix", ["--nets", "bfloat16"], "--nets bfloat16: pix2pix has no nets of condflows"),
    ("flow_matching", ["--dequantization", "variational"], "flow_matching has no likelihood"),
    ("flow_matching", ["--compile"], "--compile: flow_matching has no steps of a flow"),
    ("flow_matching", ["--source-weight", "1"], "--source-weight: flow_matching does not model"),
    ("flow_matching", ["--steps", "1", "1"], "--steps: flow_matching has no such option"),
    ("flow_matching", ["--temperature", "1,0.5,1"], "the noise of flow_matching has no levels"),
    ("flow_matching", ["--image-size", "33", "64"], "--image-size 33 64: flow_matching expects multiples of 2"),
])
def test_options_that_are_for_flows_alone(model, option, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main(["--model", model, "--generated", "8", "--init-pairs", "1", "--out", str(tmp_path / "run"), *option])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nets_in_bfloat16_are_those_of_the_run(tmp_path):
    options = [*TINY, "--epochs", "1", "--warmup-steps", "0"]
    for name in ("float32", "bfloat16"):
        train.main([*options, "--nets", name, "--out", str(tmp_path / name)])
    curves = [[float(row["bits_per_dim"]) for row in rows(tmp_path / name, "step")] for name in ("float32", "bfloat16")]
    assert curves[0] != curves[1]
    assert curves[0] == pytest.approx(curves[1], abs=0.02)
    low, plain = ({module.in_bfloat16 for module in Run(tmp_path / name).model.modules()
                   if hasattr(module, "in_bfloat16")} for name in ("bfloat16", "float32"))
    assert low == {True}
    assert plain == {False}


def test_photo2label_swaps_the_pair(tmp_path):
    train.main([*TINY, "--epochs", "1", "--direction", "photo2label", "--out", str(tmp_path / "run")])
    pairs = Run(tmp_path / "run").pairs()
    item = datasets.open_dataset(None, "val", (16, 32), 2, 0)[0]
    context, x_b = pairs(torch.utils.data.default_collate([item]))
    assert torch.equal((256 * context).to(torch.uint8), item["photo"][None])
    assert torch.equal(to_bytes(x_b), item["condition"][None])


def test_mirrored_pairs_stay_pairs():
    item = datasets.open_dataset(None, "train", (16, 32), 2, 0)[0]
    batch = torch.utils.data.default_collate([item | {"name": str(i)} for i in range(16)])
    pairs = Pairs(torch.device("cpu"), boundaries=True)
    (x_a, side), x_b = pairs(batch, flip=True)
    plain = Pairs(torch.device("cpu"), boundaries=True)(batch)
    mirrored = [i for i in range(16) if not torch.equal(side[i], plain[0][1][i])]
    assert 0 < len(mirrored) < 16
    for i in range(16):
        photo, label = (image.flip(-1) if i in mirrored else image for image in (item["photo"], item["condition"]))
        assert torch.equal(to_bytes(x_b[i]), photo)
        assert torch.equal(to_bytes(x_a[i]), label)


def broken_run(tmp_path, config=None, keep="model.safetensors"):
    """Make a run of which something is wrong."""
    path = tmp_path / "broken"
    whole = {"model": "glow", "model_arguments": {"steps": [1], "width": 4}, "image_size": [4, 4]}
    directory.create(path, whole | (config or {}))
    weights.save_weights(MODELS["glow"](steps=(1,), width=4), path / "model.safetensors")
    for file in path.glob("*.safetensors"):
        if file.name != keep:
            file.unlink()
    return path


def test_runs_that_cannot_be_loaded_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected a run of train\.py"):
        weights.load_model(tmp_path)
    with pytest.raises(ValueError, match="the model 'stylegan'"):
        weights.load_model(broken_run(tmp_path, {"model": "stylegan"}))
    with pytest.raises(ValueError, match="the model 'glow' with context_width"):
        weights.load_model(broken_run(tmp_path, {"model_arguments": {"context_width": 3}}))
    with pytest.raises(ValueError, match="found no weights: wait for"):
        weights.load_model(broken_run(tmp_path, keep=None))
    path = broken_run(tmp_path)
    (path / "metrics.csv").touch()  # else it is an exported model
    with pytest.raises(ValueError, match=r"best.safetensors, found model.safetensors"):
        Run(path, "best")
    with pytest.raises(ValueError, match=r"_transform\S+: expected \(\d+,.*\), got \(\d+,.*another model"):
        weights.load_model(broken_run(tmp_path, {"model_arguments": {"steps": [1], "width": 8}}))
    path = broken_run(tmp_path)
    (path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="fetch the file again"):
        weights.load_model(path)
    with pytest.raises(ValueError, match=r"image size 6x5: glow .* multiples of 2"):
        Run(broken_run(tmp_path), "last").check_size((6, 5))


def test_the_papers_width_and_levels():
    model = full_glow(steps=(1, 1, 1, 1))
    nets = [m for m in model.target.modules() if isinstance(m, condflows.conditioners.CouplingConditioner)]
    assert [net.net[0].in_channels for net in nets] == [6 + 12, 12 + 24, 24 + 48, 48 + 96]
    assert all(net.net[2].in_channels == 512 for net in nets)


def test_learning_rate():
    factor = learning_rate_factor(warmup=4, total=10, decay=True)
    values = [factor(step) for step in range(11)]
    assert values[0] == pytest.approx(0.2)
    assert max(values) == values[4] == 1
    assert values[7] == pytest.approx(0.5)
    assert values[10] == 0
    constant = learning_rate_factor(warmup=0, total=10, decay=False)
    assert [constant(step) for step in (0, 5, 9)] == [1, 1, 1]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main([*TINY, "--learning-rate", "1e30", "--warmup-steps", "0", "--epochs", "50",
                    "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "the loss is" in capsys.readouterr().err


MISTAKES = {
    "no such folder": (["--data", "nowhere"], "nowhere"),
    "no such device": (["--device", "abacus"], "--device abacus"),
    "size that the levels do not divide": (["--image-size", "16", "30"], "multiples of 4"),
    "no epochs": (["--epochs", "0"], "--epochs"),
    "no clipping by 0": (["--clip-norm", "0"], "positive number"),
    "a temperature below 0": (["--temperature", "-1"], "--temperature -1"),
    "no batch": (["--batch-size", "0"], "--batch-size"),
    "no generated scenes": (["--generated", "0"], "--generated 0: at least 1"),
    "boundaries for a model that cannot read them": (["--boundaries", "--model", "c_flow"], "--boundaries: c_flow"),
    "boundaries of what is to be predicted": (["--boundaries", "--direction", "photo2label"], "leave it out"),
    "steps of pix2pix": (["--model", "pix2pix"], "--steps: pix2pix"),
    "a weight of a source that is not there": (["--model", "c_glow_v1", "--source-weight", "1"], "--source-weight"),
    "labels that a model is not given": (["--label-dropout", "0.1"], "of full_glow is not given labels"),
    "all labels dropped": (["--model", "encoded_glow", "--label-dropout", "1"], "from 0 to below 1"),
    "guidance by nothing": (["--guidance", "1"], "without --label-dropout"),
    "infinite guidance": (["--model", "encoded_glow", "--guidance", "inf"], "--guidance inf"),
    "a moving average of nothing": (["--ema", "1"], "--ema 1.0"),
    "a batch of uneven parts": (["--accumulate", "3"], "multiple of 3"),
    "a batch larger than the data": (["--batch-size", "32"], "only 16 training pairs"),
    "nothing to go on with": (["--resume", "--overwrite"], "leave out --overwrite"),
    "precision of nets that pix2pix has not": (["--model", "pix2pix", "--steps", "None", "--context-width", "None",
                                                "--image-size", "32", "32", "--precision", "bf16"], "--precision"),
    "no weight of a source": (["--source-weight", "None"], "needs a weight"),
}


def test_a_size_that_pix2pix_cannot_halve(capsys):
    with pytest.raises(SystemExit):
        train.main([*SMALL, "--model", "pix2pix", "--image-size", "48", "48"])
    assert "multiples of 32" in capsys.readouterr().err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_status_2(mistake, tmp_path, capsys):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stop:
        train.main([*TINY, *arguments, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_unasked(tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text("mine")
    with pytest.raises(SystemExit):
        train.main([*TINY, "--epochs", "1", "--out", str(out)])
    assert "is in use" in capsys.readouterr().err
    assert (out / "config.json").read_text() == "mine"
    train.main([*TINY, "--epochs", "1", "--out", str(out), "--overwrite"])
    assert (out / "model.safetensors").exists()


def test_help_is_quick_and_complete():
    started = time.perf_counter()
    result = subprocess.run([sys.executable, SCRIPTS / "train.py", "--help"], capture_output=True, text=True,
                            check=True)
    assert time.perf_counter() - started < 5
    for option in ("--data", "--image-size", "--preset", "--source-weight", "paper-256"):
        assert option in result.stdout


def test_statistics_are_those_of_all_values():
    images = torch.randint(0, 256, (5, 3, 7, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[:, 2] = 17
    found = opening.channel_statistics(images)
    values = images.double().transpose(0, 1).flatten(1) / 255
    assert found["mean"] == pytest.approx(values.mean(1).tolist(), abs=1e-14)
    assert found["deviation"] == pytest.approx(values.std(1, correction=0).tolist(), abs=1e-8)
