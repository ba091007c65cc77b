"""Judging: scores against a second way to the same numbers, diversity, floors, and the script as a user calls it."""

import json
import math
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import run_helpers
import torch
from PIL import Image

import evaluate
from streets.data.drawn import StreetScenes
from streets.judging import evaluation, fitting, scores, tables
from streets.judging.bits import bits
from streets.judging.judges import load_judge
from streets.judging.references import mean_colors, references
from streets.judging.scores import Scores, judge_samples, mean_and_deviation
from streets.runs.run import Run

SIZE = (16, 32)
make_run = partial(run_helpers.make_run, image_size=SIZE)


class Brightness:
    """A judge that calls bright pixels sky, dark ones car and the others road."""

    names, label_ids = ("sky", "road", "car"), (23, 7, 26)

    def __call__(self, photos):
        gray = photos.float().mean(1)
        return torch.where(gray > 150, 0, torch.where(gray < 60, 2, 1))


def test_scores_are_those_of_the_paper():
    """Compare with FCN's formulas on the counts, with an ignored label and a class that never occurs."""
    judge = Brightness()
    labels = torch.tensor([[[23, 23, 23, 7], [7, 7, 0, 11]]], dtype=torch.uint8)
    classes = torch.tensor([[[0, 0, 1, 1], [2, 1, 2, 0]]])
    scores = Scores(judge)
    scores.add(classes[..., :2], labels[..., :2])  # one confusion matrix over all that is added
    scores.add(classes[..., 2:], labels[..., 2:])
    result = scores.compute()
    assert result["confusion"] == [[2, 1, 0], [0, 2, 1], [0, 0, 0]]
    assert result["pixel_accuracy"] == pytest.approx(100 * 4 / 6)
    assert result["class_accuracy"] == pytest.approx(100 * (2 / 3 + 2 / 3) / 2)
    assert result["class_iou"] == pytest.approx({"sky": 100 * 2 / 3, "road": 100 * 2 / 4})
    assert result["mean_iou"] == pytest.approx(100 * (2 / 3 + 2 / 4) / 2)


def test_scores_of_random_maps_against_numpy():
    judge, generator = Brightness(), np.random.default_rng(0)
    labels = generator.choice([23, 7, 26, 0, 11], (5, 8, 9)).astype(np.uint8)
    classes = generator.integers(0, 3, labels.shape)
    scores = Scores(judge)
    scores.add(torch.from_numpy(classes), torch.from_numpy(labels))
    truth = np.select([labels == 23, labels == 7, labels == 26], [0, 1, 2], -1)
    recall = [np.mean(classes[truth == c] == c) for c in range(3)]
    iou = [np.sum((truth == c) & (classes == c)) / np.sum((truth == c) | (classes == c) & (truth >= 0))
           for c in range(3)]
    result = scores.compute()
    assert result["pixel_accuracy"] == pytest.approx(100 * np.mean(classes[truth >= 0] == truth[truth >= 0]), abs=1e-4)
    assert result["class_accuracy"] == pytest.approx(100 * np.mean(recall), abs=1e-4)
    assert result["mean_iou"] == pytest.approx(100 * np.mean(iou), abs=1e-4)


def test_labels_without_the_judges_classes_are_refused():
    scores = Scores(Brightness())
    scores.add(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="none of the judge's classes"):
        scores.compute()


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 6.0]) == {
        "mean": 3.0, "deviation": pytest.approx(math.sqrt(7)), "values": [1.0, 2.0, 6.0]}
    assert mean_and_deviation([4.0])["deviation"] is None


class Stub:
    """A model whose n-th sample is the condition plus n times 0.5."""

    def sample(self, num_samples, context, temperature, generator):
        return torch.stack([(context + 0.5 * temperature * n) for n in range(num_samples)], dim=1)


def test_diversity_of_known_samples(tmp_path):
    run = Run(make_run(tmp_path / "run"))
    run.model = Stub()
    scenes = StreetScenes("val", SIZE, 3)
    for item in (scenes[i] for i in range(3)):
        item["condition"].fill_(64)
    result = judge_samples(run, scenes, Brightness(), 1.0, 2, 2, 0)
    assert result["distance"] == pytest.approx(128 / 255, abs=1e-6)  # two samples half of the range apart
    assert result["changed"] == 100  # from road (64) to sky (192)
    assert result["confusion"][0][1] + result["confusion"][1][1] > 0
    still = judge_samples(run, scenes, Brightness(), 0.0, 2, 2, 0)
    assert still["distance"] == still["changed"] == still["pixel_accuracy"]["deviation"] == 0
    assert judge_samples(run, scenes, Brightness(), 0.0, 1, 2, 0)["distance"] is None


def test_bits_of_several_draws_are_a_tighter_bound(tmp_path):
    run, scenes = Run(make_run(tmp_path / "run")), StreetScenes("val", SIZE, 6)
    one, many = (bits(run, scenes, draws, 4, 0) for draws in (1, 16))
    assert many["mean"] < one["mean"]
    assert many["draws"] == 16
    assert many["mean"] < many["mean_of_one_draw"] == pytest.approx(one["mean"], abs=0.01)
    log_probs = torch.tensor([-1000.0, -1500.0]), torch.tensor([-1100.0, -1400.0])
    run.model = Mock(spec=["log_prob"], log_prob=Mock(side_effect=log_probs))
    known = bits(run, StreetScenes("val", SIZE, 2), 2, 4, 0)
    dims = 3 * SIZE[0] * SIZE[1]
    expected = [8 - (top + math.log((1 + math.exp(-100)) / 2)) / math.log(2) / dims for top in (-1000, -1400)]
    assert known["mean"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_what_is_not_finite_is_no_result(tmp_path):
    run, scenes = Run(make_run(tmp_path / "run")), StreetScenes("val", SIZE, 2)
    run.model.target.transform.bijectors[1].bijectors[0].shift.data[0] = math.nan
    with pytest.raises(ValueError, match="2 of 2 pairs"):
        bits(run, scenes, 1, 2, 0)
    with pytest.raises(ValueError, match="not finite"):
        judge_samples(run, scenes, Brightness(), 1.0, 1, 2, 0)


def test_standard_error_and_seed(tmp_path):
    run, scenes = Run(make_run(tmp_path / "run")), StreetScenes("val", SIZE, 6)
    one = bits(run, scenes, 1, 4, 0)
    # By hand, pair by pair: the standard error is that of the mean over pairs.
    pairs, each = run.pairs(0), []
    for i in range(6):
        if i % 4 == 0:
            batch = torch.utils.data.default_collate([scenes[j] for j in range(i, min(i + 4, 6))])
            context, x_b = pairs(batch)
            each += [8 - float(v) / math.log(2) / x_b[0].numel() for v in run.model.log_prob(x_b, context).detach()]
    assert one["mean"] == pytest.approx(np.mean(each), abs=1e-5)
    assert one["standard_error"] == pytest.approx(np.std(each, ddof=1) / math.sqrt(6), rel=1e-4)


def test_mean_colours_of_classes():
    scenes = StreetScenes("train", SIZE, 3)
    photos = torch.stack([scenes[i]["photo"] for i in range(3)]).permute(0, 2, 3, 1).float()
    labels = torch.stack([scenes[i]["label"] for i in range(3)])
    colors = mean_colors(scenes).float()
    for label in labels.unique().tolist():
        assert (colors[label] - photos[labels == label].mean(0)).abs().max() <= 0.5
    assert (colors[200] - photos.flatten(0, 2).mean(0)).abs().max() <= 0.5


def test_ceiling_and_floors():
    scenes = StreetScenes("val", SIZE, 4)
    maps = references(scenes, scenes, load_judge("colors"), "photo2label", 3)
    assert maps["real"]["pixel_accuracy"] == pytest.approx(100)
    assert maps["another scene's"]["pixel_accuracy"] < 100
    assert "mean colours" not in maps
    photos = references(scenes, scenes, Brightness(), "label2photo", 3)
    judge, expected = Brightness(), Scores(Brightness())
    for i in range(4):
        expected.add(judge(scenes[(i + 2) % 4]["photo"][None]), scenes[i]["label"][None])
    assert photos["another scene's"] == expected.compute()
    painted, colors = Scores(judge), mean_colors(scenes)
    for i in range(4):
        label = scenes[i]["label"]
        painted.add(judge(colors[label.long()].permute(2, 0, 1)[None]), label[None])
    assert photos["mean colours"] == painted.compute()
    assert set(photos) == {"real", "another scene's", "mean colours"}
    with pytest.raises(ValueError, match="no other scene"):
        references(StreetScenes("val", SIZE, 1), scenes, judge, "label2photo", 3)


@pytest.fixture
def brightness(monkeypatch):
    monkeypatch.setattr(evaluation, "load_judge", lambda *_: Brightness())


def call(*arguments):
    evaluate.main([str(argument) for argument in arguments])


def test_the_script_on_several_models(tmp_path, brightness, capsys, monkeypatch):
    models = "full_glow", "c_glow_v2", "glow", "pix2pix", "flow_matching"
    paths = [make_run(tmp_path / name, name, image_size=(32, 64)) for name in models]
    out = tmp_path / "out"
    options = ["--generated", "4", "--judge", "pspnet", "--repeats", "2", "--temperatures", "0.5", "1", "--out", out,
               "--image-size", "32", "64"]
    call(*paths, *options)
    results = json.loads((out / "results.json").read_text())
    assert list(results["runs"]) == [*models]
    for name, temperatures in {"pix2pix": [None], "flow_matching": [0.5, 1.0]}.items():
        assert results["runs"][name]["bits_per_dim"] is None
        assert [score["temperature"] for score in results["runs"][name]["scores"]] == temperatures
    assert [score["temperature"] for score in results["runs"]["glow"]["scores"]] == [0.5, 1.0]
    training = results["runs"]["full_glow"]["training"]
    assert training["gflop_per_image"] > 0
    assert (training["images"], training["hours"]) == (24, pytest.approx(24 / 10 / 3600))
    assert set(results["references"]) == {"real", "another scene's", "mean colours"}
    table = (out / "results.md").read_text()
    assert table in capsys.readouterr().out
    for row in ("| full_glow |", "| real images (ceiling) |", "(floor)", "| sky |"):
        assert row in table
    for picture in ("samples", "temperatures", "classes", "confusion", "curves"):
        assert np.array(Image.open(out / f"{picture}.png")).std() > 0

    # With --keep what has been measured with the same settings is taken, and nothing else.
    mark = {"mean": 1.0, "standard_error": None}
    for name, other in (("glow", {}), ("full_glow", {"settings": {"repeats": 7}})):
        there = json.loads((out / f"{name}.json").read_text())
        (out / f"{name}.json").write_text(json.dumps(there | {"bits_per_dim": mark} | other))
    with pytest.raises(SystemExit):
        call(*paths, *options, "--keep")
    assert "full_glow.json was made with" in capsys.readouterr().err
    monkeypatch.setattr(evaluation, "judge_samples", judged := Mock(wraps=scores.judge_samples))
    call(*paths, *options, "--keep", "--overwrite")
    again = json.loads((out / "results.json").read_text())
    assert again["runs"]["glow"]["bits_per_dim"] == mark
    assert again["runs"]["full_glow"] == results["runs"]["full_glow"]  # the same seed, the same figures
    measured = [(arguments.args[0].name, arguments.args[3]) for arguments in judged.call_args_list]
    assert measured == [("full_glow", 0.5), ("full_glow", 1)]


def test_maps_from_photos_are_judged_by_their_colours(tmp_path):
    path = make_run(tmp_path / "run", direction="photo2label")
    call(path, "--generated", "4", "--repeats", "1", "--out", tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["settings"]["judge"] == "colors"
    assert results["references"]["real"]["pixel_accuracy"] == pytest.approx(100)
    assert results["runs"]["full_glow"]["scores"][0]["pixel_accuracy"]["deviation"] is None


def test_a_run_with_boundaries_is_judged(tmp_path, brightness):
    call(make_run(tmp_path / "run", boundaries=True), "--generated", "4", "--repeats", "1", "--judge", "pspnet",
         "--out", tmp_path / "out")
    assert (tmp_path / "out" / "results.md").exists()


def test_a_drive_apart_is_judged(tmp_path, brightness, monkeypatch):
    root = run_helpers.write_pairs(tmp_path / "data", {"aachen": 3, "ulm": 2}, SIZE)
    path = make_run(tmp_path / "run", data=str(root.resolve()), cities=["aachen"])
    seen = Mock(wraps=references)
    monkeypatch.setattr(evaluation, "references", seen)
    options = path, "--data", root, "--split", "train", "--repeats", "1", "--judge", "pspnet", "--out", tmp_path / "out"
    call(*options, "--cities", "ulm")
    dataset, train_set = seen.call_args.args[:2]
    assert {name.split("_")[0] for name in dataset.names} == {"ulm"}
    assert {name.split("_")[0] for name in train_set.names} == {"aachen"}, "mean colours are those of its training"
    assert json.loads((tmp_path / "out" / "results.json").read_text())["settings"]["cities"] == ["ulm"]
    with pytest.raises(SystemExit):
        call(*options, "--keep")

    other = run_helpers.write_pairs(tmp_path / "other", {"bonn": 3}, SIZE)  # of which the run knows no cities
    call(path, "--data", other, *options[3:-1], tmp_path / "elsewhere")
    assert len(seen.call_args.args[1]) == 3


def test_temperatures_by_level_are_judged(tmp_path, brightness, capsys):
    paths = [make_run(tmp_path / name, name, image_size=(32, 64)) for name in ("full_glow", "pix2pix")]
    out = tmp_path / "out"
    options = ["--generated", "4", "--judge", "pspnet", "--repeats", "2", "--out", out,
               "--picture-temperature", "1,0.5"]
    call(*paths, *options, "--temperatures", "1", "0.9,0.5", "0.9,0.9", "0.9")
    scores = json.loads((out / "results.json").read_text())["runs"]["full_glow"]["scores"]
    assert [score["temperature"] for score in scores] == [1.0, [0.9, 0.5], [0.9, 0.9], 0.9]
    assert scores[1]["distance"] < scores[2]["distance"]
    assert "| 0.9,0.5 |" in (out / "results.md").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        call(*paths, *options, "--overwrite", "--temperatures", "1,1,1")
    assert "--temperatures 1,1,1: full_glow has 2 levels" in capsys.readouterr().err


def test_guided_runs_are_judged_beside_others(tmp_path, brightness, capsys):
    guided = make_run(tmp_path / "guided", "encoded_glow", label_dropout=0.1, guidance=1.0)
    plain, out = make_run(tmp_path / "plain"), tmp_path / "out"
    options = "--generated", "4", "--repeats", "1", "--judge", "pspnet", "--out", out
    call(guided, plain, *options)
    before = json.loads((out / "results.json").read_text())["runs"]
    call(guided, plain, *options, "--guidance", "2", "--keep")
    after = json.loads((out / "results.json").read_text())["runs"]
    assert [before["encoded_glow"]["scores"][0]["guidance"], after["encoded_glow"]["scores"][0]["guidance"]] == [0, 2]
    assert after["encoded_glow"]["scores"][0]["confusion"] != before["encoded_glow"]["scores"][0]["confusion"]
    assert after["full_glow"]["scores"] == before["full_glow"]["scores"]
    assert after["encoded_glow"]["bits_per_dim"] == before["encoded_glow"]["bits_per_dim"]
    assert "| 1, guidance 2 |" in (out / "results.md").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        call(plain, *options, "--guidance", "1", "--overwrite")
    assert "none of the runs was trained with --label-dropout" in capsys.readouterr().err


def test_the_sweep_is_the_papers():
    assert fitting.SWEEP == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def test_the_best_temperature_is_that_of_the_highest_iou():
    scores = [{"temperature": t, "mean_iou": {"mean": iou}} for t, iou in ((0.0, 1), (0.7, 3), (1.0, 2))]
    assert tables.best(scores)["temperature"] == 0.7
    assert [score["temperature"] for score in tables.shown({"scores": scores})] == [1.0, 0.7]
    assert len(tables.shown({"scores": scores[1:2]})) == 1


MISTAKES = {
    "no run": (["nowhere"], "expected a run of train.py"),
    "weights of no judge": (["RUN", "--judge-weights", "RUN"], "give --judge too"),
    "no such device": (["RUN", "--device", "abacus"], "--device abacus"),
    "unknown judge": (["RUN", "--judge", "oracle"], "'oracle'"),
    "no weights of the judge": (["RUN", "--judge", "espnet-camvid", "--judge-weights", "nowhere.safetensors"],
                                "nowhere"),
    "no such data": (["RUN", "--judge", "pspnet", "--data", "nowhere"], "nowhere"),
    "a size that the levels do not divide": (["RUN", "--judge", "pspnet", "--image-size", "16", "30"],
                                             "multiples of 4"),
    "no repeats": (["RUN", "--judge", "pspnet", "--repeats", "0"], "--repeats 0"),
    "a negative temperature": (["RUN", "--judge", "pspnet", "--temperatures", "-1"], "--temperatures -1"),
    "a sweep of other temperatures": (["RUN", "--judge", "pspnet", "--sweep", "--temperatures", "1"], "--sweep"),
    "a picture at no temperature": (["RUN", "--judge", "pspnet", "--picture-temperature", "nan"], "nan"),
    "photos judged by their colours": (["RUN", "--judge", "colors"], "--judge colors"),
    "label maps judged as photos": (["OTHER", "--judge", "pspnet"], "--judge pspnet"),
    "two sizes": (["RUN", "LARGER", "--judge", "pspnet"], "choose an --image-size"),
    "one run twice": (["RUN", "RUN", "--judge", "pspnet"], "rename a directory"),
    "two directions": (["RUN", "OTHER", "--judge", "pspnet"], "evaluate them apart"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_status_2(mistake, tmp_path, capsys, monkeypatch):
    arguments, message = MISTAKES[mistake]
    if "pspnet" in arguments:
        monkeypatch.setattr(evaluation, "load_judge", lambda *_: Brightness())
    of_name = {"RUN": lambda: make_run(tmp_path / "run"),
               "OTHER": lambda: make_run(tmp_path / "other", direction="photo2label"),
               "LARGER": lambda: make_run(tmp_path / "larger", image_size=(32, 64))}
    arguments = [of_name[a]() if a in of_name else a for a in arguments]
    with pytest.raises(SystemExit) as stop:
        call(*arguments, "--generated", "4", "--out", tmp_path / "out")
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in said
    assert said.strip().splitlines()[-1].startswith("evaluate.py: error:")
    assert not (tmp_path / "out" / "results.json").exists()


def test_results_are_not_overwritten_unasked(tmp_path, brightness, capsys):
    path, out = make_run(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text("mine")
    with pytest.raises(SystemExit):
        call(path, "--judge", "pspnet", "--generated", "4", "--out", out)
    assert "is in use" in capsys.readouterr().err
    assert (out / "results.json").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        call(path, "--judge", "pspnet", "--generated", "4", "--out", tmp_path / "file" / "out")
    assert "file" in capsys.readouterr().err
