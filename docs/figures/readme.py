"""Draw the pictures of the README by its own code, and its badges from pyproject.toml.

``python docs/figures/readme.py`` in the checkout does both.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PICTURES = ("first_spiral.png", "first_digits.png")
BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{name} {value}">
<rect width="{width}" height="20" rx="3" fill="#555"/>
<path d="M{left} 0h{right}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{right}z" fill="#1f6fb2"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{left_middle}" y="14">{name}</text><text x="{right_middle}" y="14">{value}</text>
</g></svg>
"""


def blocks() -> list[str]:
    """Return the Python code of the README, block by block."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def badge(name: str, value: str) -> str:
    """Return an SVG image of a name on grey and its value on blue."""
    left, right = 7 * len(name) + 12, 7 * len(value) + 12
    return BADGE.format(name=name, value=value, left=left, right=right - 3, width=left + right,
                        left_middle=left / 2, right_middle=left + right / 2)


def badges() -> dict[str, str]:
    """Return the badges by file name, with what pyproject.toml says."""
    project = (ROOT / "pyproject.toml").read_text()
    pythons = re.findall(r"Python :: (3\.\d+)", project)
    torch = re.search(r'"torch>=([\d.]+)"', project)
    licence = re.search(r'^license = "(\S+)"', project, re.MULTILINE)
    assert torch is not None
    assert licence is not None
    return {"badge_python.svg": badge("Python", f"{pythons[0]} to {pythons[-1]}"),
            "badge_torch.svg": badge("torch", f"{torch[1]} or later"),
            "badge_licence.svg": badge("licence", licence[1])}


if __name__ == "__main__":
    import torch

    for name, code in zip(PICTURES, blocks(), strict=True):
        torch.manual_seed(0)
        names: dict = {}
        exec(code, names)
        print(name, names["history"])
        names["figure"].savefig(HERE / name, dpi=100)
    for name, text in badges().items():
        (HERE / name).write_text(text)
