"""Data of a function of one's own: ``--dataset MODULE:FUNCTION``."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from streets.data.folders import flat_names
from streets.data.image_pairs import ImagePairs, Objects


def open_own(name: str, split: str, image_size: Sequence[int]) -> ImagePairs | None:
    """Open a split by a function that returns a sequence of pairs (A, B), perhaps with ``names``.

    None where the function returns that, as it has no such split.
    """
    pairs = find(name)(split)
    if pairs is None:
        return None
    if not (hasattr(pairs, "__len__") and hasattr(pairs, "__getitem__")) or not len(pairs):
        raise ValueError(f"--dataset {name}: expected a sequence of pairs for {split}, got {type(pairs).__name__} "
                         "without any: return a list, or an object with __len__ and __getitem__")
    try:
        first = pairs[0]
    except (LookupError, TypeError) as error:
        raise ValueError(f"--dataset {name}: expected a sequence of pairs for {split}, got {type(pairs).__name__} "
                         "without pair 0: return a list, or an object with __len__ and __getitem__") from error
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise ValueError(f"--dataset {name}: expected pairs (A, B), got {type(first).__name__} as the first of "
                         f"{split}: return tuples of two images")
    given = getattr(pairs, "names", None)
    names = [str(each) for each in (() if given is None else given)] or [f"{split}_{i:06d}" for i in range(len(pairs))]
    if len(names) != len(pairs):
        raise ValueError(f"--dataset {name}: expected as many names as pairs of {split}, got {len(names)} and "
                         f"{len(pairs)}: give each pair a name, or none")
    return ImagePairs(flat_names(names), Objects(pairs, f"{split} of {name}"), image_size)


def find(name: str) -> Callable[[str], Any]:
    """Find a function by its name, in a file MODULE.py of the working directory or among what is installed."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"--dataset {name}: expected MODULE:FUNCTION, for example my_pairs:open_split")
    try:
        found = getattr(_from_file(module) or importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        advice = ("give a function of a module in the working directory, or of one that is installed"
                  if error.name == module.partition(".")[0] else
                  f"{module} imports it; where it is in the working directory too, run with PYTHONPATH=.")
        raise ValueError(f"--dataset {name}: {error}: {advice}") from error
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--dataset {name}: {error}: give a function of a module in the working directory, or of one "
                         "that is installed") from error
    if not callable(found):
        raise ValueError(f"--dataset {name}: expected a function, got {type(found).__name__}")
    return found


def _from_file(module: str) -> ModuleType | None:
    """Load a module from its file in the working directory; None if there is no such file."""
    path = Path(f"{module}.py").resolve()
    spec = importlib.util.spec_from_file_location(module, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        return None
    if module in sys.modules and sys.modules[module].__file__ == str(path):
        return sys.modules[module]
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded  # where processes that read data look for its classes
    spec.loader.exec_module(loaded)
    return loaded
