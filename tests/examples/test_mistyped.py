"""Explanations of option values that are no numbers, for the options of the scripts."""

import pytest

from streets.config.classifier import Config as Classifier
from streets.config.sampling import Config as Sampling
from streets.config.training import Config
from streets.system import command_line

CASES = {
    "--steps 2,2": "--steps 2,2: whole numbers with spaces between are needed, as in --steps 2 2, or None",
    "--steps 2 x": "--steps 2 x: whole numbers with spaces between are needed, or None",
    "--steps 1.5,2 --width 3": "--steps 1.5,2: whole numbers with spaces between are needed, or None",
    "--epochs=many": "--epochs many: a whole number is needed",
    "--epochs 1.5": "--epochs 1.5: a whole number is needed",
    "--learning-rate fast": "--learning-rate fast: a number is needed",
    "--width wide": "--width wide: a whole number is needed, or None",
    "--image-size 64x128": "--image-size 64x128: 2 whole numbers with spaces between are needed, as in "
                           "--image-size 64 128",
    "--image-size 64": "--image-size 64: 2 whole numbers with spaces between are needed",
}


def said(kind, words, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.parse("some.py", kind, words.split())
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("words", CASES)
def test_numbers_are_explained(words, capsys):
    assert said(Config, words, capsys) == f"some.py: error: {CASES[words]}: some.py --help names all options\n"


def test_numbers_of_other_scripts(capsys):
    assert "--scale 1,2: 2 numbers with spaces between are needed, as in --scale 1 2:" in said(
        Classifier, "--out x --scale 1,2", capsys)
    assert "--image-size 8,8: 2 whole numbers with spaces between are needed, as in --image-size 8 8, or None:" in said(
        Sampling, "run --image-size 8,8", capsys)


@pytest.mark.parametrize(("kind", "words", "message"), [
    (Config, "--model glov", "invalid choice 'glov'"),
    (Config, "--no-flip yes", "Unrecognized options: yes"),
    (Config, "--temperature x", "expected a number, or one for each level joined by commas, got x"),
    (Classifier, "--epochs 3", "Missing from some.py: --out"),
])
def test_other_mistakes_keep_their_message(kind, words, message, capsys):
    assert message in said(kind, words, capsys)
