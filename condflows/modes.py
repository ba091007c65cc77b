"""The modes of modules, of training or of evaluation, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["evaluating", "modes_kept"]


@contextmanager
def modes_kept(*models: Any) -> Iterator[None]:
    """Put every module of some models back into its own mode at the end; what is no module is left alone."""
    modes = {module: module.training for model in models if isinstance(model, nn.Module) for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """Put models into evaluation mode, and every module of them back into its own at the end."""
    with modes_kept(*models):
        for model in models:
            if isinstance(model, nn.Module):
                model.eval()
        yield
