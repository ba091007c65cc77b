"""The judges against published values and second implementations, how a judge is trained, and every refusal."""

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from run_helpers import SCRIPTS, SHARED, refused
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

import train_classifier
from streets.data import cityscapes, datasets, labels
from streets.data.label_sets import CITYSCAPES
from streets.judging import classifier
from streets.judging.judges import JUDGES, espnet, load_judge, pspnet
from streets.judging.judges.judge import class_indices
from streets.judging.judges.pspnet import PSPNet, PSPNetJudge
from streets.judging.scores import Scores

ESPNET = SHARED / "classifiers" / "espnet_camvid"
SMALL = {"layers": (1, 2, 1, 1), "width": 4}


def shared(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"shared data ({path.name}) is not there")
    return path


@pytest.fixture(scope="module")
def camvid_judge():
    return load_judge("espnet-camvid", shared(ESPNET) / "weights.safetensors")


def random_net(**arguments) -> PSPNet:
    """Build a net with statistics and biases that no two places share, so that none is mistaken for another."""
    net = PSPNet(**arguments)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.ndim == 1:
            value.normal_(0.5 if name.endswith("weight") else 0, 0.3)
    return net.eval()


def official(net: nn.Module) -> dict:
    """Make a checkpoint as hszhao/semseg writes it."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    return {"epoch": 200, "state_dict": state, "optimizer": optimizer.state_dict()}


def photos(*shape: int) -> Tensor:
    return torch.randint(0, 256, (shape[0], 3, *shape[1:]), dtype=torch.uint8)


# ESPNet


def test_espnet_reproduces_the_authors_logits(camvid_judge):
    reference = np.load(ESPNET / "reference.npz")
    with torch.no_grad():
        logits = camvid_judge.net(torch.from_numpy(reference["x"]))
    assert np.abs(logits.numpy() - reference["y"]).max() < 1e-4


def test_espnet_has_the_keys_of_the_weights(camvid_judge):
    weights = load_file(ESPNET / "weights.safetensors")
    own = camvid_judge.net.state_dict()
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in weights.items()}
    assert sum(parameter.numel() for parameter in camvid_judge.net.parameters()) == 354_517


def test_espnet_reproduces_the_whole_protocol(camvid_judge):
    """Check that classes agree, but at pixels at which two classes are as good as equal."""
    pipeline = np.load(ESPNET / "pipeline.npz")
    photo = torch.from_numpy(pipeline["photo"]).permute(2, 0, 1)[None]
    logits = camvid_judge.logits(photo)
    best = logits.topk(2, dim=1).values[0]
    clear = (best[0] - best[1] > 1e-3).numpy()
    assert clear.mean() > 0.999
    predicted = camvid_judge(photo)
    assert torch.equal(predicted, logits.argmax(1))
    assert np.array_equal(predicted[0].numpy()[clear], pipeline["pred"][clear])


def scores(judge, dataset):
    found = Scores(judge)
    for batch in DataLoader(dataset, 2):
        found.add(judge(batch["photo"]), batch["label"])
    return found.compute()


def test_espnet_recognizes_real_photos(camvid_judge):
    """Judge four pairs; all 62 have pixel accuracy 69.8 %, class accuracy 63.0 %, mean IoU 48.0 %; chance is 9 %."""
    dataset = cityscapes.Cityscapes(shared(SHARED / "camvid64"), "test", (64, 128))
    some = torch.utils.data.Subset(dataset, [0, 20, 40, 61])
    result = scores(camvid_judge, some)
    assert result["pixel_accuracy"] > 60
    assert result["class_accuracy"] > 40
    assert result["mean_iou"] > 30


def test_espnet_takes_photos_of_any_size(camvid_judge):
    batch = photos(2, 37, 91)
    predicted = camvid_judge(batch)
    assert predicted.shape == (2, 37, 91)
    assert predicted.dtype == torch.int64
    assert 0 <= predicted.min() <= predicted.max() <= 10
    assert (predicted[1:] == camvid_judge(batch[1:])).float().mean() > 0.999


# PSPNet


@pytest.mark.parametrize(("depth", "layers"), [("50", (3, 4, 6, 3)), ("101", (3, 4, 23, 3))])
def test_pspnet_is_official_key_for_key(depth, layers):
    shapes = json.loads(shared(SHARED / "classifiers" / "pspnet_official_state_dict_shapes.json").read_text())[depth]
    with torch.device("meta"):
        net = PSPNet(layers)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == shapes


def linear(old: int, new: int) -> Tensor:
    """Build the matrix of linear interpolation with aligned corners."""
    places = torch.arange(new, dtype=torch.float64) * (old - 1) / max(1, new - 1)
    return (1 - (places[:, None] - torch.arange(old)).abs()).clamp(min=0)


def enlarged(x: Tensor, size) -> Tensor:
    return linear(x.shape[-2], size[0]) @ x @ linear(x.shape[-1], size[1]).T


def pooled(x: Tensor, side: int) -> Tensor:
    """Average cells that may overlap by a pixel."""
    height, width = x.shape[-2:]
    rows = [x[..., i * height // side : -(-(i + 1) * height // side), :].mean(-2) for i in range(side)]
    rows = torch.stack(rows, dim=-2)
    return torch.stack([rows[..., i * width // side : -(-(i + 1) * width // side)].mean(-1) for i in range(side)], -1)


def second_pspnet(s: dict[str, Tensor], x: Tensor, layers, bins=(1, 2, 3, 6)) -> tuple[Tensor, Tensor]:
    """Compute the forward pass from the state dict alone: main and auxiliary logits."""

    def unit(x, conv, norm, stride=1, dilation=1):
        weight = s[f"{conv}.weight"]
        y = F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation)
        mean, var, scale, shift = (s[f"{norm}.{k}"][:, None, None] for k in
                                   ("running_mean", "running_var", "weight", "bias"))
        return (y - mean) / (var + 1e-5).sqrt() * scale + shift

    def final(x, name):
        y = unit(x, f"{name}.0", f"{name}.1").relu()
        return F.conv2d(y, s[f"{name}.4.weight"], s[f"{name}.4.bias"])

    size = x.shape[-2:]
    x = unit(x, "layer0.0", "layer0.1", stride=2).relu()
    x = unit(x, "layer0.3", "layer0.4").relu()
    x = unit(x, "layer0.6", "layer0.7").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    features = x
    for level, (stride, dilation) in enumerate([(1, 1), (2, 1), (1, 2), (1, 4)], start=1):
        for block in range(layers[level - 1]):
            name, first = f"layer{level}.{block}", stride if block == 0 else 1
            y = unit(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = unit(y, f"{name}.conv2", f"{name}.bn2", first, dilation).relu()
            y = unit(y, f"{name}.conv3", f"{name}.bn3")
            x = (y + (unit(x, f"{name}.downsample.0", f"{name}.downsample.1", first) if block == 0 else x)).relu()
        features = x if level == 3 else features
    pyramid = [unit(pooled(x, side), f"ppm.features.{i}.1", f"ppm.features.{i}.2").relu()
               for i, side in enumerate(bins)]
    x = torch.cat([x, *(enlarged(y, x.shape[-2:]) for y in pyramid)], dim=1)
    return enlarged(final(x, "cls"), size), enlarged(final(features, "aux"), size)


@pytest.mark.parametrize("size", [(65, 97), (64, 128), (41, 90)])
def test_pspnet_equals_a_second_implementation(size):
    net = random_net(num_classes=5, **SMALL).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        outputs = net.with_auxiliary(x)
        for own, other in zip(outputs, second_pspnet(net.state_dict(), x, SMALL["layers"]), strict=True):
            assert own.shape == (2, 5, *size)
            assert own.std() > 1e-3
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
        assert torch.equal(net(x), outputs[0])


def test_official_checkpoints_give_the_same_logits(tmp_path):
    net = random_net(**SMALL)
    torch.save(official(net), tmp_path / "train_epoch_200.pth")
    judge = load_judge("pspnet", tmp_path / "train_epoch_200.pth")
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(judge.net(x), net(x))
    assert (judge.size, judge.crop) == ((1024, 2048), (713, 713))
    assert judge.label_ids == tuple(label.id for label in CITYSCAPES.labels if 0 <= label.train_id < 19)
    assert judge.names[0] == "road"
    assert judge.names[18] == "bicycle"


def test_official_checkpoints_of_old_torch_are_read_too(tmp_path):
    net = random_net(**SMALL)
    torch.save(official(net), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    judge = load_judge("pspnet", tmp_path / "old.pth")
    assert torch.equal(judge.net.cls[4].weight, net.cls[4].weight)


# The sliding window


def test_windows_are_the_official_ones():
    assert [w.start for w in pspnet.windows(1024, 713)] == [0, 311]
    assert [w.start for w in pspnet.windows(2048, 713)] == [0, 476, 952, 1335]
    assert pspnet.windows(713, 713) == [slice(0, 713)]
    assert all(w.stop - w.start == 713 for w in pspnet.windows(2048, 713))


def test_a_photo_of_one_crop_is_judged_at_once():
    judge = PSPNetJudge(random_net(**SMALL), size=None, crop=(33, 65))
    batch = photos(2, 33, 65)
    x = pspnet.normalize(batch)
    assert x.mean().abs() < 1
    with torch.no_grad():
        expected = (judge.net(x).softmax(1) + judge.net(x.flip(-1)).softmax(1).flip(-1)) / 2
        torch.testing.assert_close(judge.probabilities(x), expected)
    assert torch.equal(judge(batch), expected.argmax(1))


@pytest.mark.parametrize("size", [(33, 70), (60, 90), (20, 100), (100, 20), (9, 9)])
def test_larger_and_smaller_photos_equal_a_naive_loop(size):
    judge = PSPNetJudge(random_net(**SMALL).double(), size=None, crop=(33, 41))
    x = torch.randn(3, *size, dtype=torch.float64)
    height, width = max(33, size[0]), max(41, size[1])
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    padded = torch.zeros(3, height, width, dtype=torch.float64)
    padded[:, top : top + size[0], left : left + size[1]] = x
    total, count = torch.zeros(19, height, width, dtype=torch.float64), torch.zeros(height, width)
    row = 0
    while True:
        row, column = min(row, height - 33), 0
        while True:
            column = min(column, width - 41)
            crop = padded[None, :, row : row + 33, column : column + 41]
            with torch.no_grad():
                both = judge.net(crop).softmax(1), judge.net(crop.flip(3)).softmax(1).flip(3)
            total[:, row : row + 33, column : column + 41] += (both[0] + both[1])[0] / 2
            count[row : row + 33, column : column + 41] += 1
            if column == width - 41:
                break
            column += 28
        if row == height - 33:
            break
        row += 22
    with torch.no_grad():
        probabilities = judge.probabilities(x[None])[0]
    expected = (total / count)[:, top : top + size[0], left : left + size[1]]
    torch.testing.assert_close(probabilities, expected)
    torch.testing.assert_close(probabilities.sum(0), torch.ones(size, dtype=torch.float64))


@pytest.mark.parametrize(("size", "judged"), [((16, 32), (32, 64)), ((48, 16), (64, 21)), ((100, 100), (32, 64))])
def test_photos_are_resized_to_the_judges_size_and_back(size, judged):
    net = random_net(**SMALL)
    batch = photos(2, *size)
    x = F.interpolate(pspnet.normalize(batch), judged, mode="bilinear")
    with torch.no_grad():
        inner = PSPNetJudge(net, size=None, crop=(65, 65)).probabilities(x)
    expected = F.interpolate(inner, size, mode="bilinear").argmax(1)
    assert torch.equal(PSPNetJudge(net, size=judged, crop=(65, 65))(batch), expected)


# Colours, and classes


def test_the_judge_by_colours_inverts_colorize():
    judge = load_judge("colors", None)
    ids = torch.randint(-1, 34, (2, 20, 30)) % 256
    ids = ids.byte()
    maps = torch.from_numpy(CITYSCAPES.colorize(ids.numpy())).permute(0, 3, 1, 2)
    truth = torch.from_numpy(CITYSCAPES.train_ids(ids.numpy())).long()
    assert torch.equal(class_indices(judge, ids), truth)
    evaluated = truth != labels.IGNORED
    assert torch.equal(judge(maps)[evaluated], truth[evaluated])


def test_the_judge_by_colours_takes_the_nearest():
    judge = load_judge("colors", None)
    batch = photos(1, 8, 8)
    colors = torch.tensor([label.color for label in CITYSCAPES.labels if 0 <= label.train_id < 19])
    distances = (batch[0].permute(1, 2, 0).long()[:, :, None] - colors).square().sum(-1)
    chosen = distances.gather(-1, judge(batch)[0][..., None])[..., 0]
    assert torch.equal(chosen, distances.min(-1).values)


def test_class_indices(camvid_judge):
    ids = torch.tensor([[23, 11, 17, 7, 8, 21], [20, 13, 26, 24, 25, 0]], dtype=torch.uint8)
    expected = torch.tensor([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, labels.IGNORED]])
    assert torch.equal(class_indices(camvid_judge, ids), expected)
    assert class_indices(camvid_judge, torch.tensor([33, 255, 27]).byte()).tolist() == [labels.IGNORED] * 3
    names = {label.id: label.name for label in CITYSCAPES.labels}
    assert camvid_judge.names == tuple(names[i] for i in camvid_judge.label_ids)


# Training


TINY = ["--image-size", "16", "32", "--generated", "16", "--batch-size", "4", "--width", "4", "--layers", "1", "1", "1",
        "1"]


def test_train_classifier_from_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    train_classifier.main([*TINY, "--epochs", "2", "--base-size", "48", "--out", str(out)])
    said = capsys.readouterr().out
    assert "mean IoU" in said
    assert str(out) in said
    config = json.loads((out / "config.json").read_text())
    assert config["crop"] == [25, 49]
    assert config["options"]["epochs"] == 2
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}
    judge = load_judge("pspnet", out)
    assert judge.names[:3] == ("road", "sidewalk", "building")
    assert judge.label_ids[:3] == (7, 8, 11)
    assert len(judge.names) == 11  # of the scenes; unlabeled is none of the 19
    val = datasets.open_dataset(None, "val", (16, 32), 2, 0)
    assert scores(judge, val).items() >= config["scores"]["val"].items()
    batch = photos(2, 30, 50)
    assert torch.equal(load_judge("pspnet", out / "model.safetensors")(batch), judge(batch))


def test_training_a_classifier_learns(tmp_path):
    train_classifier.main([*TINY, "--epochs", "30", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "config.json").read_text())["scores"]["val"]
    assert result["pixel_accuracy"] > 40  # the most frequent class has a third
    assert result["class_accuracy"] > 100 * 2 / 11


def test_the_same_seed_gives_the_same_classifier(tmp_path):
    for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
        train_classifier.main([*TINY, "--epochs", "1", "--seed", seed, "--out", str(tmp_path / name)])
    one, two, three = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "three"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["cls.4.weight"], three["cls.4.weight"])


def test_as_many_steps_as_asked_for_and_splits_scored(tmp_path, capsys):
    train_classifier.main([*TINY, "--epochs", "3", "--out", str(tmp_path / "epochs")])
    train_classifier.main([*TINY, "--steps", "12", "--score", "val", "test", "--out", str(tmp_path / "steps")])
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("epochs", "steps"))
    assert all(torch.equal(one[key], two[key]) for key in one), "3 epochs of 16 photos in batches of 4 are 12 steps"
    config = json.loads((tmp_path / "steps" / "config.json").read_text())
    assert list(config["scores"]) == ["val", "test"]
    assert config["scores"]["val"] == json.loads((tmp_path / "epochs" / "config.json").read_text())["scores"]["val"]
    assert "test: pixel acc. " in capsys.readouterr().out


def test_extra_pairs_are_trained_on_and_pairs_are_a_part(tmp_path):
    save_pairs(tmp_path / "real", 8, road=7)
    save_pairs(tmp_path / "made", 8, road=8)
    options = ["--image-size", "16", "32", "--batch-size", "4", "--width", "4", "--layers", "1", "1", "1", "1",
               "--score", "train", "--steps", "40", "--data", str(tmp_path / "real")]
    accuracy = {}
    for name, more in {"real": [], "few": ["--pairs", "4"], "both": ["--extra", str(tmp_path / "made")],
                       "made": ["--pairs", "0", "--extra", str(tmp_path / "made")]}.items():
        train_classifier.main([*options, *more, "--out", str(tmp_path / "judges" / name)])
        config = json.loads((tmp_path / "judges" / name / "config.json").read_text())
        accuracy[name] = config["scores"]["train"]["pixel_accuracy"]
        assert list(config["classes"]) == (["road", "building"] if name in ("real", "few") else
                                           ["road", "sidewalk", "building"])
    # What is road in one data set is sidewalk in the other.
    assert min(accuracy["real"], accuracy["few"]) > 90
    assert accuracy["made"] < 60


def save_pairs(root: Path, count: int, road: int) -> None:
    """Write training pairs that show buildings, bright, above something dark that has the label of ``road``."""
    rng = np.random.default_rng(0)
    for number in range(count):
        label = np.full((16, 32), 11, np.uint8)
        label[8:] = road
        photo = np.where(label[..., None] == 11, 200, 50) + rng.integers(0, 20, (16, 32, 3))
        for kind, name, image in (("leftImg8bit", "leftImg8bit", photo.astype(np.uint8)),
                                  ("gtFine", "gtFine_labelIds", label)):
            folder = root / kind / "train" / "ulm"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"ulm_000000_{number:06d}_{name}.png")


def test_all_19_classes_can_be_asked_for(tmp_path):
    train_classifier.main([*TINY, "--epochs", "1", "--classes", "all", "--out", str(tmp_path)])
    assert load_judge("pspnet", tmp_path).label_ids == load_judge("colors").label_ids


def test_augmentation_keeps_photos_and_targets_together():
    """Check that photos that show their own targets still do wherever no two targets meet."""
    targets = torch.randint(0, 5, (16, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    photos = targets[:, None].expand(-1, 3, -1, -1) + 1.0
    crops, cut = classifier.augment(photos, targets, (33, 65), (0.5, 2.0))
    assert crops.shape == (16, 3, 33, 65)
    assert cut.shape == (16, 33, 65)
    expected = torch.where(cut == labels.IGNORED, 0, cut + 1)
    agree = ((crops[:, 0] - expected).abs() < 1e-3).flatten(1).float().mean(1)
    assert agree.min() > 0.6
    assert (cut == labels.IGNORED).any(), "a photo at half the size does not fill the crop"
    assert set(cut.unique().tolist()) <= {0, 1, 2, 3, 4, labels.IGNORED}


def test_augmentation_at_the_photos_own_size_is_a_flip_at_most():
    targets = torch.randint(0, 5, (16, 8, 16))
    photos = torch.randn(16, 3, 8, 16)
    crops, cut = classifier.augment(photos, targets, (8, 16), (1.0, 1.0))
    mirrored = [not torch.equal(a, b) for a, b in zip(cut, targets, strict=True)]
    assert 0 < sum(mirrored) < 16
    for i, flip in enumerate(mirrored):
        assert torch.equal(cut[i].flip(-1) if flip else cut[i], targets[i])
        torch.testing.assert_close(crops[i].flip(-1) if flip else crops[i], photos[i], rtol=0, atol=1e-5)


def test_pixels_without_a_target_do_not_count():
    logits = torch.randn(1, 3, 2, 2)
    targets = torch.tensor([[[0, 2], [labels.IGNORED, labels.IGNORED]]])
    expected = F.cross_entropy(logits[..., 0, :], targets[:, 0])
    torch.testing.assert_close(classifier.cross_entropy(logits, targets), expected)
    assert classifier.cross_entropy(logits, torch.full_like(targets, labels.IGNORED)) == 0


MISTAKES = {
    "no such folder": (["--data", "nowhere"], "nowhere"),
    "no epochs": (["--epochs", "0"], "--epochs 0: at least 1"),
    "a batch of one": (["--batch-size", "1"], "--batch-size 1: at least 2"),
    "a batch of more than all": (["--batch-size", "99"], "only 16 training photos"),
    "no steps": (["--steps", "0"], "--steps 0: at least 1"),
    "more pairs than there are": (["--pairs", "17"], "--pairs 17: there are only 16 training pairs"),
    "no pairs at all": (["--pairs", "0"], "--pairs 0: there is nothing to train on without --extra"),
    "cities of drawn scenes": (["--cities", "ulm"], "cities are folders of --data"),
    "extra pairs from nowhere": (["--extra", "nowhere"], "nowhere"),
    "a split that there is not": (["--score", "nights"], "nights"),
    "an empty stage": (["--layers", "1", "0", "1", "1"], "--layers 1 0 1 1"),
    "no width": (["--width", "0"], "--width 0"),
    "scales the wrong way round": (["--scale", "2", "1"], "--scale 2.0 1.0"),
    "a rate too high": (["--learning-rate", "1e30"], "lower --learning-rate"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_training_end_in_one_line_and_status_2(mistake, tmp_path, capfd):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stop:
        train_classifier.main([*TINY, *arguments, "--out", str(tmp_path / "run")])
    lines = capfd.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert lines[-1].startswith("train_classifier.py: error: ")
    assert message in lines[-1]
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_classifier_is_not_overwritten_unasked(tmp_path, capsys):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        train_classifier.main([*TINY, "--epochs", "1", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "is in use" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_text() == "mine"
    train_classifier.main([*TINY, "--epochs", "1", "--out", str(tmp_path), "--overwrite"])
    load_judge("pspnet", tmp_path)


def test_help_is_quick_and_complete():
    script = SCRIPTS / "train_classifier.py"
    started = time.perf_counter()
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 5
    for option in ("--data", "--image-size", "--base-size", "--classes", "--aux-weight", "--overwrite"):
        assert option in result.stdout


# What is refused


def test_unknown_judges_are_refused():
    with refused(ValueError, "espnet-camvid, pspnet, colors", "'pspnet50'"):
        load_judge("pspnet50", None)


@pytest.mark.parametrize("name", JUDGES)
def test_weights_belong_to_networks_alone(name, tmp_path):
    if name == "colors":
        with refused(ValueError, "expected no weights", tmp_path):
            load_judge(name, tmp_path)
    else:
        with refused(ValueError, "got none", "give --judge-weights the path of"):
            load_judge(name, None)
        with refused(FileNotFoundError, tmp_path / "nowhere.pth", "give --judge-weights the path of"):
            load_judge(name, tmp_path / "nowhere.pth")
        with refused(FileNotFoundError, tmp_path):
            load_judge(name, tmp_path)


@pytest.mark.parametrize("name", ["espnet-camvid", "pspnet"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", "half"])
def test_damaged_weights_are_named(name, suffix, content, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if content == "half":
        state = {"a": torch.ones(1000)}
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        content = path.read_bytes()[:2000]
    path.write_bytes(content)
    with refused(ValueError, path, "fetch the file again"):
        load_judge(name, path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}, {7: torch.ones(1)}])
def test_files_of_something_else_are_named(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with refused(ValueError, tmp_path / "weights.pth", "pass the state dict"):
        load_judge("pspnet", tmp_path / "weights.pth")


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
@pytest.mark.parametrize("name", ["espnet-camvid", "pspnet"])
def test_a_malicious_pickle_does_not_run(save, name, tmp_path):
    path = tmp_path / "weights.pth"
    save({"state_dict": Malicious(tmp_path / "it ran")}, path)
    with refused(ValueError, path):
        load_judge(name, path)
    assert not (tmp_path / "it ran").exists()


def test_weights_of_another_espnet_name_the_first_key(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(espnet.ESPNet(classes=20).state_dict(), path)
    with refused(ValueError, path, "encoder.classifier.conv.weight: expected (12, 256, 1, 1), got (20, 256, 1, 1)",
                 "keys differ in all", "p=2 and q=8"):
        load_judge("espnet-camvid", path)
    state = espnet.ESPNet().state_dict()
    torch.save(state | {"extra": torch.ones(3)}, path)
    with refused(ValueError, "extra: expected no such key, got (3,); 1 keys differ"):
        load_judge("espnet-camvid", path)
    del state["br.bias"]
    torch.save(state, path)
    with refused(ValueError, "br.bias: expected (12,), got no such key"):
        load_judge("espnet-camvid", path)


def test_checkpoints_of_another_pspnet_name_the_first_key(tmp_path):
    path = tmp_path / "train_epoch_100.pth"
    torch.save(official(PSPNet(num_classes=150, **SMALL)), path)  # of ADE20K
    with refused(ValueError, path, "cls.4.weight: expected (19, 32, 1, 1), got (150, 32, 1, 1)", "PSPNet101"):
        load_judge("pspnet", path)
    torch.save({"conv.weight": torch.ones(1)}, path)
    with refused(ValueError, "layer0.0.weight: expected (64, 3, 3, 3), got no such key"):
        load_judge("pspnet", path)


def test_a_config_of_something_else_is_named(tmp_path):
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    save_file(PSPNet(num_classes=2, **SMALL).state_dict(), weights)
    with refused(FileNotFoundError, config, "beside the weights"):
        load_judge("pspnet", tmp_path)
    good = {"network": SMALL, "classes": {"road": 7, "sky": 23}, "size": [32, 64], "crop": [9, 9]}
    for bad in ("", "[]", json.dumps({"model": "full_glow"}), json.dumps(good | {"network": {"depth": 50}}),
                json.dumps(good | {"crop": [32, 64]}), json.dumps(good | {"crop": 33}),
                json.dumps(good | {"network": {"layers": [1]}}), json.dumps(good | {"network": {"width": -4}}),
                json.dumps(good | {"classes": ["road"]})):
        config.write_text(bad)
        with refused(ValueError, config, "train_classifier.py"):
            load_judge("pspnet", tmp_path)
    config.write_text(json.dumps(good | {"classes": {"road": 7, "sky": 23, "car": 26}}))
    with refused(ValueError, weights, "cls.4.weight: expected (3, 32, 1, 1), got (2, 32, 1, 1)", "one run"):
        load_judge("pspnet", tmp_path)
    config.write_text(json.dumps(good))
    assert load_judge("pspnet", weights).names == ("road", "sky")


@pytest.mark.parametrize("bad", [torch.rand(1, 3, 8, 8), photos(1, 8, 8)[0], photos(1, 8, 8)[:, :2]])
def test_judges_take_batches_of_bytes_alone(bad):
    for judge in (load_judge("colors"), PSPNetJudge(PSPNet(**SMALL)), espnet.EspnetJudge(espnet.ESPNet())):
        with refused(ValueError, "expected torch.uint8 of shape (batch, 3, height, width)", tuple(bad.shape)):
            judge(bad)
