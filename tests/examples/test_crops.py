import numpy as np
import pytest
import torch
from PIL import Image
from resuming import OPTIONS, assert_same, resume, stopped_early
from run_helpers import write_pairs

import train
from streets.data.cityscapes import Cityscapes
from streets.data.crops import Crops, Window, cut, draw_window
from streets.data.parts import Part
from streets.runs.configuration import read_config


@pytest.fixture
def pairs(tmp_path):
    """Twelve pairs of 64x128 whose photos have the colours of their label maps, in squares of 16."""
    write_pairs(tmp_path, {"ulm": 12}, size=(64, 128))
    write_pairs(tmp_path, {"ulm": 2}, size=(64, 128), split="val")
    for number, path in enumerate(sorted(tmp_path.glob("gtFine/*/*/*_labelIds.png"))):
        ids = np.random.default_rng(number).choice([7, 11, 23, 26], (4, 8)).repeat(16, 0).repeat(16, 1)
        Image.fromarray(ids.astype(np.uint8)).save(path)
        photo = str(path).replace("gtFine/", "leftImg8bit/").replace("_gtFine_labelIds", "_leftImg8bit")
        Image.fromarray(np.stack([8 * ids] * 3, 2).astype(np.uint8)).save(photo)
    return tmp_path


def test_photo_and_label_map_are_cropped_alike(pairs):
    crops = Crops(Cityscapes(pairs, "train", (32, 64)), 0.5, seed=0)
    for place in range(36):
        item = crops[place]
        assert item["photo"].shape == (3, 32, 64)
        away = (item["photo"][0].int() - 8 * item["label"].int()).abs()
        assert (away > 20).float().mean() < 0.25  # at the edges of the squares, which are blurred
        assert item["photo"][0].float().std() > 10


def test_windows_are_those_of_the_seed():
    windows = [draw_window(0.8, seed) for seed in range(2000)]
    whole = sum(window is None for window in windows) / 2000
    sizes = torch.tensor([window.height for window in windows if window])
    tops = torch.tensor([window.top / (1 - window.height) for window in windows if window])
    assert whole == pytest.approx(0.2, abs=0.03)
    assert 0.8 <= sizes.min() < 0.81 < 0.99 < sizes.max() <= 1
    assert sizes.mean() == pytest.approx(0.9, abs=0.01)
    assert tops.mean() == pytest.approx(0.5, abs=0.03)
    assert tops.min() >= 0
    assert tops.max() <= 1
    assert windows == [draw_window(0.8, seed) for seed in range(2000)]


def test_a_window_is_cut_to_whole_pixels():
    image = np.arange(200).reshape(10, 20)
    assert np.array_equal(cut(image, Window(0.1, 0.25, 0.5, 0.5)), image[1:6, 5:15])
    assert cut(image, None) is image
    assert cut(image, Window(0.5, 0.5, 0.5, 0.5)).shape == (5, 10)


def test_crops_are_of_the_epoch_and_of_the_pair(pairs):
    dataset = Cityscapes(pairs, "train", (32, 64))
    crops = Crops(dataset, 0.5, seed=0)
    first, second = ([crops[epoch * 12 + i]["photo"] for i in range(12)] for epoch in range(2))
    assert sum(not torch.equal(one, other) for one, other in zip(first, second, strict=True)) > 6
    assert all(torch.equal(one, crops[i]["photo"]) for i, one in enumerate(first))
    part = Crops(Part(Part(dataset, [9, 3, 5]), [2, 0]), 0.5, seed=0)
    assert part[3]["name"] == dataset.names[9]
    again = Crops(dataset, 0.5, seed=0)
    assert torch.equal(part[3]["photo"], again[12 + 9]["photo"])  # both in the second epoch
    assert all(torch.equal(Crops(dataset, 1.0, seed=0)[12 + i]["photo"], dataset[i]["photo"]) for i in range(12))


def test_a_run_with_crops_goes_on_as_if_not_stopped(pairs, tmp_path):
    options = [*OPTIONS, "--data", str(pairs), "--epochs", "3", "--crop", "0.6"]
    train.main([*options, "--workers", "2", "--out", str(tmp_path / "whole")])
    resume(stopped_early(tmp_path / "part", 4, *options), options)
    assert_same(tmp_path / "part", tmp_path / "whole")
    assert read_config(tmp_path / "part")["crop"] == 0.6
    train.main([*options, "--crop", "1", "--out", str(tmp_path / "plain")])
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "plain", tmp_path / "whole")


def test_a_window_of_a_small_image_holds_a_pixel():
    image = np.arange(6).reshape(2, 3, 1)
    for start in np.linspace(0, 0.99, 34):
        for size in (0.001, 0.2, 0.01 + 0.99 - start):
            window = Window(start, start, size, size)
            assert 0 not in cut(image, window).shape
    assert cut(image, Window(0.5, 0.5, 0.1, 0.1)).item() == 3 + round(0.5 * 3)
