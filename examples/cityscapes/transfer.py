"""Put the content of one photo on the structure of another label map: section 5.4 and Figure 3 of the Full-Glow paper.

    python examples/cityscapes/transfer.py RUN --data ROOT --content 3 10 20 --structure 7 40 60 --out DIR
    python examples/cityscapes/transfer.py RUN --content-photo A.png --content-label A_ids.png \
        --structure-label B_ids.png --out DIR

DIR gets every image at full resolution, and grid.png: a row for each pair, with the photo whose content is wanted, the
label map whose structure is wanted, the result, and the real photo of that structure where there is one. As a
check, the content is also put back onto its own label map, and the largest difference from the photo is printed.
"""

import sys

from streets.config.groups import GROUPS
from streets.config.transfer import Config
from streets.system import command_line


def main(arguments: list[str]) -> None:
    """Transfer as the command line says; a user's mistake ends in one line of text and exit status 2."""
    config = command_line.parse("transfer.py", Config, arguments, groups=GROUPS, description=__doc__)
    command_line.run("transfer.py", lambda: work(config))


def work(config: Config) -> None:
    """Transfer; torch is imported here, since that takes seconds that --help must not wait for."""
    from streets.using.transfer import transfer

    transfer(config)


if __name__ == "__main__":
    main(sys.argv[1:])
