"""Samples of a trained model: pictures of scenes, or a synthetic data set with exact labels.

    python examples/cityscapes/sample.py RUN --out DIR                                    scenes as in training
    python examples/cityscapes/sample.py RUN --data ROOT --indices 0 5 9 --out DIR        scenes of your data
    python examples/cityscapes/sample.py RUN --label-maps painted.png --out DIR           any label map
    python examples/cityscapes/sample.py RUN --data ROOT --temperature 0 0.5 0.8 1 --out DIR
    python examples/cityscapes/sample.py RUN --data ROOT --split train --samples 2 --augment DIR
    torchrun --nproc_per_node 2 examples/cityscapes/sample.py RUN --data ROOT --split train --samples 2 --augment DIR

DIR gets every sample at full resolution, and grid.png: a row for each scene, with the given image, the real image
where there is one, and the samples. --augment makes a data set in the Cityscapes layout, in one process or several,
each on a GPU of its own where there are GPUs; after a stop the same command continues it, with any number of processes.
The same --seed gives the same bytes, whichever other scenes, samples or shards are made. On a CPU OMP_NUM_THREADS has
to be the same too; it is 1 where torchrun starts several processes.
"""

import sys

from streets.config.groups import GROUPS
from streets.config.sampling import Config
from streets.system import command_line


def main(arguments: list[str]) -> None:
    """Sample as the command line says; a user's mistake ends in one line of text and exit status 2."""
    config = command_line.parse("sample.py", Config, arguments, groups=GROUPS, description=__doc__)
    command_line.run("sample.py", lambda: work(config))


def work(config: Config) -> None:
    """Sample; torch is imported here, since that takes seconds that --help must not wait for."""
    from streets.using.sampling import sample

    sample(config)


if __name__ == "__main__":
    main(sys.argv[1:])
