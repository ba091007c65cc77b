"""Say what a data set holds, what a training would leave out or refuse and why, and show some of its pairs.

    python examples/cityscapes/inspect_data.py ROOT
    python examples/cityscapes/inspect_data.py ROOT --labels idd --pairs 0 --out idd.png
    python examples/cityscapes/inspect_data.py PAIRS --side left

For every split it prints the number of pairs, the files and their sizes, cities and shares of the classes where there
are label maps, and what cannot be read or has no partner. The contact sheet has the photos, each beside its label map
in the colours of the labels; of pairs of images B beside A.
"""

import sys

from streets.config.inspection import Config
from streets.system import command_line


def main(arguments: list[str]) -> None:
    """Inspect as the command line says; a user's mistake ends in one line of text and exit status 2."""
    config = command_line.parse("inspect_data.py", Config, arguments, description=__doc__)
    command_line.run("inspect_data.py", lambda: work(config))


def work(config: Config) -> None:
    """Inspect; torch is imported here, since that takes seconds that --help must not wait for."""
    from streets.using.inspection import inspect

    inspect(config)


if __name__ == "__main__":
    main(sys.argv[1:])
