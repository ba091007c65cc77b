"""What the scripts have in common: how they end."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def run(script: str, work: Callable[[Any], object], config: Any) -> None:
    """Do the work; a mistake of the user's ends in one line and exit status 2, Ctrl-C in 130.

    Of several processes each has its line, for the mistake may be in the files or the GPU of one of them alone.
    """
    try:
        work(config)
        return
    except (ValueError, OSError) as error:
        import processes  # with it torch: not before --help is answered

        rank, status = processes.rank(), 2
        print(f"process {rank}: " * (rank > 0) + f"{script}: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except Exception:
        if not connected():
            raise
        traceback.print_exc()
        status = 1
    if connected():  # the others may wait for this process, and would if it took its leave of them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def connected() -> bool:
    """Whether this process is one of several that compute together."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()
