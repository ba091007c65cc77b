"""The READMEs: their links, and the first example."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "cityscapes" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:examples|models|docs|tests)/[\w./]+\.\w+)`", text):
        assert any((base / target).exists() for base in (ROOT, ROOT / "examples" / "cityscapes")), target


def test_the_first_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names = {}
    exec(code, names)
    assert names["samples"].shape == (8, 5, 3, 32, 64)
    assert "tensor([" in capsys.readouterr().out
