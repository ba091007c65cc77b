"""Figures of an evaluation that are kept in files, each with the settings that it was measured with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streets.runs.settings import check_same, differing
from streets.system import files


class Kept:
    """File of figures, written after each of them; with ``keep`` those already there are used if settings agree."""

    def __init__(self, path: Path, settings: dict[str, Any], keep: bool, overwrite: bool):
        self.path, self.values = path, {"settings": settings}
        if keep and path.exists():
            try:
                there = json.loads(path.read_text())
                different = differing(there["settings"], settings)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is no file of measurements ({error!r}): remove it") from error
            if not different:
                self.values = there
            elif not overwrite:
                check_same(path, there["settings"], settings, "give another --out, or --overwrite to replace it")

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return the figure of that name; measure and write it if it is not there."""
        if key not in self.values:
            self.values[key] = measure()
            files.write_json(self.path, self.values)
        return self.values[key]


def digest(path: Path | None) -> str | None:
    """Compute the SHA-256 of a file, or of the weights and the configuration in a directory."""
    if path is None:
        return None
    return files.sha256(path) if path.is_file() else files.sha256(path / "model.safetensors", path / "config.json")
