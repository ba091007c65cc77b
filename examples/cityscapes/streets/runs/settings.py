"""Settings that a file was made with, and the check that a continuation has the same ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMED = 3
"""Most settings that a message names."""


def as_stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings to what a JSON file gives back: paths become text, tuples become lists."""
    return json.loads(json.dumps(dict(settings), default=str))


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings of now that had another value before, or none."""
    return [name for name, value in as_stored(now).items() if before.get(name) != value]


def check_same(where: Path, before: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> None:
    """Refuse to continue a file or a run that was made with other settings."""
    names = differing(before, now)
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        was, asked = (", ".join(f"{name} {of.get(name)}" for name in names[:NAMED]) + more
                      for of in (before, as_stored(now)))
        raise ValueError(f"{where} was made with {was}, asked for now is {asked}: {advice}")
