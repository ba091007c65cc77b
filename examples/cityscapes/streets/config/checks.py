"""Checks of options: whole numbers, finite numbers, and the types of stored values."""

import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MOST = {"seed": 2**63 - 1, "generated": 10**6, "repeats": 1000, "draws": 10**6, "workers": 1000}
"""Largest values of some options; that of all others is a billion."""


def check_counts(config: Any, **least: int) -> None:
    """Refuse whole numbers below ``least`` or above ``MOST``; None stands for an option that is left out."""
    for option, lowest in least.items():
        value, most = getattr(config, option), MOST.get(option, 10**9)
        if value is not None and not lowest <= value <= most:
            needed = f"at least {lowest} is needed" if value < lowest else f"at most {most} is possible"
            raise ValueError(f"--{option.replace('_', '-')} {value}: {needed}")


def check_finite(config: Any, *options: str, zero: bool = False) -> None:
    """Refuse numbers that are infinite, NaN, negative, or 0 unless ``zero`` allows it; None is an option left out."""
    for option in options:
        value = getattr(config, option)
        if value is not None and not (0 < value < math.inf or (zero and value == 0)):
            raise ValueError(f"--{option.replace('_', '-')} {value:g}: a finite number "
                             f"{'of at least' if zero else 'above'} 0 is needed")


def misfits(kind: type, stored: dict[str, Any]) -> list[str]:
    """Return the names of options whose values, read from JSON, are not of the types in the configuration."""
    return [name for name, hint in get_type_hints(kind).items() if name in stored and not _fits(stored[name], hint)]


def _fits(value: Any, hint: Any) -> bool:
    """Tell if a value that was read from JSON is of a type."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if get_origin(hint) is Literal:
        return value in inner
    if get_origin(hint) is tuple:
        hints = inner[:1] * len(value) if inner[-1] is ... and isinstance(value, list) else inner
        return isinstance(value, list) and len(value) == len(hints) and all(map(_fits, value, hints))
    if isinstance(value, bool):
        return hint is bool
    kinds = {bool: bool, int: int, float: (int, float), NoneType: NoneType}
    return isinstance(value, kinds.get(hint, str))
