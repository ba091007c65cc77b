"""Weights of a run: saving, finding and loading them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from models.weights import load_exactly, read_state
from streets.runs.configuration import build_model, install, other_version, read_config
from streets.system import files

WEIGHTS = {"best": "best.safetensors", "last": "model.safetensors"}
"""Files of the weights of the best validation, and of the last weights."""


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights so that a reader sees the old file or the new one, never a part of it."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with files.written(path) as partial:
        partial.write_bytes(save(state))  # save_file makes a file that only its owner can read


def load_weights(model: nn.Module, path: Path, config: Mapping[str, Any]) -> None:
    """Load weights into the model of a configuration.

    Raises:
        ValueError: they are missing, damaged, or of another model; the message names the condflows that wrote them, if
            that is another version.
    """
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in path.parent.glob("*.safetensors"))) or "no weights"
        raise ValueError(f"expected {path}, found {found}: wait for the run's first validation; other formats are "
                         "not read")
    writer = other_version(config)
    load_exactly(model, read_state(path), path, install(writer) if writer is not None else
                 f"the file belongs to another model than the {config['model']} of config.json")


def load_model(run: Path, weights: str = "model.safetensors") -> Any:
    """Load the trained model of a run directory, ready to sample from."""
    config = read_config(run)
    model = build_model(config, run / "config.json")
    load_weights(model, run / weights, config)
    return model.eval()


def has_training(directory: Path) -> bool:
    """Tell if a directory has files of a training; an exported model has a configuration and weights alone."""
    return any((directory / name).exists() for name in (WEIGHTS["best"], "metrics.csv", "checkpoints"))


def weights_file(run: Path, weights: str = "best") -> Path:
    """Return the file of the best or the last weights of a run, or of the only weights of an exported model."""
    return run / WEIGHTS[weights if has_training(run) else "last"]
