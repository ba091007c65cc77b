"""Weights from files of other programs, read without running code in them, and loaded exactly or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from safetensors.torch import load_file
from torch import Tensor, nn

CHECKPOINTS = ("model_state_dict", "state_dict", "model")
"""Keys of the state dict in checkpoints that hold more."""
SAFE_TORCH = Version("2.6")
"""First release whose ``weights_only`` is safe; before it a torch file could run code all the same (CVE-2025-32434)."""


def read_state(path: Path | None) -> Mapping[str, Tensor]:
    """Read the state dict of a ``.safetensors`` or torch file, as ``state_dict_in`` finds it there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no path, a damaged file, one that holds something else, a pickle that would run code, or a torch
            file where torch itself cannot read one safely.
    """
    if path is None:
        raise ValueError("expected a file of weights, got none: this judge is a trained network, pass its path")
    if not path.is_file():
        raise FileNotFoundError(f"expected weights in {path}, but there is no such file: check the path")
    safe = path.suffix == ".safetensors"
    if not safe and Version(torch.__version__) < SAFE_TORCH:
        raise ValueError(f"{path}: torch {torch.__version__} may run code that hides in a torch file: pip install "
                         f"'torch>={SAFE_TORCH}', or pass the weights as .safetensors")
    try:
        content = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types of errors
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if type(error).__name__ == "UnpicklingError":  # torch's own message advises to run the code
            reason = "one that may run code when it is read"
        raise ValueError(f"expected a readable .safetensors or torch file in {path}, got {reason}; "
                         "fetch the file again") from error
    return state_dict_in(content, path)


def state_dict_in(content: Any, where: object) -> Mapping[str, Tensor]:
    """Find names and tensors of a model in the content of a file, without the ``module.`` of a wrapper.

    Raises:
        ValueError: the content is something else; the message calls it ``where``.
    """
    state = content
    for key in CHECKPOINTS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not (isinstance(state, Mapping)
            and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())):
        raise ValueError(f"expected names and tensors in {where}, got a {type(state).__name__} of something else; "
                         "pass the state dict of the network")
    wrapped = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module.") if wrapped else key: value for key, value in state.items()}


def load_exactly(net: nn.Module, state: Mapping[str, Tensor], where: object, advice: str) -> None:
    """Load a state dict from ``where``; if it is another network's, a ValueError names the first key that differs."""
    own = net.state_dict()
    differing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    differing += [key for key in state if key not in own]
    if differing:
        first = differing[0]
        raise ValueError(f"{where}: {first}: expected {_shape(own, first)}, got {_shape(state, first)}; "
                         f"{len(differing)} keys differ in all; {advice}")
    net.load_state_dict(state)


def _shape(tensors: Mapping[str, Tensor], key: str) -> str:
    """Write the shape of a tensor for a message."""
    return str(tuple(tensors[key].shape)) if key in tensors else "no such key"
