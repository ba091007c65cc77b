"""Explanation of option values that are no numbers, in words of a person instead of those of a parser."""

import re
import shlex
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

NUMBERS = {int: "whole number", float: "number"}


def explain(kind: type, arguments: Sequence[str], message: str) -> str | None:
    """Explain what numbers an option needs that a parser's message is about; None where it is about something else."""
    arguments = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    named = re.match(r"(--[\w-]+): |Missing value for argument '(--[\w-]+)'", message)
    option = named and (named[1] or named[2])
    if not option or option not in arguments:
        return None
    hint: Any = get_type_hints(kind, include_extras=True).get(option[2:].replace("-", "_"))
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    wanted: Any = next((one for one in hints if one is not NoneType), None)
    inner = get_args(wanted) if get_origin(wanted) is tuple else (wanted,)
    kind_of_part: Any = inner[0]
    number = NUMBERS.get(kind_of_part)
    if number is None:
        return None
    words = following(arguments, option)
    needed = f"a {number} is needed"
    if get_origin(wanted) is tuple:
        several = inner[-1] is ...
        needed = f"{'' if several else f'{len(inner)} '}{number}s with spaces between are needed"
        parts = [part for word in words for part in re.split(r",|;|(?<=\d)x(?=\d)", word) if part]
        if all(is_number(part, kind_of_part) for part in parts) and (several or len(parts) == len(inner)):
            needed += f", as in {option} {' '.join(parts)}"
    return f"{option} {shlex.join(words)}: {needed}{', or None' * (NoneType in hints)}"


def following(arguments: Sequence[str], option: str) -> list[str]:
    """Return the words after an option, up to the next one."""
    words: list[str] = []
    for word in arguments[arguments.index(option) + 1:]:
        if word.startswith("--"):
            break
        words.append(word)
    return words


def is_number(text: str, kind: type) -> bool:
    """Tell if a text is a number of a kind."""
    try:
        kind(text)
    except ValueError:
        return False
    return True
