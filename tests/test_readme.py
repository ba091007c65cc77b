"""The READMEs: their links, and the code, pictures and badges of the first."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch

import condflows

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "cityscapes" / "README.md"]
README = PAGES[0].read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:examples|models|docs|tests)/[\w./]+\.\w+)`", text):
        assert any((base / target).exists() for base in (ROOT, ROOT / "examples" / "cityscapes")), target


readme_pictures = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "figures" / "readme.py")))


@pytest.fixture
def short(monkeypatch):
    """Make trainings end after one epoch."""
    fit = condflows.fit
    monkeypatch.setattr(condflows, "fit", lambda *args, **kwargs: fit(*args, **{**kwargs, "epochs": 1}))


@pytest.mark.parametrize("number", [0, 1], ids=["spiral", "digits"])
def test_the_examples_train_and_draw(number, short):
    names = {}
    code = readme_pictures.blocks()[number]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    exec(code, names)
    assert len(names["history"].held_out) == 1
    assert names["figure"].axes
    plt.close("all")


def test_the_examples_have_their_pictures():
    assert len(readme_pictures.blocks()) == len(readme_pictures.PICTURES)
    for name in readme_pictures.PICTURES:
        assert f"docs/figures/{name}" in README
        assert (ROOT / "docs" / "figures" / name).is_file()


def test_badges_say_what_the_metadata_says():
    for name, text in readme_pictures.badges().items():
        assert (ROOT / "docs" / "figures" / name).read_text() == text, "run python docs/figures/readme.py"
        assert f"docs/figures/{name}" in README


def test_pictures_are_marked():
    """Check that an index of packages, which shows text alone, can leave out pictures with their captions."""
    kept = re.sub(r"(?s)<!-- (picture|badges) -->.*?<!-- end of \1 -->\n+", "", README)
    assert "![" not in kept
    assert "`figure`" not in kept


def test_the_reference_is_that_of_the_citation_file():
    citation = (ROOT / "CITATION.cff").read_text()
    for field in ("title", "version", "license"):
        value = re.search(rf'^{field}: "?(.*?)"?$', citation, re.MULTILINE)
        assert value
        assert f"{field} = {{{value[1]}}}" in README


@pytest.mark.parametrize("name", ["full_glow", "c_glow", "dual_glow", "c_flow", "glow", "encoded_glow"])
def test_a_model_file_imports_condflows_alone(name):
    source = (ROOT / "examples" / "cityscapes" / "models" / f"{name}.py").read_text()
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert imported <= {"condflows", "torch", "collections"}
    assert f"models/{name}.py)" in README


def test_a_model_is_used_as_the_readme_says(short, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "cityscapes" / "models")
    (code,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    names = {"x_a": torch.rand(20, 3, 8, 8), "x_b": torch.rand(20, 3, 8, 8)}
    exec(code, names)
    assert names["pair"].sample(2, names["x_a"][:1]).shape == (1, 2, 3, 8, 8)
