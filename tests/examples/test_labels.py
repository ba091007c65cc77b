"""The label table against a copy of the official one and, where installed, the cityscapesscripts package."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from streets.data import labels
from streets.data.label_sets import CITYSCAPES

# name, id, trainId and colour of cityscapesscripts/helpers/labels.py, in its order.
OFFICIAL = """
    'unlabeled'            ,  0 ,      255 , (  0,  0,  0)
    'ego vehicle'          ,  1 ,      255 , (  0,  0,  0)
    'rectification border' ,  2 ,      255 , (  0,  0,  0)
    'out of roi'           ,  3 ,      255 , (  0,  0,  0)
    'static'               ,  4 ,      255 , (  0,  0,  0)
    'dynamic'              ,  5 ,      255 , (111, 74,  0)
    'ground'               ,  6 ,      255 , ( 81,  0, 81)
    'road'                 ,  7 ,        0 , (128, 64,128)
    'sidewalk'             ,  8 ,        1 , (244, 35,232)
    'parking'              ,  9 ,      255 , (250,170,160)
    'rail track'           , 10 ,      255 , (230,150,140)
    'building'             , 11 ,        2 , ( 70, 70, 70)
    'wall'                 , 12 ,        3 , (102,102,156)
    'fence'                , 13 ,        4 , (190,153,153)
    'guard rail'           , 14 ,      255 , (180,165,180)
    'bridge'               , 15 ,      255 , (150,100,100)
    'tunnel'               , 16 ,      255 , (150,120, 90)
    'pole'                 , 17 ,        5 , (153,153,153)
    'polegroup'            , 18 ,      255 , (153,153,153)
    'traffic light'        , 19 ,        6 , (250,170, 30)
    'traffic sign'         , 20 ,        7 , (220,220,  0)
    'vegetation'           , 21 ,        8 , (107,142, 35)
    'terrain'              , 22 ,        9 , (152,251,152)
    'sky'                  , 23 ,       10 , ( 70,130,180)
    'person'               , 24 ,       11 , (220, 20, 60)
    'rider'                , 25 ,       12 , (255,  0,  0)
    'car'                  , 26 ,       13 , (  0,  0,142)
    'truck'                , 27 ,       14 , (  0,  0, 70)
    'bus'                  , 28 ,       15 , (  0, 60,100)
    'caravan'              , 29 ,      255 , (  0,  0, 90)
    'trailer'              , 30 ,      255 , (  0,  0,110)
    'train'                , 31 ,       16 , (  0, 80,100)
    'motorcycle'           , 32 ,       17 , (  0,  0,230)
    'bicycle'              , 33 ,       18 , (119, 11, 32)
    'license plate'        , -1 ,       -1 , (  0,  0,142)
"""


def official_rows() -> list[tuple[str, int, int, tuple[int, int, int]]]:
    return [ast.literal_eval(f"({line.strip()})") for line in OFFICIAL.strip().splitlines()]


def official_package() -> ModuleType:
    """Load the package's table alone, without all that the tools of the package import."""
    spec = importlib.util.find_spec("cityscapesscripts")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("cityscapesscripts is not installed")
    path = Path(spec.submodule_search_locations[0]) / "helpers" / "labels.py"
    table = importlib.util.spec_from_file_location("official_cityscapes_labels", path)
    assert table is not None
    assert table.loader is not None
    module = importlib.util.module_from_spec(table)
    table.loader.exec_module(module)
    return module


def test_table_is_the_official_one():
    assert [tuple(label) for label in CITYSCAPES.labels] == official_rows()


def test_table_is_that_of_the_installed_package():
    theirs = [(row.name, row.id, row.trainId, row.color) for row in official_package().labels]
    assert [tuple(label) for label in CITYSCAPES.labels] == theirs


def test_every_id_has_its_colour_and_training_id():
    ids = np.array([row[1] for row in official_rows()])
    assert CITYSCAPES.colorize(ids).tolist() == [list(row[3]) for row in official_rows()]
    expected = [255 if row[2] == -1 else row[2] for row in official_rows()]
    assert CITYSCAPES.train_ids(ids).tolist() == expected
    assert sorted(set(expected)) == [*range(19), labels.IGNORED]


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 3, 4), (0, 7)])
def test_shapes_and_types(shape):
    ids = np.full(shape, 7)
    assert CITYSCAPES.colorize(ids).shape == (*shape, 3)
    assert CITYSCAPES.colorize(ids).dtype == np.uint8
    assert CITYSCAPES.train_ids(ids).shape == shape
    assert CITYSCAPES.train_ids(ids).dtype == np.uint8
    assert CITYSCAPES.ids_from_colors(CITYSCAPES.colorize(ids)).tolist() == ids.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_integer_types_agree(dtype):
    ids = np.arange(34, dtype=dtype)
    assert np.array_equal(CITYSCAPES.as_bytes(ids), np.arange(34))
    assert np.array_equal(CITYSCAPES.colorize(ids), CITYSCAPES.colorize(np.arange(34)))


def test_licence_plates_are_minus_one_or_255():
    for plate in (
        np.array([-1]),
        np.array([-1], dtype=np.int8),
        np.array([255], dtype=np.uint8),
        np.array([255]),
    ):
        assert CITYSCAPES.as_bytes(plate).tolist() == [255]
        assert CITYSCAPES.colorize(plate).tolist() == [[0, 0, 142]]
        assert CITYSCAPES.train_ids(plate).tolist() == [labels.IGNORED]


def test_colours_lead_back_to_the_first_label_that_has_them():
    first = {}
    for _, label_id, _, color in official_rows():
        first.setdefault(color, label_id)
    ids = np.array([row[1] for row in official_rows()])
    back = CITYSCAPES.ids_from_colors(CITYSCAPES.colorize(ids))
    assert back.tolist() == [first[row[3]] for row in official_rows()]
    assert first[(0, 0, 0)] == 0
    assert first[(153, 153, 153)] == 17
    assert first[(0, 0, 142)] == 26
    assert np.array_equal(CITYSCAPES.colorize(back), CITYSCAPES.colorize(ids))


@pytest.mark.parametrize("bad", [34, 254, 256, 263, -2, -249, 65535])
@pytest.mark.parametrize("function", [CITYSCAPES.colorize, CITYSCAPES.train_ids])
def test_ids_outside_the_table_are_named(function, bad):
    ids = np.full((4, 4), 7)
    ids[2, 1] = bad
    with pytest.raises(ValueError, match=rf"got {bad}\b"):
        function(ids)


def test_ids_must_be_integers():
    with pytest.raises(ValueError, match="float64"):
        CITYSCAPES.colorize(np.array([7.0]))


@pytest.mark.parametrize("bad", [(1, 2, 3), (128, 64, 129), (255, 255, 255), (0, 0, 1)])
def test_unknown_colours_are_named_with_their_place(bad):
    rgb = CITYSCAPES.colorize(np.full((6, 8), 7)).copy()
    rgb[4, 5] = rgb[5, 0] = bad
    with pytest.raises(ValueError, match=rf"\({bad[0]}, {bad[1]}, {bad[2]}\).*\(4, 5\)"):
        CITYSCAPES.ids_from_colors(rgb)


@pytest.mark.parametrize("bad", [(-1, 0, 0), (0, 1, -256), (0, 0, 256), (0, 256, 142)])
def test_colours_outside_a_byte_do_not_pass_for_others(bad):
    with pytest.raises(ValueError, match="colour"):
        CITYSCAPES.ids_from_colors(np.array([bad]))


def test_colours_come_last_and_are_integers():
    with pytest.raises(ValueError, match=r"\(3, 6, 8\)"):
        CITYSCAPES.ids_from_colors(np.zeros((3, 6, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="float32"):
        CITYSCAPES.ids_from_colors(np.zeros((6, 8, 3), dtype=np.float32))
