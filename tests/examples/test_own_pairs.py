"""Pairs of one's own, of four kinds, from the first step of a training to the figures of an evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import CAMVID, line_of_mistake, make_run, write, write_pairs

import evaluate
import inspect_data
import sample
import train
import train_classifier
import transfer
from condflows import bits_per_dim
from streets.config.data import DataOptions
from streets.data import datasets, pictures
from streets.runs.pretrained import Pretrained
from streets.runs.run import Run
from streets.runs.weights import load_model
from streets.using.inspection import sheet_size

TINY = ["--image-size", "8", "16", "--steps", "1", "1", "--width", "4", "--batch-size", "4", "--epochs", "1",
        "--init-pairs", "4", "--device", "cpu", "--temperature", "1"]


def photos(count):
    """Read some of CamVid's photos."""
    if not CAMVID.is_dir():
        pytest.skip("shared data (CamVid in the Cityscapes layout) is not there")
    files = sorted((CAMVID / "leftImg8bit" / "train").rglob("*.png"))[::40][:count]
    return [np.array(Image.open(file)) for file in files]


def grey_to_colour(root):
    """Write folders of grey PNG and of JPEG in colours, without splits."""
    for i, photo in enumerate(photos(9)):
        write(root / "A" / f"{i}.png", np.array(Image.fromarray(photo).convert("L")))
        write(root / "B" / f"{i}.jpg", photo)
    return ["--data", root], 1, 3, 8


def low_to_high(root):
    """Write a table of photos, and of photos of a quarter of their size."""
    rows = []
    for i, photo in enumerate(photos(9)):
        write(root / "small" / f"{i}.webp", np.array(Image.fromarray(photo).resize((32, 16))))
        write(root / "large" / f"{i}.png", photo)
        rows.append(f"small/{i}.webp,large/{i}.png,{'val' if i % 4 == 3 else 'train'}")
    (root / "pairs.csv").write_text("low,high,split\n" + "\n".join(rows))
    return ["--data", root / "pairs.csv"], 3, 3, 8


def side_by_side(root):
    """Write outlines and discs side by side, in train and val."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :32]
    for i in range(9):
        near = np.hypot(y - rng.integers(4, 12), x - rng.integers(6, 26)) - 4
        disc = np.where(near[..., None] < 0, rng.integers(0, 256, 3), 255).astype(np.uint8)
        outline = np.repeat((255 * (abs(near) > 1))[..., None], 3, 2).astype(np.uint8)
        write(root / ("val" if i % 4 == 3 else "train") / f"{i}.png", np.hstack([disc, outline]))
    return ["--data", root, "--side", "right"], 3, 3, 8


def sensors(root):
    """Write arrays of two channels of 8 bits, and grey PNG of 16 bits that is their sum."""
    rng = np.random.default_rng(0)
    for i in range(9):
        both = rng.integers(0, 256, (16, 32, 2), np.uint8)
        write(root / "train" / "A" / f"{i}.npy", both)
        write(root / "train" / "B" / f"{i}.png", (100 * both.sum(2)).astype(np.uint16))
    return ["--data", root], 2, 1, 16


OF_PIX2PIX = ["--image-size", "32", "32", "--width", "4", "--batch-size", "4", "--epochs", "1", "--device", "cpu"]
KINDS = {
    "grey to colour": (grey_to_colour, "encoded_glow", TINY),
    "low to high": (low_to_high, "c_flow", [*TINY, "--no-flip"]),
    "side by side": (side_by_side, "pix2pix", OF_PIX2PIX),
    "sensors": (sensors, "full_glow", [*TINY, "--crop", "0.8"]),
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """Train a tiny model of a kind of pairs: directory of the run, channels of A and B, bits of B."""
    make, model, options = KINDS[request.param]
    place = tmp_path_factory.mktemp("pairs")
    data, *pixels = make(place / "data")
    train.main([*map(str, [*options, "--model", model, *data, "--out", place / "run"])])
    return place / "run", *pixels


def test_a_run_knows_its_images(trained):
    run, given, modelled, bits = trained
    config = json.loads((run / "config.json").read_text())
    assert config["direction"] == "label2photo"
    assert config["pixels"] == {"condition": {"channels": given, "bits": 8},
                                "photo": {"channels": modelled, "bits": bits}}
    assert not config["has_label_maps"]
    assert len(config["data_statistics"]["photo"]["mean"]) == modelled
    assert 0 < min(config["data_statistics"]["photo"]["mean"]) <= max(config["data_statistics"]["photo"]["mean"]) < 1
    assert list((run / "samples").glob("*.png"))


def test_samples_of_the_data_of_the_training_and_of_files(trained, tmp_path):
    run, _, modelled, bits = trained
    sample.main([str(run), "--out", str(tmp_path / "all"), "--samples", "2"])
    made = [path for path in (tmp_path / "all").iterdir() if "_sample_" in path.name]
    assert len(made) >= 2
    kind = Run(run)
    for path in made:
        values = pictures.values(path)
        assert values.shape == (*kind.image_size, modelled)
        assert values.dtype == (np.uint8 if bits == 8 else np.uint16)
    name = made[0].name.partition("_sample_")[0]
    # The given image alone, from a file and from a folder of files: the same samples.
    (condition,) = (tmp_path / "all").glob(f"{name}_condition.*")
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / f"{name}{condition.suffix}").write_bytes(condition.read_bytes())
    for i, given_files in enumerate((folder, next(folder.iterdir()))):
        out = tmp_path / f"files_{i}"
        sample.main([str(run), "--given", str(given_files), "--out", str(out), "--samples", "2"])
        for path in out.glob("*_sample_*"):
            assert path.read_bytes() == (tmp_path / "all" / path.name).read_bytes()


def test_synthetic_pairs_are_a_data_set_of_folders_a_and_b(trained, tmp_path):
    run = trained[0]
    call = [str(run), "--augment", str(tmp_path / "set"), "--samples", "3"]
    sample.main(call)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*.*")}
    sample.main(call)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*.*")} == before
    size, pixels = Run(run).image_size, Run(run).pixels
    made = datasets.open_dataset(tmp_path / "set", "val", size)
    assert made.pixels == pixels
    config = json.loads((run / "config.json").read_text())
    options = Run(run).options(datasets.DataOptions(), config["data"])
    of_training = datasets.open_dataset(config["data"], "val", size, options=options)
    assert len(made) == 3 * len(of_training)
    for i in range(len(made)):
        assert torch.equal(made[i]["condition"], of_training[i // 3]["condition"])


@pytest.mark.parametrize(("make", "files"), [(grey_to_colour, "A: 64x128 9"), (low_to_high, "A: 16x32 7"),
                                             (side_by_side, "A beside B: 16x64 7"), (sensors, "B: 16x32 9")])
def test_an_inspection_says_what_there_is(tmp_path, capsys, make, files):
    options, *channels, _ = make(tmp_path)
    options = [str(option) for option in options]
    data = options[1:2] + options[2:]
    inspect_data.main([*data, "--out", str(tmp_path / "sheet.png"), "--height", "16"])
    said = capsys.readouterr().out
    assert f"    {files}\n" in said
    assert f"A and B: {channels[0]} channel" in said
    assert "all of these can be read" in said
    assert np.array(Image.open(tmp_path / "sheet.png")).shape[2] == 3


def test_a_sheet_of_halves_has_their_proportions(tmp_path):
    side_by_side(tmp_path)
    dataset = datasets.open_dataset(tmp_path, "train", (8, 8), options=DataOptions(side="left"))
    assert sheet_size(dataset, 128) == (128, 256)
    for path in (tmp_path / "train").iterdir():
        path.write_bytes(b"")
    assert sheet_size(dataset, 128) == (128, 128)


def test_an_inspection_of_a_function(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("import numpy\n\n\ndef pairs(split):\n    image = numpy.zeros((8, 16), numpy.uint8)\n"
                               "    return [(image, image)] * 3 if split == 'train' else None\n")
    inspect_data.main(["--dataset", "mine:pairs", "--out", "sheet.png"])
    assert "train: 3 pairs, 3 of them read" in capsys.readouterr().out
    assert "there is nothing to look at" in line_of_mistake(inspect_data.main, capsys, "--out", "other.png")


def test_an_evaluation_measures_bits_of_the_right_number(trained, tmp_path):
    run, *_, bits = trained
    evaluate.main([str(run), "--out", str(tmp_path / "out"), "--repeats", "2"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (figures,) = results["runs"].values()
    assert figures["scores"][0]["distance"] > 0
    assert (tmp_path / "out" / "samples.png").exists()
    if Run(run).has_likelihood:
        # A model that does not know the data needs about all of their bits; a second way to the same number.
        kind = Run(run)
        options = kind.options(datasets.DataOptions(), kind.data(None))
        dataset = datasets.open_dataset(kind.data(None), "val", kind.image_size, options=options)
        pairs, values = kind.pairs(0), []
        for i in range(len(dataset)):
            batch = torch.utils.data.default_collate([dataset[i]])
            x_b = pairs.modelled(batch)
            assert ((2**bits * x_b).floor() == batch["photo"]).all()
            log_prob = load_model(run, kind.weights.name).log_prob(x_b, pairs.context(batch))
            values.append(bits - float(log_prob) / (np.log(2) * x_b[0].numel()))
        assert figures["bits_per_dim"]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
        assert bits - 4 < np.mean(values) < bits + 2
        assert float(bits_per_dim(torch.zeros(1), (1,), bits)) == bits


def test_content_is_transferred(trained, tmp_path, capsys):
    run = trained[0]
    out = tmp_path / "out"
    if not Run(run).has_likelihood:
        assert "cannot turn a photo into noise" in line_of_mistake(
            transfer.main, capsys, run, "--content", "0", "--structure", "0", "--out", out)
        return
    transfer.main([str(run), "--content", "0", "--structure", "1", "--out", str(out), "--split", "train"])
    (content,) = out.glob("*_content.*")
    (structure,) = out.glob("*_structure.*")
    made = {path.name: path.read_bytes() for path in out.iterdir() if "_on_" in path.name}
    transfer.main([*map(str, [run, "--content-photo", content, "--content-label", structure, "--structure-label",
                              structure, "--out", tmp_path / "files"])])
    assert len(made) == 1
    assert len(list((tmp_path / "files").glob("*_on_*"))) == 1


# One kind is enough


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Train colour given grey, of noise: directory of the run and of the data."""
    place, rng = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for i in range(8):
        for split in ("train", "val"):
            write(place / "data" / "A" / split / f"{i}.png", rng.integers(0, 256, (8, 16), np.uint8))
            write(place / "data" / "B" / split / f"{i}.png", rng.integers(0, 256, (8, 16, 3), np.uint8))
    train.main([*TINY, "--model", "c_glow_v2", "--data", str(place / "data"), "--out", str(place / "run")])
    return place / "run", place / "data"


def test_the_other_direction(grey, tmp_path):
    _, data = grey
    run = tmp_path / "run"
    train.main([*TINY, "--data", str(data), "--direction", "B2A", "--dequantization", "variational", "--out", str(run)])
    config = json.loads((run / "config.json").read_text())
    assert config["direction"] == "photo2label"
    assert config["model_arguments"]["channels"] == 1
    assert config["model_arguments"]["condition_channels"] == 3
    given = data / "B" / "val" / "3.png"
    sample.main([str(run), "--given", str(given), "--out", str(tmp_path / "out"), "--samples", "1"])
    assert pictures.values(tmp_path / "out" / "3_sample_0.png").shape == (8, 16, 1)
    evaluate.main([str(run), "--out", str(tmp_path / "judged"), "--repeats", "1"])
    assert json.loads((tmp_path / "judged" / "results.json").read_text())["settings"]["judge"] is None
    sample.main([str(run), "--augment", str(tmp_path / "set"), "--samples", "1"])
    assert datasets.open_dataset(tmp_path / "set", "val", (8, 16)).pixels == Run(run).pixels


def test_mistakes_with_a_model_of_images(grey, tmp_path, capsys):
    run, data = grey
    out, street = tmp_path / "out", write_pairs(tmp_path / "street", {"ulm": 4})
    colour, grey_file = data / "B" / "val" / "0.png", data / "A" / "val" / "0.png"
    for said, script, *arguments in (
        ("is a model of pairs of images: give it --given", sample, "--label-maps", grey_file, "--out", out),
        ("expected 1 channel of 8 bits", sample, "--given", colour, "--out", out),
        ("--given are the scenes: leave out --data", sample, "--given", grey_file, "--data", data, "--out", out),
        ("was trained on pairs of 1 channel of 8 bits and 3 channels of 8 bits, got 3 channels", sample, "--data",
         street, "--split", "train", "--out", out),
        ("have no label maps to compare with", evaluate, "--judge", "pspnet", "--judge-weights", make_judge(tmp_path)),
    ):
        assert said in line_of_mistake(script.main, capsys, run, *arguments)
        assert not out.exists()
    assert "a classifier learns from label maps" in line_of_mistake(
        train_classifier.main, capsys, "--data", data, "--out", out)
    for option, said in (("--boundaries", "edges of label maps, which these data do not have"),
                         ("--label-dropout 0.1", "data with label maps")):
        model = "full_glow" if option == "--boundaries" else "encoded_glow"
        assert said in line_of_mistake(train.main, capsys, *TINY, "--model", model, "--data", data, "--out", out,
                                       *option.split())
    labelled = make_run(tmp_path / "labelled", "encoded_glow", image_size=[8, 16])
    write_rgb(tmp_path / "rgb")
    assert "reads label maps, which these data do not have" in line_of_mistake(
        sample.main, capsys, labelled, "--data", tmp_path / "rgb", "--out", out)


def write_rgb(root):
    rng = np.random.default_rng(0)
    for side in "AB":
        for i in range(4):
            write(root / side / f"{i}.png", rng.integers(0, 256, (8, 16, 3), np.uint8))


def make_judge(place):
    """Train a judge that is good for nothing."""
    train_classifier.main(["--image-size", "16", "32", "--generated", "8", "--batch-size", "4", "--width", "4",
                           "--layers", "1", "1", "1", "1", "--epochs", "1", "--device", "cpu", "--out",
                           str(place / "judge")])
    return place / "judge"


def test_validation_of_another_kind_is_refused(grey, tmp_path, capsys):
    _, data = grey
    for split in ("train", "val"):
        for i in range(4):
            for side in "AB":
                image = pictures.values(data / side / split / f"{i}.png")
                image = image[..., 0] if split == "val" else image.squeeze()
                write(tmp_path / "data" / side / split / f"{i}.png", image)
    said = line_of_mistake(train.main, capsys, *TINY, "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert "the pairs of train are of 1 channel of 8 bits and 3 channels of 8 bits, and those of val of" in said


def test_a_function_is_run_only_when_an_option_names_it(tmp_path, monkeypatch, capsys):
    """Refuse to run code because a file says so: the configuration of a run may be that of someone else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise_pairs.py").write_text(
        "import numpy as np\n\ndef split(name):\n    rng = np.random.default_rng(len(name))\n"
        "    open('was_run', 'a').write(name)\n"
        "    return [tuple(rng.integers(0, 256, (2, 8, 16), np.uint8)) for _ in range(6)]\n")
    options = [*TINY, "--dataset", "noise_pairs:split", "--out", "run", "--resume"]
    train.main(options)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["dataset"] == "noise_pairs:split"
    (tmp_path / "was_run").unlink()
    for script, *more in ((sample, "--out", "out"), (evaluate,),
                          (transfer, "--content", "0", "--structure", "1", "--out", "out")):
        said = line_of_mistake(script.main, capsys, "run", *more)
        assert "was trained on --dataset noise_pairs:split: give it again" in said
    assert "give it again" in line_of_mistake(train.main, capsys, "--out", "run", "--resume")
    assert not (tmp_path / "was_run").exists()
    train.main([*options, "--epochs", "2"])
    sample.main(["run", "--dataset", "noise_pairs:split", "--out", "out", "--samples", "1"])
    assert pictures.values(next((tmp_path / "out").glob("*_sample_0.png"))).shape == (8, 16, 1)
    evaluate.main(["run", "--dataset", "noise_pairs:split", "--out", "judged", "--repeats", "1"])
    assert json.loads((tmp_path / "judged" / "results.json").read_text())["settings"]["data"] == "noise_pairs:split"


def test_files_that_are_left_out_are_said(grey, tmp_path, capsys):
    _, data = grey
    write(tmp_path / "extra" / "A" / "only.png", np.zeros((8, 16), np.uint8))
    for side in "AB":
        for path in (data / side / "train").iterdir():
            write(tmp_path / "extra" / side / path.name, pictures.values(path).squeeze())
    options = [*TINY, "--data", str(tmp_path / "extra"), "--out", str(tmp_path / "run")]
    assert "--skip-unpaired" in line_of_mistake(train.main, capsys, *options)
    train.main([*options, "--skip-unpaired"])
    said = capsys.readouterr().out
    assert "left out, without a partner: 1, first" in said
    assert "no split val: 1 of 8 training pairs, evenly spread, are held out" in said
    sample.main([str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--samples", "1"])
    assert "left out, without a partner: 1, first" in capsys.readouterr().out


def test_costs_are_those_of_the_images(grey, capsys):
    _, data = grey
    costs = []
    for more in ([], ["--data", str(data)]):
        train.main([*TINY, "--model", "c_flow", "--dry-run", *more])
        costs.append(float(capsys.readouterr().out.partition("c_flow: ")[2].partition(" million")[0]))
    assert costs[1] < costs[0]
    assert "got nothing: check the path" in line_of_mistake(train.main, capsys, "--dry-run", "--data", "nowhere")


def test_runs_of_two_sides_are_evaluated_apart(tmp_path, capsys):
    data, _, _, _ = side_by_side(tmp_path / "data")
    runs = [tmp_path / side for side in ("left", "right")]
    for run in runs:
        train.main([*TINY, "--model", "c_flow", *map(str, data[:2]), "--side", run.name, "--out", str(run)])
    said = line_of_mistake(evaluate.main, capsys, *runs)
    assert f"{runs[1]} was trained with --side right and {runs[0]} with --side left" in said
    options = [str(runs[0]), "--repeats", "1", "--out", str(tmp_path / "out")]
    evaluate.main(options)
    said = line_of_mistake(evaluate.main, capsys, *options, "--keep", "--side", "right")
    assert "side" in said
    evaluate.main([*options, "--keep"])
    two = tmp_path / "two"
    write_rgb(two)  # folders A and B, in which there are no sides
    options = ["--data", str(two), "--split", "train", "--repeats", "1", "--out", str(two / "out")]
    evaluate.main([*map(str, runs), *options])
    Pretrained.from_run(runs[0]).save_pretrained(tmp_path / "exported")
    both = [str(runs[0]), str(tmp_path / "exported"), "--data", str(data[1]), "--repeats", "1"]
    assert "choose with --side" in line_of_mistake(evaluate.main, capsys, *both)
    evaluate.main([*both, "--side", "left", "--out", str(tmp_path / "both")])


def test_an_exported_model_does_not_know_where_its_data_are(grey, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grey_pairs.py").write_text(
        "import numpy as np\n\ndef split(name):\n"
        "    return [tuple(np.zeros((2, 8, 16), np.uint8)) for _ in range(6)]\n")
    train.main([*TINY, "--dataset", "grey_pairs:split", "--out", "own"])
    for number, run in enumerate((Path("own"), grey[0])):
        exported = tmp_path / f"exported_{number}"
        Pretrained.from_run(run).save_pretrained(exported)
        Pretrained.from_pretrained(exported).save_pretrained(tmp_path / f"again_{number}")
        for model in (exported, tmp_path / f"again_{number}"):
            for script, *more in ((sample, "--out", "out"), (evaluate,),
                                  (transfer, "--content", "0", "--structure", "1", "--out", "out")):
                said = line_of_mistake(script.main, capsys, model, *more)
                assert "is an exported model, which does not say where its data are" in said


def test_options_of_data_are_not_for_single_files(grey, tmp_path, capsys):
    run, data = grey
    file = data / "A" / "val" / "0.png"
    for option in (["--side", "left"], ["--skip-unpaired"], ["--label-values", "ids"]):
        said = line_of_mistake(sample.main, capsys, run, "--given", file, *option, "--out", tmp_path / "out")
        assert f"{option[0]} is for data of many files" in said
        said = line_of_mistake(transfer.main, capsys, run, "--content-photo", data / "B" / "val" / "0.png",
                               "--content-label", file, "--structure-label", file, *option, "--out", tmp_path / "out")
        assert f"{option[0]} is for data of many files" in said


def test_files_of_a_folder_are_named_as_in_a_data_set(grey, tmp_path):
    run, data = grey
    for i in range(2):
        for side in "AB":
            image = pictures.values(data / side / "val" / f"{i}.png").squeeze()
            write(tmp_path / "data" / side / f"street_{i}" / "0.png", image)
    of_data, of_files = ["--data", tmp_path / "data", "--split", "train"], ["--given", tmp_path / "data" / "A"]
    for name, options in (("of_data", of_data), ("of_files", of_files)):
        sample.main([str(run), *map(str, options), "--samples", "1", "--out", str(tmp_path / name)])
    for i in range(2):
        first, second = (tmp_path / place / f"street_{i}_0_sample_0.png" for place in ("of_data", "of_files"))
        assert first.read_bytes() == second.read_bytes()


def test_a_training_does_not_go_on_with_images_of_another_kind(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for kind in (np.uint8, np.uint16):
        for side in "AB":
            for i in range(6):
                write(tmp_path / kind.__name__ / side / f"{i}.png", rng.integers(0, 256, (8, 16), kind))
    options = [*TINY, "--model", "c_flow", "--out", str(tmp_path / "run"), "--resume"]
    train.main([*options, "--data", str(tmp_path / "uint8")])
    before = (tmp_path / "run" / "config.json").read_bytes()
    said = line_of_mistake(train.main, capsys, *options, "--epochs", "2", "--data", tmp_path / "uint16")
    assert "was trained on pairs of 1 channel of 8 bits" in said
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_an_exported_model_samples_as_a_run_does(grey):
    run, model = Run(grey[0]), Pretrained.from_run(grey[0])
    context = torch.rand(2, 1, 8, 16)
    ours, theirs = (each.sample(2, context, (0.8, 0.9)[:run.levels], torch.Generator().manual_seed(0))
                    for each in (model, run))
    assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="not trained with --label-dropout"):
        model.sample(1, context, guidance=1.0)
    with pytest.raises(ValueError, match="has 2 levels; give one temperature for all"):
        model.sample(1, context, (0.8, 0.9, 1.0))


def test_temperatures_of_levels_without_a_context(tmp_path):
    model = Pretrained.from_run(make_run(tmp_path / "run", "glow"))
    with pytest.raises(ValueError, match="give one temperature for all levels"):
        model.sample(1, None, (0.8, 0.9))


@pytest.mark.parametrize("option", [["--side", "left"], ["--skip-unpaired"]])
def test_options_of_files_are_for_files(option, tmp_path, capsys):
    said = line_of_mistake(train.main, capsys, *TINY, "--generated", "8", *option, "--out", tmp_path / "run")
    assert f"{option[0]} is for files of --data" in said
