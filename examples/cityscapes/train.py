"""Train a model of the paper on street scenes: label map to photo.

    python examples/cityscapes/train.py                                        generated scenes, under five minutes
    python examples/cityscapes/train.py --model c_flow                         another model of the paper
    python examples/cityscapes/train.py --data ROOT --image-size 64 128        your data in the Cityscapes layout
    python examples/cityscapes/train.py --preset paper-256 --data ROOT         the paper's settings
    python examples/cityscapes/train.py --out RUN --resume                     go on with a run that was stopped
    torchrun --nproc_per_node 8 examples/cityscapes/train.py --out RUN ...     on 8 GPUs

The first ends between 5.1 and 5.2 conditional bits per dimension on validation; the samples show sky and road.
"""

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cli
import stopping


@dataclass
class Config:
    """Everything that a run depends on; written to its config.json."""

    preset: Literal["small", "paper-256", "paper-512x1024", "native-1024x2048"] = "small"
    """The settings to start from; every other option overrides one of them."""
    model: Literal["full_glow", "c_glow_v1", "c_glow_v2", "dual_glow", "c_flow", "glow", "pix2pix"] = "full_glow"
    """The model, see models/."""
    direction: Literal["label2photo", "photo2label"] = "label2photo"
    """Which image is given, and which is modelled."""
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
    """Of the conditioners' nets in training; all else, validation and samples are float32."""
    compile: bool = False
    """Compile the steps of the flow: minutes at first, faster from then on."""
    epochs: int = 7
    """Passes over the training pairs."""
    learning_rate: float = 1e-3
    """Of Adam."""
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
    """Of weights, data order and noise."""
    device: str | None = None
    """For example cuda:0; a GPU if there is one, else the CPU."""
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

# What a model sets otherwise than a preset; None for options that it lacks.
OF_MODEL: dict[str, dict[str, Any]] = {
    "c_glow_v1": {"source_weight": None},
    "c_glow_v2": {"source_weight": None},
    "glow": {"source_weight": None},
    "pix2pix": {"source_weight": None, "steps": None, "learning_rate": 2e-4, "warmup_steps": 0, "linear_decay": False,
                "checkpoint_activations": False, "temperature": 1.0},
}


# What concerns one start of a run alone, and is not kept in its config.json.
OF_A_START = {"overwrite", "resume", "dry_run", "device"}


def parse(arguments: list[str]) -> Config:
    """The configuration of a command line: the preset's and the model's, overridden option by option.

    With --resume it is that of the run in --out, where there is one, overridden likewise.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="small")
    first.add_argument("--model", default="full_glow")
    first.add_argument("--out", type=Path)
    first.add_argument("--resume", action="store_true")
    known = first.parse_known_args(arguments)[0]
    default = begun_with(known.out) if known.resume and known.out else None
    if default is None:
        default = PRESETS.get(known.preset, PRESETS["small"])
        if known.model in get_args(Config.__annotations__["model"]):
            default = dataclasses.replace(default, model=known.model, **OF_MODEL.get(known.model, {}))
    return cli.parse("train.py", Config, arguments, default=default, description=__doc__)


def begun_with(out: Path) -> Config | None:
    """The configuration of the run in a directory, None where none can be read."""
    try:
        stored = json.loads((out / "config.json").read_text())
        names = [field.name for field in dataclasses.fields(Config)
                 if field.name in stored and field.name not in OF_A_START]
        if cli.misfits(Config, stored):
            return None  # check_resumed says so
        values: Any = {name: tuple(stored[name]) if isinstance(stored[name], list) else stored[name] for name in names}
        return Config(**values | {"data": stored["data"] and Path(stored["data"]), "out": out})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def main(arguments: list[str]) -> None:
    """Train as the command line says; a mistake of the user's ends in one line and exit status 2."""
    with stopping.requests() as stop:  # first, so that no signal is lost
        config = parse(arguments)
        cli.run("train.py", lambda config: dry_run(config) if config.dry_run else train(config, stop), config)


# Torch takes seconds to import: not before --help is answered.
def train(config: Config, stop: stopping.Stop) -> None:
    import training

    training.train(config, stop)


def dry_run(config: Config) -> None:
    import costs
    import processes

    if processes.rank() == 0:
        print("one step on shapes alone, which takes minutes for a large model", flush=True)
        print(costs.report(costs.predict(config), config))


if __name__ == "__main__":
    main(sys.argv[1:])
