"""Weights from files that others wrote, read without running anything in them, and loaded exactly or not at all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def read_state(path: Path | None) -> Mapping[str, Tensor]:
    """The state dict of a ``.safetensors`` or torch file; of a checkpoint, its ``state_dict``, without ``module.``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no path, a damaged file, one that holds something else, or a pickle that would run code.
    """
    if path is None:
        raise ValueError("expected a file of weights, got none: this judge is a trained network, pass its path")
    if not path.is_file():
        raise FileNotFoundError(f"expected weights in {path}, but there is no such file: check the path")
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"expected a readable .safetensors or torch file in {path}, got {reason}; "
                         "fetch the file again") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not (isinstance(state, Mapping)
            and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())):
        raise ValueError(f"expected names and tensors in {path}, got a {type(state).__name__} of something else; "
                         "pass the state dict of the network")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_exactly(net: nn.Module, state: Mapping[str, Tensor], path: Path | None, advice: str) -> None:
    """Load what was read from ``path``; ValueError with the first key that differs if it is of another network."""
    own = net.state_dict()
    differing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    differing += [key for key in state if key not in own]
    if differing:
        first = differing[0]
        raise ValueError(f"{path}: {first}: expected {_shape(own, first)}, got {_shape(state, first)}; "
                         f"{len(differing)} keys differ in all; {advice}")
    net.load_state_dict(state)


def _shape(tensors: Mapping[str, Tensor], key: str) -> str:
    return str(tuple(tensors[key].shape)) if key in tensors else "no such key"
