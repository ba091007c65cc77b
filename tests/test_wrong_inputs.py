"""The mistakes of docs/wrong_inputs.md with the library: each raises the page's error and changes nothing."""

import copy
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from helpers import Constant
from wrong_inputs import OF_FILES, OF_LIBRARY, OF_SCRIPTS, OTHERS, matches

import condflows
from condflows import ActNorm, Bijector, Flow, PairedFlow, glow_step, multiscale, plots
from condflows.conditioners import CouplingConditioner


class Wrong(Bijector):
    """A bijector without its log-determinant."""

    def forward(self, inputs, context=None):
        return 2 * inputs, inputs.new_zeros(len(inputs))

    def inverse(self, inputs, context=None):
        return inputs / 2, inputs.new_zeros(len(inputs))


def step(c, context=0):
    return glow_step(c, CouplingConditioner(c, 8, context))


@pytest.fixture
def names():
    """Return the names that the page's expressions use."""
    return vars(condflows) | vars(condflows.conditioners) | {
        "torch": torch, "check_bijector": condflows.testing.check_bijector, "returns": Constant, "Wrong": Wrong,
        "plots": plots, "plane": Flow(ActNorm(2), (2,)), "Record": SimpleNamespace,
        "x": torch.randn(2, 4, 4, 4), "i": torch.rand(2, 3, 8, 8), "v": torch.randn(2, 4), "c": torch.randn(2, 3),
        "flow": Flow(multiscale(3, (1, 1), step), (3, None, None)),
        "pair": PairedFlow(multiscale(3, (1,), step), multiscale(3, (1,), lambda c: step(c, c)))}


@pytest.mark.parametrize("row", OF_LIBRARY, ids=lambda row: row.mistake)
def test_a_mistake_gets_the_error_of_the_page(row, names):
    before = copy.deepcopy([names["flow"].state_dict(), names["pair"].state_dict()])
    kept = {name: names[name].clone() for name in "xivc"}
    with pytest.raises((ValueError, TypeError, AssertionError)) as error:
        eval(row.given, names)
    assert matches(f"{error.type.__name__}: {error.value}", row.gets), f"{error.type.__name__}: {error.value}"
    after = [names["flow"].state_dict(), names["pair"].state_dict()]
    assert all(torch.equal(one[name], other[name]) for one, other in zip(before, after, strict=True) for name in one)
    assert all(torch.equal(value, names[name]) for name, value in kept.items())
    assert not plt.get_fignums()  # nor is a figure left behind


def test_the_pages_are_complete():
    rows = OF_LIBRARY + OTHERS
    mistakes = [row.mistake for row in rows]
    assert len(mistakes) == len(set(mistakes))
    assert min(len(OF_LIBRARY), len(OF_SCRIPTS)) >= 40
    assert not [row for row in rows if not row.gets.strip(" .")]


def test_mistakes_with_scripts_and_files_have_a_page_of_their_own():
    assert len(OTHERS) == len(OF_SCRIPTS) + len(OF_FILES)
    assert not [row for row in OF_LIBRARY if row.given.startswith(("Pretrained", "load_model")) or ".py " in row.given]


def test_dots_of_a_message_stand_for_anything_and_all_else_for_itself():
    assert matches("got 3 of (2, 4)", "got ... of (2, 4)")
    assert not matches("got 3 of (2, 4), and more", "got ... of (2, 4)")
    assert not matches("got 3 of 2, 4", "got ... of (2, 4)")
