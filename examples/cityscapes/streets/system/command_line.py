"""Command lines of the scripts: reading of options, and one line and a status for every end."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any, NoReturn, TypeVar

import tyro

Config = TypeVar("Config")

LONGEST = 4000
"""Characters of a message, of which a damaged file or a list of names could have any number."""


def parse(script: str, kind: type[Config], arguments: list[str], **options: Any) -> Config:
    """Read the options of a command line; one that cannot be read ends in one line and exit status 2."""
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
    print(f"process {rank}: " * (rank > 0) + f"{script}: error: {one_line(reason)}", file=sys.stderr)
    end(2)


def one_line(text: str) -> str:
    """Return a text as one line that can be read: without control characters, and cut in the middle if it is long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.splitlines()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST // 2]} ... {line[-LONGEST // 2:]}"


def run(script: str, work: Callable[[], object]) -> None:
    """Do the work; a mistake of the user's ends in one line and exit status 2, Ctrl-C in 130.

    Of several processes each has its line, for the mistake may be in the files or the GPU of one of them alone.
    """
    for name in ("stdout", "stderr"):  # None where it was closed, which tqdm cannot write to
        setattr(sys, name, getattr(sys, name) or nowhere())
    try:
        work()
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
    """Open a file that keeps nothing."""
    return open(os.devnull, "w")


def mistake(error: Exception) -> str | None:
    """Explain an error that the user can mend; None for one of the program's own."""
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
    """Tell if this process is one of several that compute together."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()
