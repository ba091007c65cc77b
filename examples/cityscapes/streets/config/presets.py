"""Presets of ``train.py``, and the defaults of a command line."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

from streets.config.checks import misfits
from streets.config.data import folder
from streets.config.kinds import TWO_GLOWS
from streets.config.training import START_OPTIONS, Config

PAPER = Config(
    model="full_glow", steps=None, width=None, batch_size=1, epochs=45, learning_rate=1e-4, warmup_steps=0,
    linear_decay=False, clip_norm=None, flip=False, init_pairs=1, generated=640, temperature=0.8,
)
PRESETS = {
    "small": Config(),
    "paper-256": dataclasses.replace(PAPER, preset="paper-256", image_size=(256, 256)),
    "paper-512x1024": dataclasses.replace(
        PAPER, preset="paper-512x1024", image_size=(512, 1024), steps=(8, 8, 8, 8), checkpoint_activations=True
    ),
    "native-1024x2048": dataclasses.replace(
        PAPER, preset="native-1024x2048", image_size=(1024, 2048), steps=(8, 8, 8, 8), checkpoint_activations=True
    ),
}

MODEL_SETTINGS: dict[str, dict[str, Any]] = {
    "pix2pix": {"steps": None, "learning_rate": 2e-4, "warmup_steps": 0, "linear_decay": False,
                "clip_norm": None, "checkpoint_activations": False, "temperature": 1.0},
    "flow_matching": {"steps": None, "learning_rate": 1e-3, "clip_norm": 1.0, "checkpoint_activations": False},
}
"""Settings of a model that differ from those of every preset; None for options that it lacks."""


def is_noisy(text: str) -> bool:
    """Tell if a value of ``--noise`` asks for some; what is no number is refused later, with all other options."""
    try:
        return float(text) != 0
    except ValueError:
        return False


def defaults(arguments: list[str]) -> Config:
    """Return the defaults for the options of a command line, those of the preset and the model.

    With ``--resume`` they are the options of the run in ``--out``, if there is one.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--model")
    parser.add_argument("--direction", default="label2photo")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dataset")
    parser.add_argument("--noise", default="0")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true")
    known = parser.parse_known_args(arguments)[0]
    stored = read(known.out) if known.resume and known.out else None
    if stored is not None:
        return stored
    preset = PRESETS.get(known.preset, PRESETS["small"])
    model = preset.model if known.model is None else known.model
    if model not in get_args(Config.__annotations__["model"]):
        return preset
    # At the papers' rates lambda is the papers'. At twenty times the rate it lets the source Glow diverge.
    weight = {"source_weight": 1e-2 if preset is PRESETS["small"] else 1e-4} if model in TWO_GLOWS else {}
    # Of noisy images gradients are a tenth as long, and a rare long one can push the encoder out of its range.
    clip = {"clip_norm": 5.0} if preset is PRESETS["small"] and is_noisy(known.noise) else {}
    config = dataclasses.replace(preset, model=model, **MODEL_SETTINGS.get(model, {}) | weight | clip)
    asked = dataclasses.replace(config, direction=known.direction, data=folder(known.data), dataset=known.dataset)
    return dataclasses.replace(config, label_dropout=0.1, guidance=1.0) if asked.given_labels else config


def read(run: Path) -> Config | None:
    """Read the configuration of a run as defaults; None if there is none, or if it does not fit this version.

    The reason is reported later by ``streets.runs.configuration``, which reads it again to go on with the run. A
    function that opens data is not taken from it: no code is run that a file names.
    """
    try:
        stored = json.loads((run / "config.json").read_text())
        if misfits(Config, stored):
            return None
        names = {field.name for field in dataclasses.fields(Config)} & stored.keys() - START_OPTIONS - {"dataset"}
        values: Any = {name: tuple(stored[name]) if isinstance(stored[name], list) else stored[name] for name in names}
        return Config(**values | {"data": stored["data"] and Path(stored["data"]), "out": run})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
