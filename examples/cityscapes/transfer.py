"""The content of one photo on the structure of another label map: section 5.4 and Figure 3 of the Full-Glow paper.

    python examples/cityscapes/transfer.py RUN --data ROOT --content 3 10 20 --structure 7 40 60 --out DIR
    python examples/cityscapes/transfer.py RUN --content-photo A.png --content-label A_ids.png \
        --structure-label B_ids.png --out DIR

DIR gets every image at full resolution, and grid.png: a row for each pair, with the photo whose content is wanted, the
label map whose structure is wanted, the result, and the real photo of that structure where there is one. What is
printed beside each pair is a check: the content goes back onto its own label map, which gives the photo again.
"""

import sys

from streets.config.transfer import Config
from streets.system import command_line


def main(arguments: list[str]) -> None:
    """Transfer as the command line says; a mistake of the user's ends in one line and exit status 2."""
    config = command_line.parse("transfer.py", Config, arguments, description=__doc__)
    command_line.run("transfer.py", lambda: work(config))


def work(config: Config) -> None:
    """Transfer; torch takes seconds to import, so not before --help is answered."""
    from streets.using.transfer import transfer

    transfer(config)


if __name__ == "__main__":
    main(sys.argv[1:])
