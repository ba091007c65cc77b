"""Former place of ``Pretrained``, from which the cards of models that were exported earlier import it."""

from streets.runs.pretrained import Pretrained

__all__ = ["Pretrained"]
