"""The rows of docs/wrong_inputs.md and docs/wrong_inputs_scripts.md, which tests run."""

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs"


class Row(NamedTuple):
    """A mistake in words, the command or the Python expression that makes it, and the message that it gets."""

    mistake: str
    given: str
    gets: str


def rows(page: str) -> list[Row]:
    """Return the rows of all tables of a page that have these three columns."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:2] == "| "]
    return [Row(mistake, given.strip("`"), gets.strip("`")) for mistake, given, gets in cells if given.startswith("`")]


OF_LIBRARY = rows((DOCS / "wrong_inputs.md").read_text(encoding="utf-8"))
OTHERS = rows((DOCS / "wrong_inputs_scripts.md").read_text(encoding="utf-8"))
OF_SCRIPTS = [row for row in OTHERS if re.match(r"\w+\.py\b", row.given)]
OF_FILES = [row for row in OTHERS if re.match(r"Pretrained\b|load_model\b", row.given)]


def matches(said: str, gets: str) -> bool:
    """Tell whether a message is the one of the page, in which three dots stand for anything."""
    return re.fullmatch(".*".join(map(re.escape, gets.split("..."))), said, re.DOTALL) is not None
