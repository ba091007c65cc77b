"""Pixels of the two images of a pair: number of channels, and bits of a value."""

from collections.abc import Mapping
from typing import Any, NamedTuple

DIRECTIONS = {"label2photo": ("condition", "photo"), "photo2label": ("photo", "condition")}
"""Kinds of images that a model is given and that it models."""


class Pixels(NamedTuple):
    """Pixels of an image."""

    channels: int = 3
    bits: int = 8

    def __str__(self) -> str:
        return f"{self.channels} channel{'s' * (self.channels != 1)} of {self.bits} bits"


class PairPixels(NamedTuple):
    """Pixels of both images of a pair, as in the items of a data set."""

    condition: Pixels = Pixels()
    photo: Pixels = Pixels()

    def __str__(self) -> str:
        return f"{self.condition} and {self.photo}"

    def sides(self, direction: str) -> tuple[Pixels, Pixels]:
        """Return those of the image that is given, and of the one that is modelled."""
        given, modelled = DIRECTIONS[direction]
        return getattr(self, given), getattr(self, modelled)

    def as_stored(self) -> dict[str, dict[str, int]]:
        """Return what the configuration of a run keeps."""
        return {kind: of._asdict() for kind, of in self._asdict().items()}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "PairPixels":
        """Read them from the configuration of a run; older ones lack them, and had photos and colours.

        Raises:
            ValueError: they are damaged.
        """
        stored = config.get("pixels", {})
        try:
            found = cls(**{kind: Pixels(**of) for kind, of in stored.items()})
        except (TypeError, AttributeError):
            found = cls(Pixels(0, 0))
        if not all(type(of) is Pixels and isinstance(of.channels, int) and of.channels > 0 and of.bits in (8, 16)
                   for of in found):
            raise ValueError(f"expected channels and bits of condition and photo, got the pixels {stored!r}")
        return found
