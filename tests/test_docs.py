"""The pages' code is run by Sphinx; here, that no block of it escapes that."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RUN = {"{doctest}", "{testcode}", "{testsetup}"}
OTHER = {"{testoutput}", "{toctree}", "{figure}", "{grid}", "{grid-item}", "{grid-item-card}", "{include}",
         "{model-table}", "{model-diagram}", "text", "sh"}
BY_HAND = {
    "conventions.md": 1,  # needs the package of the hub, tested in tests/examples/test_model_files.py
    "numerical_safety.md": 1,  # needs a trained run
    "reproducing.md": 1,  # needs a checkpoint of the authors, tested in tests/examples/test_published.py
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_code_is_run(page):
    text = page.read_text()
    kinds = [fence.split()[0] if fence else "" for fence in re.findall(r"^`{3,}(.*)$", text, re.MULTILINE) if fence]
    assert set(kinds) <= RUN | OTHER | {"python"}
    assert kinds.count("python") == BY_HAND.get(page.name, 0)
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        compile(code, page.name, "exec")


def test_tutorials_are_scripts_that_make_pictures():
    scripts = sorted((DOCS / "tutorial").glob("*.py"))
    assert len(scripts) >= 4
    for script in scripts:
        assert "plt.show()" in script.read_text()


def test_the_landing_page_has_the_readmes_example():
    """The fifteen lines, word for word."""
    readme = (DOCS.parent / "README.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert example in (DOCS / "index.md").read_text()
