"""Options of ``train.py``, its presets, and the configuration that a command line starts from."""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from streets.config.checks import misfits


@dataclass
class Config:
    """Options of a training; a run keeps them in its config.json."""

    preset: Literal["small", "paper-256", "paper-512x1024", "native-1024x2048"] = "small"
    """Settings to start from; every other option overrides one of them."""
    model: Literal["full_glow", "c_glow_v1", "c_glow_v2", "dual_glow", "c_flow", "glow", "pix2pix"] = "full_glow"
    """Model to train, see models/."""
    direction: Literal["label2photo", "photo2label"] = "label2photo"
    """Image that is given, and image that is modelled."""
    boundaries: bool = False
    """Append a map of the edges of objects to every condition: of the instances where the data has them, else of the
    labels. For full_glow."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; street scenes are generated if it is left out."""
    out: Path | None = None
    """Directory of the run; runs/MODEL-PRESET-TIME if it is left out."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace what an earlier run left there."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint, with its settings; begin it where there is none. Only
    options that do not change the model, the data or a step may differ from those it was begun with."""
    dry_run: bool = False
    """Print parameters, operations and the predicted peak of memory, and end before anything is allocated."""
    image_size: tuple[int, int] = (32, 64)
    """Height and width in pixels, multiples of 2 ** levels."""
    steps: tuple[int, ...] | None = (4, 4, 4)
    """Steps of each level, finest first; None for the model's own of the paper."""
    width: int | None = 32
    """Hidden channels of the coupling nets, of pix2pix its first channels; None for the model's own of the paper."""
    context_width: int | None = None
    """Hidden channels of the nets that encode a condition; None for the model's own."""
    checkpoint_activations: bool = False
    """Recompute the activations of each step in the backward pass: less memory, about a third more time."""
    source_weight: float | None = 1e-4
    """Lambda of the paper's objective (11): the weight of the given image's own likelihood; None where a model has
    none."""
    batch_size: int = 8
    """Pairs of a training step, over all processes."""
    accumulate: int = 1
    """Parts that each process splits its pairs of a step into, one after the other, to save memory."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the conditioners' nets in training; all else, validation and samples are float32."""
    compile: bool = False
    """Compile the steps of the flow: minutes at first, faster from then on."""
    epochs: int = 7
    """Passes over the training pairs."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0."""
    linear_decay: bool = True
    """Let the learning rate fall linearly to 0 at the last step."""
    clip_norm: float | None = None
    """Largest norm of the gradient, if any."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, for example 0.999, which is then what is validated,
    sampled and saved as the model."""
    flip: bool = False
    """Mirror every other training pair, at random."""
    init_pairs: int = 64
    """Training pairs from which the actnorms are initialized, all at once; for large images a few will do."""
    generated: int = 640
    """Number of generated training scenes where there is no --data; an eighth as many for validation."""
    validate_every: int = 2
    """Epochs between validations and sample grids."""
    checkpoint_every: int = 1000
    """Steps between checkpoints, of which there is also one at the end of every epoch; the last two are kept."""
    skip_bad_batches: int = 0
    """Steps that may be left out because loss or gradient are not finite; one more stops the run."""
    skip_bad_files: bool = False
    """Read all files before the training, and leave out pairs that cannot be read."""
    temperature: float = 0.8
    """Temperature of the samples in the grids."""
    seed: int = 0
    """Seed of weights, data order and noise."""
    device: str | None = None
    """Device, for example cuda:0; a GPU if there is one, else the CPU."""
    workers: int = 0
    """Processes that read data beside the training."""


PAPER = Config(
    steps=None, width=None, batch_size=1, epochs=45, learning_rate=1e-4, warmup_steps=0, linear_decay=False,
    init_pairs=1,
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
    "c_glow_v1": {"source_weight": None},
    "c_glow_v2": {"source_weight": None},
    "glow": {"source_weight": None},
    "pix2pix": {"source_weight": None, "steps": None, "learning_rate": 2e-4, "warmup_steps": 0, "linear_decay": False,
                "checkpoint_activations": False, "temperature": 1.0},
}
"""Settings of a model that differ from those of every preset; None for options that it lacks."""
START_OPTIONS = {"overwrite", "resume", "dry_run", "device"}
"""Options that concern one start of a run alone, and are not kept in its config.json."""


def defaults(arguments: list[str]) -> Config:
    """Return the configuration that the options of a command line override: that of the preset and the model.

    With ``--resume`` it is that of the run in ``--out``, where there is one.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--model", default="full_glow")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true")
    known = parser.parse_known_args(arguments)[0]
    stored = read(known.out) if known.resume and known.out else None
    if stored is not None:
        return stored
    preset = PRESETS.get(known.preset, PRESETS["small"])
    if known.model not in get_args(Config.__annotations__["model"]):
        return preset
    return dataclasses.replace(preset, model=known.model, **MODEL_SETTINGS.get(known.model, {}))


def read(run: Path) -> Config | None:
    """Read the configuration of a run, to start from; None where there is none, or none that fits.

    Why it does not fit is said by ``streets.runs.configuration``, which reads it again to go on with the run.
    """
    try:
        stored = json.loads((run / "config.json").read_text())
        if misfits(Config, stored):
            return None
        names = {field.name for field in dataclasses.fields(Config)} & stored.keys() - START_OPTIONS
        values: Any = {name: tuple(stored[name]) if isinstance(stored[name], list) else stored[name] for name in names}
        return Config(**values | {"data": stored["data"] and Path(stored["data"]), "out": run})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
