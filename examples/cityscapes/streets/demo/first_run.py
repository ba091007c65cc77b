"""The model of the first start: trained on generated scenes by a process beside the page, and kept."""

import contextlib
import dataclasses
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

from streets.config.presets import defaults
from streets.config.training import START_OPTIONS, Config
from streets.demo.progress import SILENT, progress_of
from streets.system import command_line, stopping
from streets.system.seeds import seed_of

SETTINGS = {"epochs": 5, "validate_every": 1}
"""Settings in which the training differs from that of ``train.py`` without options: half as long, and soon of use."""


class FirstRun:
    """A training in a process of its own, which goes on where an earlier one was stopped."""

    def __init__(self, cache: Path, device: str | None):
        config = dataclasses.replace(defaults([]), **SETTINGS, resume=True, device=device)
        facts = {name: value for name, value in dataclasses.asdict(config).items() if name not in START_OPTIONS}
        # Other settings, of another version for example, make another run.
        self.path = cache / f"generated-scenes-{seed_of(sorted(facts.items())):016x}"
        self.log = self.path.with_suffix(".log")
        self.config = dataclasses.replace(config, out=self.path)
        self.process: BaseProcess | None = None

    @property
    def finished(self) -> bool:
        """Tell if the model was trained to the end."""
        now = progress_of(self.path)
        return now is not None and now.finished

    def start(self) -> None:
        """Start the training, or go on with it, unless it is finished."""
        if not self.finished:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            context = multiprocessing.get_context("spawn")
            self.process = process = context.Process(target=train, args=(self.config, self.log), daemon=True)
            process.start()

    def stop(self) -> None:
        """Stop the training with a checkpoint, from which the next start goes on."""
        if self.process is not None:
            self.process.terminate()
            self.process.join(timeout=30)

    def __str__(self) -> str:
        now = progress_of(self.path)
        failed = self.process is not None and self.process.exitcode not in (None, 0)
        if failed and (now is None or now.silent > SILENT):  # else another page's process trains it
            return f"The training of the first model has ended: {last_line(self.log)}"
        if now is None:
            return "A small model of generated scenes is being trained, once: it draws its first scenes."
        return f"The small model of generated scenes is {now}."


def train(config: Config, log: Path) -> None:
    """Train in a process of its own, whose output goes into a file."""
    from streets.training import loop

    with (stopping.requests() as stop, log.open("a") as file, contextlib.redirect_stdout(file),
          contextlib.redirect_stderr(file)):
        command_line.run("app.py", lambda: loop.train(config, stop))


def last_line(path: Path) -> str:
    """Read the last line of a log."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it could not begin"
