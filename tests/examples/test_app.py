"""app.py: painted colours and their classes, what the page answers, runs in training, the model of the first start."""

import base64
import io
import json
import math
import os
import shutil
import socket
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from run_helpers import (
    SIZE,
    line_of_mistake,
    make_run,
    quick_processes,
    read,
    save,
    train_on_images,
    until,
    write,
    write_pairs,
)

import app
import sample
import train
import transfer
from streets.config.app import Config
from streets.data.drawn import StreetScenes
from streets.data.label_sets import CITYSCAPES
from streets.demo import first_run, handlers, painting, progress, scenes, serving, shelf
from streets.runs import weights
from streets.runs.run import Run
from streets.system.stopping import INTERRUPTED, Stop
from streets.using.drawing import draw

ROAD, SKY, CAR = 7, 23, 26


def page_of(*runs, data=None, kind="best"):
    """Return what answers to the page, with these runs."""
    return handlers.Handlers(shelf.Shelf(runs, kind, torch.device("cpu")), scenes.Scenes(data, "val"))


def last(answers):
    """Return the last of several answers: what the page shows in the end."""
    return [*answers][-1]


def pixels(url):
    """Decode a picture of the page."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def halves(size=(64, 128)):
    """Make the colours of a map with sky above and road below."""
    ids = np.full(size, SKY, np.uint8)
    ids[size[0] // 2:] = ROAD
    return CITYSCAPES.colorize(ids)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "small", "encoded_glow", label_dropout=0.1, guidance=1.0)


# Colours


def test_the_palette_has_every_colour_once_and_none_is_close_to_another():
    colors = np.array([label.color for label in painting.PALETTE.labels], int)
    assert {*map(tuple, colors.tolist())} == {label.color for label in CITYSCAPES.labels}
    apart = np.sqrt(((colors[:, None] - colors) ** 2).sum(-1)) + 1000 * np.eye(len(colors))
    assert apart.min() > 2 * painting.CLOSE
    assert {label.name for label in painting.PALETTE.labels} >= {"road", "sky", "car", "pole", "unlabeled"}


def test_official_colours_are_read_as_the_table_says():
    for item in (StreetScenes("val", (64, 128))[i] for i in range(3)):
        colors = item["condition"].permute(1, 2, 0).numpy()
        painted = painting.read(painting.encoded(colors))
        assert np.array_equal(painted.ids, CITYSCAPES.ids_from_colors(colors))
        assert not painted.foreign.any()
        assert painted.note == ""


def test_colours_that_are_a_little_off_are_their_class():
    off = halves().astype(int) + np.random.default_rng(0).integers(-4, 5, (64, 128, 3))
    assert np.array_equal(painting.classify(off.clip(0, 255).astype(np.uint8)).ids,
                          CITYSCAPES.ids_from_colors(halves()))


def test_soft_edges_take_the_classes_beside_them():
    """Paint a disc with a soft edge: mixed colours, among them some that are close to a third class."""
    large = Image.fromarray(np.kron(halves(), np.ones((4, 4, 1), np.uint8)))
    ImageDraw.Draw(large).ellipse((100, 40, 300, 220), fill=(0, 0, 142))
    soft = np.array(large.resize((128, 64), Image.Resampling.BICUBIC))
    with pytest.raises(ValueError, match="none of its labels has the colour"):
        CITYSCAPES.ids_from_colors(soft)
    painted = painting.classify(soft)
    assert {*np.unique(painted.ids)} == {ROAD, SKY, CAR}
    assert not painted.foreign.any()


def test_a_colour_of_no_class_is_marked_and_counts_as_unlabeled():
    colors = halves()
    colors[10:30, 40:60] = (255, 128, 255)
    painted = painting.classify(colors)
    inside = np.s_[10 + painting.FRINGE:30 - painting.FRINGE, 40 + painting.FRINGE:60 - painting.FRINGE]
    assert painted.foreign[inside].all()
    assert (painted.ids[inside] == 0).all()
    assert painted.foreign.sum() <= 400
    assert "4.1% of the picture" in painted.note or "first at 4" in painted.note
    assert "#ff80ff" in painted.note
    shown = painted.shown((64, 128))
    assert {*map(tuple, shown[inside].reshape(-1, 3))} == {(255, 0, 255), (255, 255, 255)}
    assert np.array_equal(shown[40:], colors[40:])
    small = painted.item((16, 32))
    assert small["label"].shape == (16, 32)
    assert small["name"] == "painted"


def test_nothing_painted_is_unlabeled():
    file = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 10, 10, 0)).save(file, "PNG")
    assert (painting.read(painting.data_url(file.getvalue())).ids == 0).all()


def pictures_that_cannot_be_read():
    whole, jpeg = painting.encoded(halves()), io.BytesIO()
    Image.fromarray(halves()).save(jpeg, "JPEG")
    large = io.BytesIO()
    Image.new("1", (4096, 4096)).save(large, "PNG")
    return {"nothing": None, "words": "a street", "no base64": painting.PREFIX + "?", "cut": whole[:200],
            "a JPEG": painting.data_url(jpeg.getvalue()), "too large": painting.data_url(large.getvalue())}


@pytest.mark.parametrize("kind", pictures_that_cannot_be_read())
def test_pictures_that_cannot_be_read(kind):
    with pytest.raises(ValueError, match="reload the page"):
        painting.read(pictures_that_cannot_be_read()[kind])


# Answers


def test_samples_are_those_of_the_script(run, tmp_path):
    """Paint what a file holds: sample.py and the page draw the same samples."""
    scene = StreetScenes("val", SIZE)[3]
    save(tmp_path / "painted.png", scene["label"].numpy())
    sample.main([str(run), "--label-maps", str(tmp_path / "painted.png"), "--samples", "2", "--temperature", "0.7",
                 "--guidance", "1", "--seed", "5", "--out", str(tmp_path / "out")])
    page = page_of(run)
    status, pictures = last(page.sample(page.scene(scenes.GENERATED, 3), run.name, 2, 0.7, 1.0, 5))
    assert status == "2 samples of small, seed 5, temperature 0.7, guidance 1."
    assert len(pictures) == 3
    assert np.array_equal(pixels(pictures[0][0]), scene["condition"].permute(1, 2, 0))
    for number, (url, _) in enumerate(pictures[1:]):
        assert np.array_equal(pixels(url), read(tmp_path / "out" / f"painted_sample_{number}.png"))


def test_the_likelihood_is_that_of_the_sample(run):
    """Compute the density from the model itself; the caption gives it in bits per dimension and in nats."""
    page = page_of(run)
    _, pictures = last(page.sample(page.scene(scenes.GENERATED, 3), run.name, 1, 0.7, 0.0, 0))
    opened, item = page.shelf.run(run.name), painting.read(page.scene(scenes.GENERATED, 3)).item(SIZE)
    photo = torch.from_numpy(pixels(pictures[1][0])).permute(2, 0, 1)
    context, x_b = opened.pairs()(torch.utils.data.default_collate([item | {"photo": photo}]))
    nats = float(opened.model.log_prob(x_b, context))
    bits, of_photo = (float(part.split()[0].replace(",", "")) for part in pictures[1][1].split(", log p "))
    dimensions = photo.numel()
    assert bits == pytest.approx(8 - nats / (dimensions * math.log(2)), abs=1e-3)
    assert of_photo == pytest.approx(nats - dimensions * math.log(256), abs=1)  # 256 values in a unit


def test_pictures_come_one_after_the_other(run):
    page = page_of(run)
    answers = [*page.sample(painting.encoded(halves()), run.name, 3, 1.0, 0.0, 0)]
    assert [len(pictures) for _, pictures in answers] == [0, 1, 2, 3, 4, 4]
    assert "2 of 3 samples are drawn" in answers[3][0]


def test_temperature_seed_and_painting_change_the_samples(run):
    page, colors = page_of(run), halves()

    def images(colors=colors, temperature=0.7, seed=0):
        _, pictures = last(page.sample(painting.encoded(colors), run.name, 2, temperature, 0.0, seed))
        return [url for url, _ in pictures[1:]]

    assert images() == images()
    assert len({*images(temperature=0)}) == 1
    assert len({*images(), *images(temperature=0.8), *images(seed=1), *images(colors=colors[::-1])}) == 8


def test_every_model_samples(tmp_path):
    """Take a flow without a condition, and models without likelihood, of which pix2pix takes temperature 1 alone."""
    page = page_of(make_run(tmp_path / "glow", "glow"), make_run(tmp_path / "pix2pix", "pix2pix"),
                   make_run(tmp_path / "edges", boundaries=True), make_run(tmp_path / "flow_matching", "flow_matching"))
    assert page.shelf.that_transfer == ["edges"]
    for name in page.shelf.names:
        status, pictures = last(page.sample(painting.encoded(halves()), name, 1, 0.5, 1.0, 0))
        assert ("bits/dim" in pictures[1][1]) == (name not in ("pix2pix", "flow_matching"))
        assert ("temperature" in status) == (name != "pix2pix")
        assert "guidance" not in status
    assert page.has("pix2pix") == {"temperature": None, "guidance": None}
    assert page.has("glow") == {"temperature": 0.8, "guidance": None}
    cold, warm = (last(page.sample(painting.encoded(halves()), "flow_matching", 1, temperature, 0.0, 0))[1][1][0]
                  for temperature in (0.0, 1.0))
    assert cold != warm


def test_samples_without_their_noise_have_no_likelihood(tmp_path):
    page = page_of(make_run(tmp_path / "noisy", noise=0.03))
    _, pictures = last(page.sample(painting.encoded(halves()), "noisy", 1, 0.5, 0.0, 0))
    assert pictures[1][1] == "without the noise, and so without a known likelihood"


def test_a_mark_is_named_beside_the_samples(run):
    colors = halves()
    colors[:20] = (255, 128, 255)
    status, pictures = last(page_of(run).sample(painting.encoded(colors), run.name, 1, 0.7, 0.0, 0))
    assert "has a colour that no class has, first at 0 from the left and 0 from the top" in status
    assert len(pictures) == 2


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_there_are_not(run, seed):
    with pytest.raises(ValueError, match="a whole number from 0"):
        last(page_of(run).sample(painting.encoded(halves()), run.name, 1, 0.7, 0.0, seed))


def test_content_is_transferred_as_by_the_script(run, tmp_path):
    data = write_pairs(tmp_path / "data", {"ulm": 3}, SIZE, "val")
    transfer.main([str(run), "--data", str(data), "--content", "1", "--structure", "2", "--seed", "4",
                   "--out", str(tmp_path / "out")])
    page = page_of(run, data=data)
    source = page.scenes.sources[0]
    status, pictures = last(page.transfer(run.name, (source, 1), (source, 2), "", 4))
    names = "ulm_000000_000001_content", "ulm_000000_000002_structure", \
        "ulm_000000_000001_on_ulm_000000_000002", "ulm_000000_000002_real"
    for place, name in zip((0, 2, 3, 4), names, strict=True):
        assert np.array_equal(pixels(pictures[place][0]), read(tmp_path / "out" / f"{name}.png")), name
    assert float(status.split(", to ")[1].split()[0]) < 1e-4


def test_content_is_put_on_what_was_painted(run):
    page = page_of(run)
    _, pictures = last(page.transfer(run.name, (scenes.GENERATED, 1), None, painting.encoded(halves()), None))
    assert [caption for _, caption in pictures] == ["content", "its label map", "structure", "content on the structure"]
    assert np.array_equal(pixels(pictures[2][0]), halves(SIZE))


def test_scenes_of_data_and_generated_ones(run, tmp_path):
    data = write_pairs(tmp_path / "data", {"ulm": 3}, (128, 256), "val")
    page = page_of(run, data=data)
    assert page.scenes.sources == ["data, val", "generated scenes"]
    assert pixels(page.scene(page.scenes.sources[0], 1)).shape == (*SIZE, 3)
    assert page.scene(page.scenes.sources[0], 1) == page.scene(page.scenes.sources[0], 4)
    assert page.scene(scenes.GENERATED, None) == page.scene(scenes.GENERATED, 0) != page.scene(scenes.GENERATED, 1)
    assert {page.any_number(page.scenes.sources[0]) for _ in range(50)} == {0, 1, 2}


@pytest.mark.parametrize(("size", "canvas"), [((32, 64), (128, 256)), ((96, 96), (192, 192)), ((256, 512), (256, 512)),
                                              ((1024, 2048), (512, 1024))])
def test_the_canvas_has_the_shape_of_the_images(size, canvas, tmp_path):
    assert page_of(make_run(tmp_path / "run", image_size=size)).canvas_size == canvas


# Runs


def curves(run, step, validated, age=0.0):
    """Write curves that end at a step, ten to an epoch, with the validation of an epoch."""
    rows = [f"{i},{1 + (i - 1) // 10},step,," for i in range(1, step + 1)]
    rows[10 * validated:10 * validated] = [f"{10 * validated},{validated},val,4.5,"] * (validated > 0)
    (run / "metrics.csv").write_text("\n".join(["step,epoch,split,bits_per_dim,images_per_second", *rows, ""]))
    os.utime(run / "metrics.csv", (time.time() - age,) * 2)


TRAINING = {"epochs": 6, "data_statistics": {"training_pairs": 40}}


def test_a_run_in_training_is_used_and_said_to_be(tmp_path):
    run = make_run(tmp_path / "run", "encoded_glow", **TRAINING)
    curves(run, 37, 3)
    page = page_of(run)
    page.shelf.check()
    status, pictures = last(page.sample(painting.encoded(halves()), "run", 1, 0.7, 0.0, 0))
    assert len(pictures) == 2
    assert "still being trained: step 37 of 60, epoch 4 of 6, conditional bits per dimension 4.500" in status
    assert "best weights so far are used, of epoch 3 or before" in status
    curves(run, 37, 3, age=3 * 3600)
    assert "not finished, last step 3 hours ago" in page.shelf.note("run")
    curves(run, 60, 6)
    assert page.shelf.note("run") == ""
    assert "trained to the end" in page.look("run")[0]


def test_new_weights_are_read(tmp_path):
    run = make_run(tmp_path / "run", "encoded_glow")
    page = page_of(run)
    first = page.shelf.run("run")
    assert page.shelf.run("run") is first
    weights.save_weights(first.model, run / "best.safetensors")
    os.utime(run / "best.safetensors", ns=(1, 1))
    assert page.shelf.run("run") is not first


def test_a_run_without_weights_may_get_some(tmp_path):
    run = make_run(tmp_path / "run", "encoded_glow", **TRAINING)
    curves(run, 7, 0)
    kept = (run / "best.safetensors").read_bytes()
    for file in run.glob("*.safetensors"):
        file.unlink()
    page = page_of(run)
    page.shelf.check()
    with pytest.raises(ValueError, match="no weights yet, it is still being trained: step 7 of 60, epoch 1 of 6: wait"):
        last(page.sample(painting.encoded(halves()), "run", 1, 0.7, 0.0, 0))
    (run / "model.safetensors").write_bytes(kept)  # as a run has that was stopped before its first validation
    assert last(page.sample(painting.encoded(halves()), "run", 1, 0.7, 0.0, 0))[1]
    (run / "best.safetensors").write_bytes(kept)
    assert page.shelf.run("run").weights.name == "best.safetensors"


def test_what_there_is_to_see_of_a_run(tmp_path):
    run = make_run(tmp_path / "run", "encoded_glow", **TRAINING)
    curves(run, 37, 3)
    for epoch in (1, 3):
        save(run / "samples" / f"epoch_{epoch:04d}.png", halves())
    text, plot, pictures, config = page_of(run).look("run")
    assert "encoded_glow" in text
    assert plot.axes[1].get_lines()[1].get_xydata().tolist() == [[30, 4.5]]
    assert [caption for _, caption in pictures] == ["epoch 3", "epoch 1"]
    assert np.array_equal(pixels(pictures[0][0]), halves())
    assert config["model"] == "encoded_glow"
    (run / "metrics.csv").unlink()
    assert page_of(run).look("run")[1] is None


def test_names_of_runs(tmp_path):
    assert shelf.short_names([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]
    assert shelf.short_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 seconds"), (150, "2 minutes"), (7300, "2 hours"),
                                               (10**6, "12 days")])
def test_times(seconds, text):
    assert progress.ago(seconds) == text


# The model of the first start


@pytest.fixture(scope="module")
def quick():
    """Fork the processes of trainings from one that has imported torch."""
    with quick_processes("streets.training.loop") as context, pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_run, "multiprocessing", SimpleNamespace(get_context=lambda kind: context))
        yield


@contextmanager
def starting(cache):
    first = first_run.FirstRun(cache, "cpu")
    first.start()
    try:
        yield first
    finally:
        first.stop()


def test_the_first_model_is_trained_stopped_gone_on_with_and_kept(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(first_run, "SETTINGS", {
        "image_size": (8, 16), "steps": (1,), "width": 4, "generated": 96, "init_pairs": 8, "epochs": 2})
    with starting(tmp_path) as first:
        page = handlers.Handlers(shelf.Shelf([first.path], "best", torch.device("cpu"), first.config),
                                 scenes.Scenes(None, "val"))
        page.shelf.check()
        assert "is being trained, once" in str(first)
        assert page.canvas_size == (128, 256)
        with pytest.raises(ValueError, match="no weights yet, it is about to begin"):
            page.shelf.run(page.shelf.names[0])
        until(lambda: progress.progress_of(first.path))
    assert first.process.exitcode == 75
    now = progress.progress_of(first.path)
    assert 0 < now.step < now.total == 48
    assert "small model of generated scenes is still being trained" in str(first)
    with starting(tmp_path) as first:
        first.process.join(60)
        assert first.process.exitcode == 0, first.log.read_text()
    assert f"after step {now.step}" in first.log.read_text()
    with starting(tmp_path) as first:
        assert first.process is None  # nothing is left to train
    assert last(page.sample(page.scene(scenes.GENERATED, 0), page.shelf.names[0], 1, 0.9, 1.0, 0))[1]


def test_a_first_model_that_fails_says_why(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(first_run, "SETTINGS", {"steps": (1,), "image_size": (7, 16)})
    with starting(tmp_path) as first:
        first.process.join(60)
        assert str(first).endswith("app.py: error: --image-size 7 16: 1 levels expect multiples of 2")


# The command line


def test_the_page_is_served_until_a_stop_is_asked_for(run, capsys):
    pytest.importorskip("gradio", reason="gradio is missing: pip install 'condflows[demo]'")
    stop = Stop()
    stop.status = INTERRUPTED
    serving.serve(Config(runs=(run,)), stop)
    said = capsys.readouterr().out
    assert said.startswith("the page is at http://127.0.0.1:")
    with socket.socket() as taken:
        taken.bind((serving.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port}: other programs use it; give another"):
            serving.serve(Config(runs=(run,), port=port), stop)


def test_a_machine_without_gradio(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'condflows[demo]'" in line_of_mistake(app.main, capsys, run)


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Config().cache == tmp_path / "condflows"


# Runs of other labels


@pytest.fixture(scope="module")
def of_labels(tmp_path_factory):
    """Make pairs with a label set of their own, and a run of them; return their place."""
    place = tmp_path_factory.mktemp("labels")
    (place / "own.csv").write_text("name,id,red,green,blue\nground,3,90,90,90\ndisc,10,220,60,60\nwall,20,220,64,60\n")
    ids = np.full((16, 32), 3, np.uint8)
    ids[4:8, 8:16], ids[8:12, 20:28] = 10, 20
    for split in ("train", "val"):
        for i in range(4):
            write(place / "data/leftImg8bit" / split / "a" / f"a_{i}_leftImg8bit.png", np.stack([ids * 8] * 3, 2))
            write(place / "data/gtFine" / split / "a" / f"a_{i}_gtFine_labelIds.png", np.roll(ids, i, 1))
    train.main(["--data", str(place / "data"), "--labels", str(place / "own.csv"), "--image-size", "16", "32",
                "--steps", "1", "1", "--width", "4", "--batch-size", "4", "--epochs", "1", "--init-pairs", "4",
                "--device", "cpu", "--out", str(place / "run")])
    return place


def page_for(place, *runs):
    """Return what answers to a page, checked and with its scenes, as app.py makes it."""
    page = shelf.Shelf([place / "run", *runs], "best", torch.device("cpu"))
    page.check()
    return handlers.Handlers(page, serving.scenes_of(page, Config(runs=(place / "run",))))


def test_a_run_of_other_labels_has_its_own_palette_and_scenes(of_labels):
    page = page_for(of_labels)
    assert [label.name for label in page.palette.labels] == ["ground", "disc", "wall"]
    assert page.palette.close < 2  # the last two are 4 apart
    assert page.scenes.sources == ["data, val"]
    colors = pixels(page.scene("data, val", 1))
    assert {*map(tuple, colors.reshape(-1, 3).tolist())} == {(90, 90, 90), (220, 60, 60), (220, 64, 60)}
    drawing = painting.read(painting.encoded(colors), page.palette)
    assert np.array_equal(drawing.ids, page.scenes.item("data, val", 1, (16, 32))["label"])
    _, pictures = last(page.sample(painting.encoded(colors), "run", 2, 0.7, 0.0, 1))
    assert np.array_equal(pixels(pictures[0][0]), colors)
    assert len(pictures) == 3
    colors[:8, :8] = (0, 255, 0)
    drawing = painting.read(painting.encoded(colors), page.palette)
    assert (drawing.ids[:4, :4] == 3).all()
    assert drawing.foreign[:4, :4].all()
    assert "count as ground" in drawing.note
    _, pictures = last(page.transfer("run", ("data, val", 0), ("data, val", 1), "", 0))
    assert len(pictures) == 5


def test_runs_of_two_label_sets_have_no_page(of_labels, tmp_path):
    with pytest.raises(ValueError, match=r"is a run of the labels cityscapes, and .*run of own.csv: the page has one"):
        page_for(of_labels, make_run(tmp_path / "other", "encoded_glow"))


def test_a_run_of_other_labels_needs_data(of_labels, tmp_path):
    shutil.copytree(of_labels / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "nowhere")}))
    with pytest.raises(ValueError, match="of which no scenes are generated: give --data with some"):
        page_for(tmp_path)


# Runs of pairs of images


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    return train_on_images(tmp_path_factory.mktemp("pairs"))


def page_of_images(place, data=None):
    runs = shelf.Shelf([place / "run"], "best", torch.device("cpu"))
    runs.check()
    return handlers.Handlers(runs, serving.scenes_of(runs, Config(runs=(place / "run",), data=data)))


def test_a_run_of_images_samples_a_pair_of_its_data_or_a_file(of_images):
    page = page_of_images(of_images)
    (source,) = page.scenes.sources
    assert source == "data, val"
    assert page.scenes.count(source, (8, 16)) == 4
    text, pictures = last(page.sample_given(None, source, 3, "run", 2, 0.7, 0, 5))
    assert text == "2 samples of run, seed 5, temperature 0.7."
    assert (pixels(pictures[0][0]) == 120).all()
    assert [caption.partition(" ")[2].startswith("bits/dim") for _, caption in pictures] == [False, True, True]
    of_file = last(page.sample_given(str(of_images / "data/A/val/3.png"), source, 0, "run", 2, 0.7, 0, 5))[1]
    assert of_file[0][0] == pictures[0][0]
    run = Run(of_images / "run")
    item = page.scenes.item(source, 3, (8, 16))
    drawn = draw(run, item, 0, 0.7, 5)
    assert drawn.max() > 255  # of 16 bits, which are shown in 8
    assert abs(pixels(pictures[1][0])[..., 0] - (drawn[0] / 257).numpy()).max() <= 0.5


def test_halves_of_the_runs_are_those_of_the_page(of_images, tmp_path):
    halves = tmp_path / "halves"
    for side in ("left", "right"):
        make_run(tmp_path / side, image_size=[8, 16], side=side, data=str(halves), has_label_maps=False)
    for split in ("train", "val"):
        write(halves / split / "0.png", np.repeat(np.array([[[10] * 3, [20] * 3]], np.uint8), 4, axis=1))

    def page(*runs, data=None):
        found = shelf.Shelf([tmp_path / run for run in runs], "best", torch.device("cpu"))
        found.check()
        return serving.scenes_of(found, Config(runs=tuple(tmp_path / run for run in runs), data=data))

    for run, value in (("left", 10), ("right", 20)):
        assert (page(run).item("halves, val", 0, (8, 16))["condition"] == value).all()
    with pytest.raises(ValueError, match="give runs that were trained with the same --side"):
        page("left", "right")
    assert page("left", "right", data=of_images / "data").count("data, val", (8, 16)) == 4


def test_a_run_of_images_whose_data_have_gone_takes_files(of_images, tmp_path):
    gone = tmp_path / "place"
    shutil.copytree(of_images / "run", gone / "run")
    config = json.loads((gone / "run" / "config.json").read_text())
    (gone / "run" / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "nowhere")}))
    page = page_of_images(gone)
    assert page.scenes.sources == []
    with pytest.raises(ValueError, match="choose a file"):
        last(page.sample_given(None, None, None, "run", 1, 1.0, 0, 0))
    assert len(last(page.sample_given(str(of_images / "data/A/val/1.png"), None, None, "run", 1, 1.0, 0, 0))[1]) == 2
    other = page_of_images(gone, of_images / "data")
    assert other.scenes.sources == ["data, val"]
    with pytest.raises(ValueError, match="expected 1 channel of 8 bits in"):
        last(other.sample_given(str(of_images / "data/B/val/1.png"), None, None, "run", 1, 1.0, 0, 0))
