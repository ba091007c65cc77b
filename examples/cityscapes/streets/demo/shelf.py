"""Runs at hand: opened when they are used, and opened again when their weights have changed."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from streets.config.training import Config
from streets.data import label_sets
from streets.data.labels import LabelSet
from streets.demo.progress import progress_of
from streets.runs.configuration import read_config
from streets.runs.run import Run
from streets.runs.settings import as_stored
from streets.runs.weights import WEIGHTS, has_training, weights_file
from streets.using.transfer import REFUSED

FIRST = "small model of generated scenes"
"""Name of the run that is trained where no run is given."""


class Shelf:
    """Runs by name; every run may be in training, by whichever process."""

    def __init__(self, paths: Sequence[Path], weights: str, device: torch.device, planned: Config | None = None):
        """Name the runs; ``planned`` is the configuration of the only one, where a process is about to begin it."""
        names = short_names(paths) if planned is None else [FIRST]
        self.paths = dict(zip(names, paths, strict=True))
        self.planned = None if planned is None else as_stored(dataclasses.asdict(planned))
        self.weights, self.device = weights, device
        self._opened: dict[str, tuple[Path, int, Run]] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Names of all runs."""
        return [*self.paths]

    def config(self, name: str) -> dict[str, Any]:
        """Read the configuration of a run, or return the planned one before it has begun."""
        begun = (self.paths[name] / "config.json").exists()
        return read_config(self.paths[name]) if begun or self.planned is None else self.planned

    @property
    def of_images(self) -> bool:
        """Tell if the runs are of pairs of images; else they are of label maps."""
        return self._is_of_images(self.names[0])

    @property
    def labels(self) -> LabelSet:
        """The labels of the label maps of the runs."""
        return label_sets.of_config(self.config(self.names[0]))

    @property
    def that_transfer(self) -> list[str]:
        """Names of the runs that can transfer content."""
        return [name for name in self.names if self.config(name)["model"] not in REFUSED]

    def check(self) -> None:
        """Refuse runs that cannot be used, so that their user hears it at once; those without weights may get some."""
        for name, path in self.paths.items():
            if self.of_images != self._is_of_images(name):
                raise ValueError(f"{path} is a run of {'label maps' if self.of_images else 'pairs of images'}, and "
                                 f"{next(iter(self.paths.values()))} is not: give runs of one kind")
            if not self.of_images:
                self._check_label_maps(name)
            if self.ready(name) or not (has_training(path) or self.planned):
                self.run(name)

    def _check_label_maps(self, name: str) -> None:
        """Refuse a run that cannot be given what is painted on the page."""
        path, config = self.paths[name], self.config(name)
        if (direction := config.get("direction", "label2photo")) != "label2photo":
            raise ValueError(f"{path} is a {direction} run: the page paints label maps; give label2photo runs")
        if (labels := label_sets.of_config(config)) != self.labels:
            raise ValueError(f"{path} is a run of the labels {labels.name}, and {next(iter(self.paths.values()))} of "
                             f"{self.labels.name}: the page has one palette; give runs of the same labels")

    def _is_of_images(self, name: str) -> bool:
        return not self.config(name).get("has_label_maps", True)

    def ready(self, name: str) -> bool:
        """Tell if a run has weights to sample from."""
        return self._file(name).is_file()

    def run(self, name: str) -> Run:
        """Open a run with its newest weights.

        Raises:
            ValueError: it cannot be opened; for a run in training that has no weights yet, the message says how far
                it is.
        """
        path = self.paths[name]
        if not self.ready(name) and (self.planned or has_training(path)):
            raise ValueError(f"{name} has no weights yet, it is {progress_of(path) or 'about to begin'}: wait for its "
                             "first validation")
        with self._lock:
            file = self._file(name)
            written = file.stat().st_mtime_ns if file.is_file() else 0
            kept = self._opened.get(name)
            if kept is None or kept[:2] != (file, written):
                kept = file, written, Run(path, self._kind(name), self.device)
                kept[2].model.requires_grad_(False)
                self._opened[name] = kept
        return kept[2]

    def note(self, name: str) -> str:
        """Say which weights are used, where that is not clear: of a run that is not at its end."""
        now = progress_of(self.paths[name])
        if now is None or now.finished:
            return ""
        return f"{name} is {now}. Its {self._kind(name)} weights so far are used, of epoch {now.validated} or before."

    def _kind(self, name: str) -> str:
        """Return the kind of weights to load: a run stopped before its first validation has the last ones alone."""
        best_is_missing = not (self.paths[name] / WEIGHTS["best"]).is_file()
        return "last" if best_is_missing else self.weights

    def _file(self, name: str) -> Path:
        return weights_file(self.paths[name], self._kind(name))


def short_names(paths: Sequence[Path]) -> list[str]:
    """Name runs by their folders, with as many of the parents as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    if len({*parts}) < len(parts):
        raise ValueError(f"the runs {', '.join(map(str, paths))}: one is named twice; leave it out")
    length = next(n for n in range(1, 1 + max(map(len, parts))) if len({p[-n:] for p in parts}) == len(parts))
    return ["/".join(p[-length:]) for p in parts]
