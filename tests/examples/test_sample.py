"""sample.py as a user calls it: pictures of all models, synthetic sets by many processes and after kills, misuse."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import SCRIPTS, SIZE, files, line_of_mistake, make_run, quick_processes, read, save, until
from torch.utils.data import default_collate

import condflows
import sample
from models import MODELS
from streets.data import cityscapes, drawn, reading
from streets.data.label_sets import CITYSCAPES
from streets.data.pairs import to_bytes
from streets.runs import pictures, weights
from streets.runs.run import Run
from streets.system import devices
from streets.system.seeds import seed_of
from streets.using import augmenting

SCRIPT = SCRIPTS / "sample.py"
NAME = "ulm_000000_000019"
refused = partial(line_of_mistake, sample.main)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "full_glow")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write five pairs with instances in the Cityscapes layout, larger than they are sampled."""
    root = tmp_path_factory.mktemp("data")
    scenes = drawn.StreetScenes("train", (48, 96), length=5)
    for i, item in enumerate(scenes):
        city = ("aachen", "ulm")[i % 2]
        name = f"{city}_000000_{19 * i:06d}"
        photo, maps = (root / kind / "train" / city for kind in ("leftImg8bit", "gtFine"))
        for folder in (photo, maps):
            folder.mkdir(parents=True, exist_ok=True)
        save(photo / f"{name}_leftImg8bit.png", item["photo"].permute(1, 2, 0).numpy())
        save(maps / f"{name}_gtFine_labelIds.png", item["label"].numpy())
        save(maps / f"{name}_gtFine_instanceIds.png", item["instances"].numpy().astype(np.uint16))
    return root


def ids_of(root):
    return root / "gtFine" / "train" / "ulm" / f"{NAME}_gtFine_labelIds.png"


def photo_of(root):
    return root / "leftImg8bit" / "train" / "ulm" / f"{NAME}_leftImg8bit.png"


def call(*arguments):
    sample.main([str(argument) for argument in arguments])


# Pictures


@pytest.mark.parametrize("model", MODELS)
def test_every_model_samples(model, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", model), tmp_path / "out"
    call(run, "--scenes", 2, "--samples", 2, "--out", out)
    names = [f"val_000003_{i:06d}" for i in (0, 5)]  # an eighth of the generated training scenes
    assert set(files(out)) == {"grid.png"} | {
        f"{name}_{kind}.png" for name in names for kind in ("condition", "sample_0", "sample_1")}
    scenes = drawn.StreetScenes("val", SIZE, seed=3)
    for name, index in zip(names, (0, 5), strict=True):
        assert np.array_equal(read(out / f"{name}_condition.png"), scenes[index]["condition"].permute(1, 2, 0).numpy())
        first, second = (read(out / f"{name}_sample_{k}.png") for k in (0, 1))
        assert first.shape == second.shape == (*SIZE, 3)
        assert not np.array_equal(first, second)
    grid = read(out / "grid.png")
    assert grid.shape == (2 * (96 + 2) - 2, 4 * (192 + 2) - 2, 3)
    cells = grid[:96:3, ::3][:, :64], grid[:96:3, 194:386:3], grid[98::3, 3 * 194::3]
    assert np.array_equal(cells[0], read(out / f"{names[0]}_condition.png"))
    assert np.array_equal(cells[1], scenes[0]["photo"].permute(1, 2, 0).numpy())
    assert np.array_equal(cells[2], read(out / f"{names[1]}_sample_1.png"))
    assert str(out) in capsys.readouterr().out


def test_other_sizes(run, tmp_path):
    call(run, "--scenes", 1, "--samples", 1, "--image-size", 64, 128, "--out", tmp_path / "out")
    assert read(tmp_path / "out" / "val_000003_000000_sample_0.png").shape == (64, 128, 3)


def test_a_sample_depends_on_seed_name_and_number_alone(run, root, tmp_path):
    def sampled(out, *arguments):
        call(run, "--data", root, "--split", "train", "--out", tmp_path / out, *arguments)
        return {name: value for name, value in files(tmp_path / out).items() if "sample" in name}

    all_of_them = sampled("a", "--scenes", 5, "--samples", 2)
    assert len(set(all_of_them.values())) == 10
    alone = sampled("b", "--indices", "ulm_000000_000019", 1, "--samples", 1)
    assert alone == {name: all_of_them[name] for name in alone}
    assert set(alone) == {"ulm_000000_000019_sample_0.png", "aachen_000000_000038_sample_0.png"}
    other = sampled("c", "--indices", 1, "--samples", 1, "--seed", 1)
    assert other["aachen_000000_000038_sample_0.png"] != all_of_them["aachen_000000_000038_sample_0.png"]


def test_several_temperatures(run, tmp_path):
    out = tmp_path / "out"
    call(run, "--scenes", 1, "--samples", 2, "--temperature", 0, 0.5, 1, "--out", out)
    values = {t: [read(out / f"val_000003_000000_temperature_{t}_sample_{k}.png").astype(float) for k in (0, 1)]
              for t in ("0", "0.5", "1")}
    apart = [np.abs(first - second).mean() for first, second in values.values()]
    assert apart[0] == 0 < apart[1] < apart[2]
    assert read(out / "grid.png").shape[1] == (2 + 6) * 194 - 2
    call(run, "--scenes", 1, "--samples", 1, "--temperature", 0.5, "--out", tmp_path / "one")
    assert np.array_equal(read(tmp_path / "one" / "val_000003_000000_sample_0.png"), values["0.5"][0])


def test_a_temperature_for_each_level(run, tmp_path):
    """Compare with the flow itself, whose noise is scaled by hand: the first channels of a squeeze go on."""
    options = "--scenes", 1, "--samples", 1
    call(run, *options, "--temperature", "1.2,0.5", "1,1", 1, "--out", tmp_path)
    of = {name: next(read(path) for path in tmp_path.glob(f"*_temperature_{name}_sample_0.png"))
          for name in ("1.2,0.5", "1,1", "1")}
    assert np.array_equal(of["1,1"], of["1"])
    assert not np.array_equal(of["1.2,0.5"], of["1"])
    opened = Run(run)
    item = drawn.StreetScenes("val", SIZE, 6, 3)[0]
    context = opened.pairs().context(default_collate([item]))
    factors = torch.full((1, 12, 16, 32), 1.2)
    factors[:, :6] = 0.5
    factors = torch.nn.functional.pixel_shuffle(factors, 2)[0]
    noise = torch.Generator().manual_seed(seed_of(0, "sample", item["name"], 0))
    with torch.no_grad():
        expected = opened.model.sample(1, context, factors, noise)[0, 0]
    assert np.array_equal(to_bytes(expected).permute(1, 2, 0).numpy(), of["1.2,0.5"])


def test_guided_samples(run, tmp_path, capsys):
    """Compare with the guided flow itself; without the option samples are as the training's pictures are."""
    path = make_run(tmp_path / "guided", "encoded_glow", label_dropout=0.1, guidance=1.5)
    options = "--scenes", 1, "--samples", 1
    for name, more in {"default": (), "same": ("--guidance", 1.5), "none": ("--guidance", 0)}.items():
        call(path, *options, *more, "--out", tmp_path / name)
    of = {name: read(next((tmp_path / name).glob("*_sample_0.png"))) for name in ("default", "same", "none")}
    assert np.array_equal(of["default"], of["same"])
    assert not np.array_equal(of["default"], of["none"])
    opened, item = Run(path), drawn.StreetScenes("val", SIZE, 6, 3)[0]
    noise = torch.Generator().manual_seed(seed_of(0, "sample", item["name"], 0))
    with torch.no_grad():
        guided = condflows.guide(opened.model, 1.5, nothing=255)
        expected = guided.sample(1, item["label"][None, None], 0.8, noise)[0, 0]
    assert np.array_equal(to_bytes(expected).permute(1, 2, 0).numpy(), of["default"])
    assert "was not trained with --label-dropout" in refused(capsys, run, "--guidance", 1, "--out", tmp_path / "other")


def test_training_ids_become_label_ids(tmp_path):
    path = tmp_path / "a_gtFine_labelTrainIds.png"
    Image.fromarray(np.array([[0, 10], [13, 255]], np.uint8)).save(path)
    assert reading.read_label_map(path)["label"].tolist() == [[7, 23], [26, 0]]


def test_label_maps_of_files(run, root, tmp_path):
    """Compare ids with the same map in colours, also with a palette or transparency: the samples are the same."""
    colors = Image.fromarray(CITYSCAPES.colorize(read(ids_of(root))))
    variants = {"RGB": colors, "RGBA": colors.convert("RGBA"), "P": colors.quantize(256, dither=Image.Dither.NONE)}
    expected = None
    for kind, image in variants.items():
        path = tmp_path / kind / f"{NAME}_gtFine_color.png"
        path.parent.mkdir()
        image.save(path)
        call(run, "--label-maps", path, "--samples", 1, "--out", tmp_path / f"{kind}_out")
        expected = expected or files(tmp_path / f"{kind}_out")
        assert files(tmp_path / f"{kind}_out") == expected
    call(run, "--label-maps", ids_of(root), "--samples", 1, "--out", tmp_path / "ids_out")
    assert files(tmp_path / "ids_out") == expected
    assert read(tmp_path / "ids_out" / "grid.png").shape[1] == 2 * 194 - 2


def test_boundaries_of_a_label_map(root, tmp_path):
    run = make_run(tmp_path / "run", boundaries=True)
    call(run, "--label-maps", ids_of(root), "--samples", 1, "--out", tmp_path / "out")
    call(run, "--data", root, "--split", "train", "--indices", NAME, "--samples", 1, "--out", tmp_path / "same")
    name = f"{NAME}_sample_0.png"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


def test_photos_to_label_maps(root, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", direction="photo2label"), tmp_path / "out"
    call(run, "--photos", photo_of(root), "--samples", 1, "--out", out)
    call(run, "--data", root, "--split", "train", "--indices", NAME, "--samples", 1, "--out",
         tmp_path / "same")
    for kind in ("condition", "sample_0"):
        name = f"{NAME}_{kind}.png"
        assert (out / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    assert "--photos" in refused(capsys, run, "--label-maps", photo_of(root), "--out", tmp_path / "no")
    assert "photo2label" in refused(capsys, run, "--augment", tmp_path / "no")


def test_the_readers_keep_the_size_of_a_file(root):
    item = reading.read_label_map(ids_of(root))
    assert item.keys() == {"condition", "label", "instances", "name"}
    assert item["name"] == NAME
    assert np.array_equal(item["label"].numpy(), read(ids_of(root)))
    assert item["instances"].dtype == torch.int32
    photo = reading.read_photo(photo_of(root))["photo"]
    assert np.array_equal(photo.permute(1, 2, 0).numpy(), read(photo_of(root)))
    small = cityscapes.Cityscapes(root, "train", (16, 32))
    expected = small[small.names.index(item["name"])]
    came = reading.read_label_map(ids_of(root), (16, 32)) | reading.read_photo(photo_of(root), (16, 32))
    assert came.keys() == expected.keys()
    assert all(np.array_equal(came[key], expected[key]) for key in came)


# Synthetic data sets


def augment(run, root, out, *arguments):
    call(run, "--data", root, "--split", "train", "--samples", 2, "--augment", out, *arguments)


@pytest.fixture(scope="module")
def augmented(run, root, tmp_path_factory):
    out = tmp_path_factory.mktemp("augmented") / "set"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on which the bytes may depend
    augment(run, root, out)
    torch.set_num_threads(threads)
    return out


def test_a_synthetic_set_is_a_cityscapes_set(run, root, augmented, tmp_path):
    real, made = cityscapes.Cityscapes(root, "train", SIZE), cityscapes.Cityscapes(augmented, "train", SIZE)
    assert len(made) == 10
    call(run, "--data", root, "--split", "train", "--scenes", 5, "--samples", 2, "--out", tmp_path)
    for item in made:
        city, sequence, frame = item["name"].split("_")
        assert (frame[0], len(frame)) == ("9", 10)
        origin = f"{city}_{sequence}_{frame[4:]}"
        expected = real[real.names.index(origin)]
        for key in ("label", "instances"):
            assert torch.equal(item[key], expected[key])
        sampled = read(tmp_path / f"{origin}_sample_{int(frame[1:4])}.png")
        assert np.array_equal(item["photo"].permute(1, 2, 0).numpy(), sampled)


def test_some_cities_are_sampled(run, root, augmented, tmp_path, capsys):
    augment(run, root, tmp_path / "set", "--cities", "ulm")
    made = {name: data for name, data in files(tmp_path / "set").items() if name != "augment.json"}
    assert made == {name: data for name, data in files(augmented).items() if "/ulm/" in name}
    assert made
    assert "cities" in refused(capsys, run, "--data", root, "--split", "train", "--samples", 2, "--augment",
                               tmp_path / "set")


def test_the_official_tools_can_tell_the_files(root, augmented):
    """Check names as the tools read them: taken apart at underscores, a frame's files by the beginning."""
    names = [path.name for folder in (root, augmented) for path in folder.glob("leftImg8bit/*/*/*.png")]
    assert len(names) == 15
    for name in names:
        assert len(name.split("_")) == 4
        assert sum(other.startswith("_".join(name.split("_")[:3])) for other in names) == 1


def test_shards_are_the_whole_set(run, root, augmented, tmp_path, capsys):
    for shard in (1, 0):
        augment(run, root, tmp_path / "set", "--shard", shard, "--num-shards", 2)
    assert "6 pairs written, 0 were there (shard 0 of 2)" in capsys.readouterr().out
    assert files(tmp_path / "set") == files(augmented)
    augment(run, root, tmp_path / "set", "--shard", 6, "--num-shards", 7)  # fewer scenes than shards
    assert files(tmp_path / "set") == files(augmented)


def test_a_killed_run_is_continued(run, root, augmented, tmp_path, monkeypatch, capsys):
    out, original, calls = tmp_path / "set", pictures.save_values, []

    def killed(image, path):
        calls.append(path)
        if len(calls) == 12:  # between the label map and the photo of the fourth pair
            raise KeyboardInterrupt
        original(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(augmenting, "save_values", killed)
        with pytest.raises(SystemExit) as stop:
            augment(run, root, out)
    assert stop.value.code == 130
    assert len(cityscapes.Cityscapes(out, "train", SIZE, skip_unpaired=True)) == 3
    kept = {path: path.stat().st_mtime_ns for path in out.glob("leftImg8bit/*/*/*.png")}
    augment(run, root, out)
    assert "7 pairs written, 3 were there" in capsys.readouterr().out
    assert files(out) == files(augmented)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


def test_lost_files_are_made_again(run, root, augmented, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(augmented, out)
    for path in list(out.glob("leftImg8bit/*/*/*.png"))[::3]:
        path.unlink()
    augment(run, root, out)
    assert files(out) == files(augmented)


def test_other_settings_do_not_mix(run, root, augmented, capsys):
    before = files(augmented)
    arguments = run, "--data", root, "--split", "train", "--augment", augmented
    said = refused(capsys, *arguments, "--samples", 2, "--temperature", 0.5, "--seed", 1)
    assert "made with temperature 0.8, seed 0, asked for now is temperature 0.5, seed 1:" in said
    assert "samples 2, asked for now is samples 5:" in refused(capsys, *arguments)
    shard = refused(capsys, *arguments, "--samples", 2, "--weights", "last", "--shard", 0, "--num-shards", 3)
    assert "asked for now is weights last, sha256 " in shard
    assert files(augmented) == before
    assert [path.name for path in augmented.iterdir() if path.is_file()] == ["augment.json"]
    manifest = json.loads((augmented / "augment.json").read_text())
    assert (manifest["run"], manifest["seed"], manifest["temperature"]) == (str(run), 0, 0.8)


def test_painted_maps_make_a_set_too(run, root, tmp_path):
    """Leave out instances where not all maps have them."""
    save(tmp_path / "painted.png", CITYSCAPES.colorize(np.full(SIZE, 7)))
    call(run, "--label-maps", tmp_path / "painted.png", ids_of(root), "--samples", 1, "--augment", tmp_path / "set")
    made = cityscapes.Cityscapes(tmp_path / "set", "val", SIZE)
    assert [set(item) for item in made] == [{"photo", "condition", "label", "name"}] * 2


# Synthetic data sets by many processes


def work(arguments, number=0, world=1, barrier=None, last=None):
    """Do the work of one process of torchrun; with ``last``, up to that operation on the files of the data set."""
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    left, out = [None] * (last or 0), str(arguments[arguments.index("--augment") + 1])

    def count(event, operands):
        if event in ("open", "os.mkdir", "os.rename", "os.link", "os.remove") and str(operands[0]).startswith(out):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left.pop()

    if last is not None:
        sys.addaudithook(count)
    if barrier:
        barrier.wait(60)
    call(*arguments)


@pytest.fixture(scope="module")
def start():
    """Start processes; each is there at once, for its imports are those of a process that it is forked from."""
    with quick_processes(__name__) as context:
        def start(target, *several):
            started = [context.Process(target=target, args=arguments, daemon=True) for arguments in several]
            for process in started:
                process.start()
            return started

        start.barrier = context.Barrier
        yield start


def join(started):
    for process in started:
        process.join(120)
    return [process.exitcode for process in started]


def finished(out):
    """Identify the file at the place of each picture, and its time; half-written ones beside them do not count."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*_gtFine_*.png")} | {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*_leftImg8bit.png")}


def test_torchrun_makes_the_set_of_one_process(run, root, augmented, tmp_path):
    out = tmp_path / "set"
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT, run, "--data",
         root, "--split", "train", "--samples", "2", "--augment", out],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [f"{out}: 4 pairs written, 0 were there (shard 1 of 2)",
                                                  f"{out}: 6 pairs written, 0 were there (shard 0 of 2)"]
    assert "scenes of shard" not in result.stderr  # in a log short work has no line
    assert files(out) == files(augmented)


def test_processes_that_are_killed_again_and_again(run, root, tmp_path, start):
    """Go on with any number of processes: all files are whole, and none that was there is touched."""
    out, rng = tmp_path / "set", random.Random(0)
    arguments = [run, "--data", root, "--split", "train", "--samples", 8, "--augment"]
    join(start(work, ([*arguments, tmp_path / "one"],)))
    whole, there = files(tmp_path / "one"), {}
    assert len(whole) == 5 * 8 * 3 + 1
    for world, options in ((1, False), (2, False), (3, True), (1, False), (2, True), (3, False)):
        started = start(work, *(([*arguments, out, "--shard", i, "--num-shards", world],) if options else
                                ([*arguments, out], i, world) for i in range(world)))
        enough = len(there) + rng.randint(1, 18)
        until(lambda enough=enough: len(finished(out)) >= enough, seconds=60)
        time.sleep(rng.uniform(0, 0.01))
        for process in started:
            process.kill()
        ended = set(join(started))
        assert -signal.SIGKILL in ended
        assert ended <= {0, -signal.SIGKILL}  # a shard may be whole before others have begun
        now = finished(out)
        assert now.items() >= there.items()
        assert len(there) < len(now) < len(whole) - 1
        there = now
        assert all(path.read_bytes() == whole[str(path.relative_to(out))] for path in there)
        photos = len(list(out.rglob("*_leftImg8bit.png")))
        assert not photos or len(cityscapes.Cityscapes(out, "train", SIZE, skip_unpaired=True)) == photos
    assert join(start(work, *(([*arguments, out], i, 2) for i in range(2)))) == [0, 0]
    assert files(out) == whole
    assert finished(out).items() >= there.items()


def test_a_kill_before_each_operation(run, tmp_path, start):
    save(tmp_path / "painted.png", np.full(SIZE, 7, np.uint8))
    arguments = [run, "--label-maps", tmp_path / "painted.png", "--samples", 1, "--augment"]
    call(*arguments, tmp_path / "one")
    whole, killed, last = files(tmp_path / "one"), {-signal.SIGKILL}, 0
    while killed == {-signal.SIGKILL}:
        several = [([*arguments, tmp_path / f"{i}" / "set"], 0, 1, None, i) for i in range(last, last + 4)]
        killed = set(join(start(work, *several)))
        for i in range(last, last + 4):
            out = tmp_path / f"{i}" / "set"
            there = finished(out)
            call(*arguments, out)
            assert files(out) == whole, i
            assert finished(out).items() >= there.items(), i
        last += 4
    assert killed <= {0, -signal.SIGKILL}
    assert last > 20


def test_processes_that_overlap(run, root, augmented, tmp_path, start):
    """Begin a job again while processes of the old one live: they write the same, and none harms the others."""
    out = tmp_path / "set"
    arguments, barrier = [run, "--data", root, "--split", "train", "--samples", 2, "--augment", out], start.barrier(5)
    shards = [(0, 1), (0, 1), (0, 1), (0, 2), (1, 2)]
    assert join(start(work, *((arguments, *shard, barrier) for shard in shards))) == [0] * 5
    assert files(out) == files(augmented)


def save_together(folder, rounds, barrier):
    picture = torch.arange(3 * 200 * 200).reshape(3, 200, 200).to(torch.uint8)
    for i in range(rounds):
        barrier.wait(60)
        augmenting.save_once(picture, folder / f"{i}.png")
        assert torch.equal(reading.read_photo(folder / f"{i}.png")["photo"], picture)


def test_a_picture_of_several_processes(tmp_path, start):
    barrier = start.barrier(3)
    assert join(start(save_together, *[(tmp_path, 25, barrier)] * 3)) == [0] * 3
    assert len(files(tmp_path)) == 25


def claim(folder, seed, rounds, barrier):
    for i in range(rounds):
        barrier.wait(60)
        try:
            augmenting.claim(folder / str(i), {"seed": seed})
            for name in ("leftImg8bit", f"won_by_{seed}"):
                (folder / str(i) / name).mkdir(exist_ok=True)
        except ValueError as error:
            (folder / f"{i}_refused_{seed}").write_text(str(error))


@pytest.mark.parametrize("seeds", [(0, 0, 0), (0, 1, 1)], ids=["same", "different"])
def test_starts_at_the_same_moment(seeds, tmp_path, start):
    """Start several in a new directory: those with the settings of the first one go on, and only those."""
    rounds, barrier = 100, start.barrier(3)
    assert join(start(claim, *((tmp_path, seed, rounds, barrier) for seed in seeds))) == [0] * 3
    for i in range(rounds):
        won = json.loads((tmp_path / str(i) / "augment.json").read_text())["seed"]
        names = {path.name for path in (tmp_path / str(i)).iterdir()}
        assert names == {"augment.json", "leftImg8bit", f"won_by_{won}"}
        refused = {int(path.name[-1]): path.read_text() for path in tmp_path.glob(f"{i}_refused_*")}
        assert refused.keys() == set(seeds) - {won}
        assert all(f"made with seed {won}, asked for now is seed {seed}:" in said for seed, said in refused.items())


def test_another_start_between_any_two_lines(tmp_path):
    """Check that settings and pictures of another process are no mistake, whatever this one has looked at by then."""
    def claim(line):
        root, left = tmp_path / str(line), [None] * line

        def trace(frame, event, _):
            if frame.f_code is not augmenting.claim.__code__:
                return None
            if event == "line":
                if not left:
                    (root / "leftImg8bit").mkdir(parents=True, exist_ok=True)
                    (root / "augment.json").write_text('{"seed": 0}')
                    sys.settrace(None)
                else:
                    left.pop()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            augmenting.claim(root, {"seed": 0})
        finally:
            sys.settrace(before)
        assert {path.name for path in root.iterdir()} <= {"augment.json", "leftImg8bit"}
        return (root / "leftImg8bit").exists()

    lines = 0
    while claim(lines):
        lines += 1
    assert lines > 8


def test_a_file_system_without_links(run, root, augmented, tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError("links are not supported")

    monkeypatch.setattr("os.link", link)
    augment(run, root, tmp_path / "set")
    assert files(tmp_path / "set") == files(augmented)


def test_several_processes_take_no_shards_and_make_no_pictures(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "start it without torchrun" in refused(capsys, run, "--out", out)
    assert "leave them out" in refused(capsys, run, "--augment", out, "--shard", 1, "--num-shards", 2)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stop:
        call(run, "--augment", out, "--temperature", -1)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("process 1: sample.py: error: --temperature -1")
    assert not out.exists()


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.empty", lambda *_, **__: None)
    assert [devices.choose_device(name) for name in (None, "cuda")] == [torch.device("cuda")] * 2
    for name, value in (("WORLD_SIZE", 4), ("RANK", 3), ("LOCAL_RANK", 1)):  # the second of the second machine
        monkeypatch.setenv(name, str(value))
    assert [str(devices.choose_device(name)) for name in (None, "cuda", "cuda:0", "cpu")] == [
        "cuda:1", "cuda:1", "cuda:0", "cpu"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="no GPU for process 3, number 2 of a machine with 2 GPUs: start one for"):
        devices.choose_device(None)


# Mistakes


MISTAKES = {
    "no output": ([], "--out DIR"),
    "two outputs": (["--out", "OUT", "--augment", "OUT"], "--augment DIR"),
    "size that the levels do not divide": (["--out", "OUT", "--image-size", "32", "66"], "multiples of 4"),
    "negative temperature": (["--out", "OUT", "--temperature", "0.5", "-0.5"], "--temperature -0.5"),
    "no number": (["--out", "OUT", "--temperature", "nan"], "--temperature nan"),
    "no samples": (["--out", "OUT", "--samples", "0"], "--samples 0"),
    "no scenes": (["--out", "OUT", "--scenes", "0"], "--scenes 0"),
    "index out of range": (["--out", "OUT", "--indices", "6"], "no scene 6 among the 6: give an index from 0 to 5"),
    "unknown name": (["--out", "OUT", "--indices", "ulm"], "no scene ulm among the 6"),
    "twice the same": (["--out", "OUT", "--indices", "1", "val_000003_000001"], "val_000003_000001"),
    "no such data": (["--out", "OUT", "--data", "nowhere"], "nowhere"),
    "a temperature too many": (["--out", "OUT", "--temperature", "1,1,1"], "1,1,1: full_glow has 2 levels"),
    "a temperature of words": (["--out", "OUT", "--temperature", "1,hot"], "Numbers joined by commas"),
    "a negative level": (["--out", "OUT", "--temperature", "1,-1"], "--temperature 1,-1: a finite number"),
    "split without pairs": (["--out", "OUT", "--data", "ROOT", "--split", "middle"], "Cityscapes with train"),
    "unknown split": (["--out", "OUT", "--split", "middle"], "'middle'"),
    "no such file": (["--out", "OUT", "--label-maps", "nowhere.png"], "nowhere.png"),
    "photos for label2photo": (["--out", "OUT", "--photos", "a.png"], "--label-maps"),
    "files and data": (["--out", "OUT", "--label-maps", "a.png", "--indices", "3"], "leave out --data, --cities"),
    "no such device": (["--out", "OUT", "--device", "abacus"], "--device abacus"),
    "no such shard": (["--augment", "OUT", "--shard", "2", "--num-shards", "2"], "--shard 2"),
    "two temperatures": (["--augment", "OUT", "--temperature", "0", "1"], "one --temperature"),
    "replacing a set": (["--augment", "OUT", "--overwrite"], "remove"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_status_2(mistake, run, root, tmp_path, capsys):
    arguments, message = MISTAKES[mistake]
    places = {"OUT": str(tmp_path / "out"), "ROOT": str(root)}
    assert message in refused(capsys, run, *(places.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "out").exists()


def test_mistaken_runs(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert str(tmp_path / "nowhere") in refused(capsys, tmp_path / "nowhere", "--out", out)
    other = make_run(tmp_path / "other", "c_flow")
    shutil.copy(run / "best.safetensors", other)
    assert "belongs to another model" in refused(capsys, other, "--out", out)
    for model, message in (("pix2pix", "--temperature 0.5: pix2pix has none"), ("glow", "--augment")):
        path = make_run(tmp_path / model, model)
        arguments = ["--out", out, "--temperature", 0.5] if model == "pix2pix" else ["--augment", out]
        assert message in refused(capsys, path, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(("array", "message"), [
    (np.full(SIZE, 77, np.uint8), "got 77"),
    (np.full(SIZE, 300, np.uint16), "got 300"),
    (np.full((*SIZE, 3), (128, 64, 127), np.uint8), "the colour (128, 64, 127), first found at pixel (0, 0)"),
])
def test_values_outside_the_table_are_named(array, message, run, tmp_path, capsys):
    path = tmp_path / "painted.png"
    save(path, array)
    said = refused(capsys, run, "--label-maps", path, "--out", tmp_path / "out")
    assert message in said
    assert str(path) in said
    assert ("antialiasing" in said) == (array.ndim == 3)
    assert not (tmp_path / "out").exists()


def test_antialiased_colours_are_refused(run, tmp_path, capsys):
    painted = Image.new("RGB", (128, 64), (70, 130, 180))
    painted.paste((128, 64, 128), (0, 30, 128, 64))
    painted.resize((70, 40), Image.Resampling.BILINEAR).save(tmp_path / "painted.png")
    said = refused(capsys, run, "--label-maps", tmp_path / "painted.png", "--out", tmp_path / "out")
    assert re.search(r"the colour \(\d+, \d+, \d+\), first found at pixel \(\d+, 0\): paint", said)


def test_used_and_unwritable_directories(run, root, tmp_path, capsys, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "grid.png").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("streets.using.sampling.draw", lambda *_: pytest.fail("sampled"))
        for out in (used, used / "grid.png"):
            assert str(out) in refused(capsys, run, "--out", out)
        assert "in use for something else" in refused(capsys, run, "--augment", used)
        for option in ("--out", "--augment"):
            assert "grid.png" in refused(capsys, run, option, used / "grid.png" / "below")
    assert (used / "grid.png").read_text() == "mine"
    call(run, "--scenes", 1, "--samples", 1, "--out", used, "--overwrite")
    assert read(used / "grid.png").shape == (96, 3 * 194 - 2, 3)


def test_samples_that_are_not_finite_are_named(tmp_path, capsys):
    broken = make_run(tmp_path / "run")
    model = weights.load_model(broken)
    with torch.no_grad():
        next(model.target.parameters()).fill_(float("nan"))
    weights.save_weights(model, broken / "best.safetensors")
    with pytest.raises(SystemExit) as stop:
        call(broken, "--scenes", 1, "--out", tmp_path / "out")
    assert stop.value.code == 2
    assert "sample 0 of val_000003_000000 at temperature 0.8" in capsys.readouterr().err


def test_help_is_quick_and_complete():
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-X", "importtime", SCRIPT, "--help"], capture_output=True, text=True,
                            check=True)
    assert time.perf_counter() - started < 60
    assert "| torch" not in result.stderr
    for option in ("--label-maps", "--temperature", "--augment", "--num-shards"):
        assert option in result.stdout
