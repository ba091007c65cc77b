"""transfer.py as a user calls it: the content of one scene on the structure of another, and misuse."""

import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import SCRIPTS, SIZE, line_of_mistake, make_run, read

import transfer
from models import MODELS
from streets.data import drawn
from streets.runs import weights
from streets.runs.run import Run
from streets.using.transfer import REFUSED

refused = partial(line_of_mistake, transfer.main)
CONDITIONAL = [model for model in MODELS if model not in REFUSED]
A, B = (f"val_000003_{i:06d}" for i in (1, 4))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "full_glow")


@pytest.fixture(scope="module")
def scenes():
    """Draw the scenes that the script draws where there is no --data."""
    return drawn.StreetScenes("val", SIZE, length=6, seed=3)


@pytest.fixture
def painted(scenes, tmp_path):
    """Return the options of a transfer between files."""
    images = {"--content-photo": scenes[1]["photo"].permute(1, 2, 0), "--content-label": scenes[1]["label"],
              "--structure-label": scenes[4]["condition"].permute(1, 2, 0)}
    arguments = []
    for option, image in images.items():
        arguments += [option, tmp_path / f"{option[2:]}.png"]
        Image.fromarray(image.contiguous().numpy()).save(arguments[-1])
    return arguments


def call(*arguments):
    transfer.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("model", CONDITIONAL)
def test_every_conditional_flow_transfers(model, scenes, tmp_path, capsys):
    run, out = make_run(tmp_path / "run", model), tmp_path / "out"
    call(run, "--content", 1, B, "--structure", B, 4, "--out", out)
    assert {path.name for path in out.iterdir()} == {"grid.png"} | {f"{name}.png" for name in (
        f"{A}_content", f"{B}_content", f"{B}_structure", f"{B}_real", f"{A}_on_{B}", f"{B}_on_{B}")}
    for name, image in {f"{A}_content": scenes[1]["photo"], f"{B}_structure": scenes[4]["condition"],
                        f"{B}_real": scenes[4]["photo"]}.items():
        assert np.array_equal(read(out / f"{name}.png"), image.permute(1, 2, 0).numpy())
    assert not np.array_equal(read(out / f"{A}_on_{B}.png"), read(out / f"{A}_content.png"))
    # On its own label map a photo stays what it was; the last of 8 bits may be lost to rounding.
    difference = read(out / f"{B}_on_{B}.png").astype(int) - read(out / f"{B}_content.png")
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01
    grid = read(out / "grid.png")
    assert grid.shape == (2 * (96 + 2) - 2, 4 * (192 + 2) - 2, 3)
    for column, name in enumerate((f"{A}_content", f"{B}_structure", f"{A}_on_{B}", f"{B}_real")):
        assert np.array_equal(grid[:96:3, 194 * column:194 * column + 192:3], read(out / f"{name}.png"))
    errors = [float(part.split()[0]) for part in capsys.readouterr().out.split(", to ")[1:]]
    assert len(errors) == 2
    assert max(errors) < 1e-4


def test_the_result_is_the_papers(run, scenes, tmp_path):
    """Compare with z of the photo given its label map, decoded given the other; dequantization changes little."""
    call(run, "--content", 1, "--structure", 4, "--out", tmp_path / "out")
    batches = [torch.utils.data.default_collate([scenes[i]]) for i in (1, 4)]
    (context, photo), (other, _) = (Run(run).pairs()(batch) for batch in batches)
    with torch.no_grad():
        result = weights.load_model(run, "best.safetensors").transfer(photo, context, other)
    difference = read(tmp_path / "out" / f"{A}_on_{B}.png") / 255 - result[0].permute(1, 2, 0).clamp(0, 1).numpy()
    assert np.abs(difference).mean() < 0.01


def test_the_same_seed_gives_the_same_result(run, tmp_path):
    results = []
    for i, seed in enumerate((0, 0, 1)):
        call(run, "--content", 1, "--structure", 4, "--seed", seed, "--out", tmp_path / str(i))
        results.append((tmp_path / str(i) / f"{A}_on_{B}.png").read_bytes())
    assert results[0] == results[1] != results[2]


def test_files(run, painted, tmp_path):
    """Transfer between files: names differ from those of the data set, and so does the noise, but not the images."""
    out = tmp_path / "out"
    call(run, *painted, "--image-size", 64, 128, "--out", out)
    assert {path.name for path in out.iterdir()} == {
        "grid.png", "content-photo_content.png", "structure-label_structure.png",
        "content-photo_on_structure-label.png"}
    assert read(out / "content-photo_on_structure-label.png").shape == (64, 128, 3)
    assert read(out / "grid.png").shape[1] == 3 * (128 * 2 + 2) - 2


def test_boundaries_are_side_information(tmp_path, capsys):
    run = make_run(tmp_path / "run", boundaries=True)
    call(run, "--content", 1, "--structure", 4, "--out", tmp_path / "out")
    assert float(capsys.readouterr().out.split(", to ")[1].split()[0]) < 1e-4


PAIR = ["--content", "1", "--structure", "4"]
MISTAKES = {
    "nothing to transfer": ([], "0 and 0"),
    "more contents than structures": (["--content", "1", "2", "--structure", "3"], "2 and 1"),
    "index out of range": (["--content", "1", "--structure", "6"], "no scene 6 among the 6"),
    "unknown name": (["--content", "ulm", "--structure", "1"], "no scene ulm among the 6"),
    "part of the files": (["--content-photo", "a.png"], "--structure-label together"),
    "files and scenes": ([*PAIR, "--content-photo", "a", "--content-label", "a", "--structure-label", "a"], "together"),
    "no such file": (["--content-photo", "a.png", "--content-label", "b.png", "--structure-label", "c.png"], "b.png"),
    "size that the levels do not divide": ([*PAIR, "--image-size", "32", "66"], "multiples of 4"),
    "no such data": ([*PAIR, "--data", "nowhere"], "nowhere"),
    "unknown split": ([*PAIR, "--split", "middle"], "'middle'"),
    "no such device": ([*PAIR, "--device", "abacus"], "--device abacus"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_status_2(mistake, run, tmp_path, capsys):
    arguments, message = MISTAKES[mistake]
    assert message in refused(capsys, run, *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_transfer(tmp_path, capsys):
    out = tmp_path / "out"
    for model, reason in REFUSED.items():
        assert reason in refused(capsys, make_run(tmp_path / model, model), *PAIR, "--out", out)
    backwards = make_run(tmp_path / "backwards", direction="photo2label")
    assert "photo2label" in refused(capsys, backwards, *PAIR, "--out", out)
    assert str(tmp_path / "nowhere") in refused(capsys, tmp_path / "nowhere", *PAIR, "--out", out)
    shutil.copy(backwards / "best.safetensors", other := make_run(tmp_path / "other", "c_flow"))
    assert "belongs to another model" in refused(capsys, other, *PAIR, "--out", out)
    assert not out.exists()


def test_files_with_values_outside_the_table_are_named(run, painted, tmp_path, capsys):
    for path, array, message in ((painted[3], np.full(SIZE, 77, np.uint8), "got 77"),
                                 (painted[5], np.full((*SIZE, 3), 5, np.uint8), "the colour (5, 5, 5)")):
        Image.fromarray(array).save(path)
        said = refused(capsys, run, *painted, "--out", tmp_path / "out")
        assert message in said
        assert str(path) in said
        Image.fromarray(np.full(SIZE, 7, np.uint8)).save(path)


def test_a_photo_and_a_map_that_do_not_belong_together(run, painted, scenes, tmp_path, capsys):
    """Refuse another size, and another scene where both names are those of Cityscapes; the structure may have any."""
    photo, label = painted[1], painted[3]
    whole = label.read_bytes()
    for size in ((64, 128), (32, 32), (64, 32)):
        Image.fromarray(np.full(size, 7, np.uint8)).save(label)
        said = refused(capsys, run, *painted, "--out", tmp_path / "out")
        assert f"expected --content-label {label} as large as --content-photo {photo}, 32x64, got {size[0]}x" in said
    label.write_bytes(whole)
    named = [tmp_path / f"ulm_0_{end}.png" for end in ("1_leftImg8bit", "1_gtFine_color", "2_gtFine_color")]
    for path, source in zip(named, (photo, label, label), strict=True):
        shutil.copy(source, path)
    names = {"--content-photo": named[0], "--structure-label": named[2]}
    options = [part for option in names.items() for part in option]
    said = refused(capsys, run, *options, "--content-label", named[2], "--out", tmp_path / "out")
    assert f"expected the label map of {named[0]} as --content-label, got that of another scene, {named[2]}" in said
    assert not (tmp_path / "out").exists()
    call(run, *options, "--content-label", named[1], "--out", tmp_path / "out")
    call(run, *options, "--content-label", label, "--out", tmp_path / "other")  # of a name that says nothing
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(named[2])
    call(run, *options, "--content-label", named[1], "--out", tmp_path / "square")
    assert (tmp_path / "square" / "ulm_0_1_on_ulm_0_2.png").exists()


def test_used_and_unwritable_directories(run, tmp_path, capsys):
    used = tmp_path / "used"
    used.mkdir()
    (used / "grid.png").write_text("mine")
    assert "is in use" in refused(capsys, run, *PAIR, "--out", used)
    assert "grid.png" in refused(capsys, run, *PAIR, "--out", used / "grid.png" / "below")
    assert (used / "grid.png").read_text() == "mine"
    call(run, *PAIR, "--out", used, "--overwrite")
    assert read(used / "grid.png").shape == (96, 4 * 194 - 2, 3)


def test_help_is_quick_and_complete():
    result = subprocess.run([sys.executable, "-X", "importtime", SCRIPTS / "transfer.py", "--help"],
                            capture_output=True, text=True, check=True)
    assert "| torch" not in result.stderr
    for option in ("--content", "--structure-label", "--image-size"):
        assert option in result.stdout
