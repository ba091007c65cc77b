"""Configuration of a run: reading and checking it, and building the model that it describes."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from packaging.version import InvalidVersion, Version

import condflows
from models import MODELS
from streets.config.checks import misfits
from streets.config.training import Config
from streets.data import label_sets
from streets.data.pixels import PairPixels
from streets.runs.building import build


def versions() -> dict[str, str]:
    """Return the versions of condflows and torch that are in use."""
    return {"condflows": condflows.__version__, "torch": torch.__version__}


def read_config(run: Path) -> dict[str, Any]:
    """Read the configuration of a run directory or of an exported model.

    Raises:
        ValueError: there is none, it is damaged or of something else, or a newer condflows wrote it.
    """
    path = run / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a run of train.py in {run}, with a readable config.json, got {error}: give the "
                         "directory that train.py named") from error
    check_config(config, path)
    return config


def check_config(config: Any, where: object) -> None:
    """Refuse a configuration that fits no model of this condflows; the message calls it ``where``."""
    writer = other_version(config)
    if writer is not None and writer > Version(condflows.__version__):
        raise ValueError(f"{where}: {install(writer)}")
    kinds = {"model": str, "model_arguments": dict, "image_size": list}
    wrong = [key for key, kind in kinds.items() if not (isinstance(config, dict) and isinstance(config.get(key), kind))]
    if wrong:
        reason = f"no {', '.join(wrong)}"
    elif config["model"] not in MODELS:
        reason = f"the model {config['model']!r}"
    elif unknown := config["model_arguments"].keys() - (  # affine is a function, which no file holds
            inspect.signature(MODELS[config["model"]]).parameters.keys() - {"affine"}):
        reason = f"the model {config['model']!r} with {', '.join(sorted(unknown))}"
    elif wrong := misfits(Config, config):
        reason = f"the {wrong[0].replace('_', ' ')} {config[wrong[0]]!r}"
    elif not 0 <= config.get("noise", 0.0) < 1:
        reason = f"the noise {config['noise']!r}"
    else:
        try:
            label_sets.of_config(config)
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {error}") from error
        return
    raise ValueError(f"{where}: expected a model of {', '.join(MODELS)} and its arguments, got {reason}: "
                     f"{install(writer) if writer is not None else 'give a run of train.py'}")


def levels_of(config: Mapping[str, Any]) -> int:
    """Return the number of levels of a model."""
    arguments = config["model_arguments"]
    return arguments.get("depth") or len(
        arguments.get("steps") or inspect.signature(MODELS[config["model"]]).parameters["steps"].default)


def other_version(config: Any) -> Version | None:
    """Return the version of condflows that wrote a configuration; None if it is this one, or unknown."""
    try:
        writer = Version(config["versions"]["condflows"])
    except (LookupError, TypeError, InvalidVersion):
        return None
    return None if writer == Version(condflows.__version__) else writer


def install(writer: Version) -> str:
    """Write the advice to install the version that wrote a file."""
    return f"condflows {writer} wrote it, and this is {condflows.__version__}: pip install condflows=={writer}"


def build_model(config: Mapping[str, Any], where: object) -> Any:
    """Build the model of a configuration, with initial weights."""
    try:
        options = {name: config[name] for name in ("dequantization", "nets") if name in config}
        _, modelled = PairPixels.of_config(config).sides(config.get("direction", "label2photo"))
        return build(config["model"], config["model_arguments"], **options, bits=modelled.bits)
    except Exception as error:  # what a model's builder raises for arguments of another kind
        writer = other_version(config)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{where}: {config['model']} cannot be built with {config['model_arguments']}, {reason}: "
                         f"{install(writer) if writer is not None else 'give a run of train.py'}") from error
