"""Settings that a file was made with: what goes on with it must ask for the same."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


NAMED = 3
"""Settings that a message names, of all that differ."""


def as_stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a JSON file: paths as text, tuples as lists."""
    return json.loads(json.dumps(dict(settings), default=str))


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that are asked for now and were others, or none, before."""
    return [name for name, value in as_stored(now).items() if before.get(name) != value]


def check_same(where: Path, before: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> None:
    """Refuse to go on with a file or a run that was made with other settings than those that are asked for now."""
    names = differing(before, now)
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        was, asked = (", ".join(f"{name} {of.get(name)}" for name in names[:NAMED]) + more
                      for of in (before, as_stored(now)))
        raise ValueError(f"{where} was made with {was}, asked for now is {asked}: {advice}")
