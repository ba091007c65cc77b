"""The place of the data, as an option gives it."""

from pathlib import Path

GENERATED = Path("generated")
"""Value of ``--data`` that asks for drawn scenes; a folder of that name needs a longer path."""


def folder(data: Path | None) -> Path | None:
    """Return the folder that the option names; None for drawn scenes."""
    return None if data == GENERATED else data


def name_of(data: Path | None) -> str:
    """Name the data in a message or in a table."""
    return "drawn scenes" if data is None else str(data)
