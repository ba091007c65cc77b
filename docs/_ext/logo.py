"""The logo: two arms of a spiral, the density of the first example."""

from __future__ import annotations

import math
from pathlib import Path

LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="-50 -50 100 100">
<title>condflows</title>
<g fill="none" stroke-width="11" stroke-linecap="round">
<polyline stroke="#1f6fb2" points="{first}"/>
<polyline stroke="#e08a1e" points="{second}"/>
</g></svg>
"""


def arm(start: float) -> str:
    """Return the points of an arm of the spiral that begins in this direction."""
    turns = [(43 * share, start + 4 * share) for share in (i / 40 for i in range(4, 41))]
    return " ".join(f"{radius * math.cos(turn):.1f},{radius * math.sin(turn):.1f}" for radius, turn in turns)


def draw_logo(path: str) -> None:
    """Write the logo as an SVG file."""
    Path(path).write_text(LOGO.format(first=arm(0.0), second=arm(math.pi)))
