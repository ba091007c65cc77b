"""The help of the scripts: options in groups under their old names, in whole paragraphs."""

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import tyro

from streets.config import classifier, evaluation, sampling, training, transfer
from streets.config.groups import GROUPS, OF_CLASSIFIER, OF_EVALUATION
from streets.system import command_line
from streets.system.grouping import Grouped, help_texts

CONFIGS = {module.__name__.rpartition(".")[2]: module.Config
           for module in (training, evaluation, sampling, transfer, classifier)}


def help_of(kind, capsys, groups):
    with pytest.raises(SystemExit) as end:
        command_line.parse("some.py", kind, ["--help"], groups=groups)
    assert not end.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_is_in_the_help_of_a_group(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    kind = CONFIGS[name]
    said, flat = (help_of(kind, capsys, groups) for groups in (GROUPS, {}))
    options, of_flat = (sorted(re.findall(r"^\W*?(--?\w[\w-]*)", text, re.MULTILINE)) for text in (said, flat))
    assert options == of_flat
    assert len(re.findall(r"^\W*\w+ options\W*$", said, re.MULTILINE)) >= 3
    letters = re.sub(r"[│|\s]", "", said)
    for option, text in help_texts(kind).items():
        assert re.sub(r"[│|\s]", "", text) in letters, option


@pytest.mark.parametrize("name", CONFIGS)
def test_every_default_is_named(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "170")
    said = help_of(CONFIGS[name], capsys, GROUPS)
    assert "(default: )" not in said
    assert "(default: none)" in said or name in ("inspection", "app")
    assert "(default: 0)" in said or "--seed" not in said


def test_a_help_text_is_one_paragraph(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    assert "which is resized to --image-size; 1 for whole photos" in help_of(training.Config, capsys, GROUPS)


@pytest.mark.parametrize("name", CONFIGS)
def test_options_are_read_as_without_groups(name):
    kind = CONFIGS[name]
    hints = get_type_hints(kind)
    words = {"training": ["--steps", "1", "2", "--no-flip", "--data", "here", "--temperature", "1,0.5"],
             "evaluation": ["a", "b", "--judge", "pspnet", "--temperatures", "0.5", "1,0.9"],
             "sampling": ["a", "--indices", "3", "x", "--image-size", "8", "16"],
             "transfer": ["a", "--out", "b", "--content", "1", "--structure", "2"],
             "classifier": ["--out", "b", "--scale", "1", "2", "--score", "val", "test"]}[name]
    parsed = command_line.parse("some.py", kind, words, groups=GROUPS)
    assert type(parsed) is kind
    assert parsed == tyro.cli(kind, args=words)
    assert dataclasses.asdict(parsed).keys() == hints.keys()


def test_defaults_that_are_given_are_kept():
    default = training.Config(model="c_flow", width=3, out=Path("there"), steps=None)
    grouped = Grouped(training.Config, GROUPS)
    assert grouped.flat(grouped.of(default)) == default
    parsed = command_line.parse("some.py", training.Config, ["--epochs", "3"], default, GROUPS)
    assert parsed == dataclasses.replace(default, epochs=3)


def test_the_table_of_groups_is_right():
    for groups in (GROUPS, OF_CLASSIFIER, OF_EVALUATION):
        every = [name for group in groups.values() for name in group]
        assert len(every) == len(set(every))
        assert set(every) <= {field.name for kind in CONFIGS.values() for field in dataclasses.fields(kind)}
