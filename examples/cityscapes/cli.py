"""What the scripts have in common: how they end."""

import sys
from collections.abc import Callable
from typing import Any


def run(script: str, work: Callable[[Any], object], config: Any) -> None:
    """Do the work; a mistake of the user's ends in one line and exit status 2, Ctrl-C in 130.

    Of several processes each has its line, for the mistake may be in the files or the GPU of one of them alone.
    """
    try:
        work(config)
    except (ValueError, OSError) as error:
        import processes  # with it torch: not before --help is answered

        rank = processes.rank()
        print(f"process {rank}: " * (rank > 0) + f"{script}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
