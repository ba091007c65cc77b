"""Command lines of the scripts: reading of options, error messages of one line, and exit statuses."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NoReturn, TypeVar

import tyro

from streets.system.grouping import Grouped
from streets.system.mistyped import explain

Config = TypeVar("Config")

LONGEST = 4000
"""Most characters of a message, which a damaged file or a list of names could make very long."""


def parse(script: str, kind: type[Config], arguments: list[str], default: Config | None = None,
          groups: Mapping[str, Sequence[str]] | None = None, description: str | None = None) -> Config:
    """Read the options of a command line; if that fails, print one line and exit with status 2.

    Args:
        script: its name.
        kind: class of the options.
        arguments: words of the command line.
        default: options of which the command line changes some.
        groups: names of the options in each group of the help.
        description: first text of the help.
    """
    messages, grouped = io.StringIO(), Grouped(kind, groups or {})
    try:
        with contextlib.redirect_stderr(messages):
            return grouped.flat(tyro.cli(
                tyro.conf.OmitArgPrefixes[grouped.whole], prog=script, args=arguments, description=description,
                default=None if default is None else grouped.of(default)))
    except SystemExit as end:
        if not end.code:  # --help
            raise
    # The messages are drawn as a box: a title, and paragraphs between horizontal lines.
    lines = [line.strip(" │|") for line in messages.getvalue().splitlines()[1:]]
    text = " ".join(line if line.strip("─-╭╮╰╯ ") else ";" for line in lines).partition("For full helptext")[0]
    text = text.removeprefix("; ").removeprefix("Error parsing ").replace(" ; ", "; ").rstrip(" ;.")
    text = explain(kind, arguments, text) or text
    refuse(script, f"{text}: {script} --help names all options")


def refuse(script: str, reason: str) -> NoReturn:
    """Print one line and exit with status 2; each of several processes prints its line."""
    rank = int(os.environ.get("RANK", 0))
    line = f"process {rank}: " * (rank > 0) + f"{script}: error: {one_line(reason)}\n"
    sys.stderr.write(line)  # in one piece, for print would let the line of another process in before its end
    end(2)


def one_line(text: str) -> str:
    """Return a text as one readable line: without control characters, and cut in the middle if it is long."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.splitlines()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST // 2]} ... {line[-LONGEST // 2:]}"


def run(script: str, work: Callable[[], object]) -> None:
    """Do the work; a user's mistake ends in one line and exit status 2, Ctrl-C in exit status 130.

    Each of several processes prints its line, since the mistake may be in the files or the GPU of one of them alone.
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
    """Open a file that discards all output."""
    return open(os.devnull, "w")


def mistake(error: Exception) -> str | None:
    """Explain an error that the user can correct; None for a fault of the program."""
    text = str(error)
    if isinstance(error, MemoryError) or any(phrase in text for phrase in ("allocate memory", "out of memory")):
        return "there is not enough memory: take smaller images, batches or models (train.py --dry-run predicts it)"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}: check the path, its permissions and the space on its disk"
    return text if isinstance(error, (ValueError, OSError)) else None


def end(status: int) -> NoReturn:
    """Exit with this status."""
    if connected():  # an ordinary exit would wait for the other processes, which may wait for this one
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def connected() -> bool:
    """Tell if this process is connected to others that compute with it."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()
