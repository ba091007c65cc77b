"""Checkpoints of a training: one safetensors file each, with everything that the training needs to continue."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from models.weights import load_exactly
from streets.system import files

FORMAT = 1
"""Number of the file format; files of another format are refused."""
NEEDED = {"step", "best", "skipped", "log_length", "pairs"}
"""Facts that every checkpoint has."""
KEPT = 2
"""Number of checkpoints that are kept, the last ones."""
PATTERN = "step_*.safetensors"

Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]


def write(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint of a step, then remove all but the last two, and any of later steps."""
    folder.mkdir(exist_ok=True)
    for left in folder.glob("*.partial"):  # by processes that were killed
        left.unlink()
    metadata = {"facts": json.dumps({"format": FORMAT, "step": step, **facts})}
    own = folder / f"step_{step:09d}.safetensors"
    with files.written(own) as partial:
        partial.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))
    past = [path for path in found(folder) if path.name <= own.name]
    for path in {*found(folder)} - {*past[:KEPT]}:
        path.unlink()


def found(folder: Path) -> list[Path]:
    """List the checkpoints in a folder, the last one first."""
    return sorted(folder.glob(PATTERN), reverse=True)


def read(path: Path) -> Checkpoint:
    """Read the tensors and facts of a checkpoint; a ValueError gives the reason if that fails."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            if facts["format"] != FORMAT:
                raise ValueError(f"its format is {facts['format']}, this version of condflows reads {FORMAT}")
            if missing := NEEDED - facts.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no whole checkpoint ({error or type(error).__name__})") from error


def last(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Read the last readable checkpoint, and print which ones are passed over; None if there are no checkpoints.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    paths = found(folder)
    for path in paths:
        try:
            checkpoint = read(path)
        except ValueError as error:
            print(f"{error}: it is passed over", flush=True)
        else:
            return path, checkpoint
    if paths:
        raise ValueError(f"none of the {len(paths)} checkpoints in {folder} can be read: begin anew with --overwrite, "
                         "or in another --out")
    return None


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Name the state of the optimizers: number of the optimizer, number of the parameter, quantity."""
    return {f"{n}.{i}.{name}": value for n, optimizer in enumerate(optimizers)
            for i, state in optimizer.state_dict()["state"].items() for name, value in state.items()}


def load_optimizers(optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Load the state of the optimizers, each tensor in the memory layout that its optimizer would have chosen."""
    parameters = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in optimizers]
    for name, value in tensors.items():
        n, i, quantity = name.split(".")
        parameter = parameters[int(n)][int(i)]
        alike = torch.empty_like(parameter if value.shape == parameter.shape else value, device=parameter.device)
        optimizers[int(n)].state[parameter][quantity] = alike.copy_(value)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix and a dot, under the rest of their names."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def load(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a module from the tensors of a checkpoint under the prefix."""
    load_exactly(module, under(prefix, tensors), path, "the checkpoint belongs to another model: give another --out")
