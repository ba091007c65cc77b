"""What the scripts have in common: how they read their options, and how they end."""

import contextlib
import io
import math
import os
import sys
import traceback
from collections.abc import Callable
from types import NoneType, UnionType
from typing import IO, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

Config = TypeVar("Config")

MOST = {"seed": 2**63 - 1, "generated": 10**6, "repeats": 1000, "draws": 10**6, "workers": 1000}
"""Of options whose larger values no machine could take; a billion for the others."""


def parse(script: str, kind: type[Config], arguments: list[str], **options: Any) -> Config:
    """The options of a command line; one that cannot be read ends in one line and exit status 2."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=script, args=arguments, **options)
    except SystemExit as end:
        if not end.code:  # --help
            raise
    # A box: its title, and paragraphs between rules.
    lines = [line.strip(" │|") for line in said.getvalue().splitlines()[1:]]
    text = " ".join(line if line.strip("─-╭╮╰╯ ") else ";" for line in lines).partition("For full helptext")[0]
    text = text.removeprefix("; ").removeprefix("Error parsing ").replace(" ; ", "; ").rstrip(" ;.")
    refuse(script, f"{text}: {script} --help names all options")


def refuse(script: str, reason: str) -> NoReturn:
    """End in one line and exit status 2, which each of several processes does for itself."""
    rank = int(os.environ.get("RANK", 0))
    print(f"process {rank}: " * (rank > 0) + f"{script}: error: {' '.join(reason.splitlines())}", file=sys.stderr)
    end(2)


def run(script: str, work: Callable[[Any], object], config: Any) -> None:
    """Do the work; a mistake of the user's ends in one line and exit status 2, Ctrl-C in 130.

    Of several processes each has its line, for the mistake may be in the files or the GPU of one of them alone.
    """
    for name in ("stdout", "stderr"):  # None where it was closed, which tqdm cannot write to
        setattr(sys, name, getattr(sys, name) or nowhere())
    try:
        work(config)
        sys.stdout.flush()
    except KeyboardInterrupt:
        end(130)
    except BrokenPipeError:  # the reader of the output has gone, as in `| head -1`
        sys.stdout = nowhere()  # for what is left to be written at exit
        end(141)
    except Exception as error:
        reason = mistake(error)
        if reason is not None:
            refuse(script, reason)
        if not connected():
            raise
        traceback.print_exc()
        end(1)


def nowhere() -> IO[str]:
    return open(os.devnull, "w")


def mistake(error: Exception) -> str | None:
    """What to say of an error that the user can mend; None of one that is the program's own."""
    text = str(error)
    if isinstance(error, MemoryError) or any(said in text for said in ("allocate memory", "out of memory")):
        return "there is not enough memory: take smaller images, batches or models (train.py --dry-run predicts it)"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}: check the path, its permissions and the space on its disk"
    return text if isinstance(error, (ValueError, OSError)) else None


def end(status: int) -> NoReturn:
    """Leave with this exit status."""
    if connected():  # the others may wait for this process, and would if it took its leave of them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def connected() -> bool:
    """Whether this process is one of several that compute together."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def check_counts(config: Any, **least: int) -> None:
    """Refuse whole numbers that are too small or too large; None is an option that is left out."""
    for option, lowest in least.items():
        value, most = getattr(config, option), MOST.get(option, 10**9)
        if value is not None and not lowest <= value <= most:
            needed = f"at least {lowest} is needed" if value < lowest else f"at most {most} is possible"
            raise ValueError(f"--{option.replace('_', '-')} {value}: {needed}")


def check_finite(config: Any, *options: str, zero: bool = False) -> None:
    """Refuse numbers that are not finite and positive, or where ``zero`` may be, negative."""
    for option in options:
        value = getattr(config, option)
        if value is not None and not (0 < value < math.inf or (zero and value == 0)):
            raise ValueError(f"--{option.replace('_', '-')} {value:g}: a finite number "
                             f"{'of at least' if zero else 'above'} 0 is needed")


def misfits(kind: type, stored: dict[str, Any]) -> list[str]:
    """Of options that were stored as JSON those whose values are of another type."""
    return [name for name, hint in get_type_hints(kind).items() if name in stored and not _fits(stored[name], hint)]


def _fits(value: Any, hint: Any) -> bool:
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
    kinds = {int: int, float: (int, float), NoneType: NoneType}
    return isinstance(value, kinds.get(hint, str))
