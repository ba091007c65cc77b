"""Judge trained models as the Full-Glow paper does: bits per dimension, and scores of a segmentation network.

    python examples/cityscapes/evaluate.py runs/full_glow runs/c_flow --data ROOT --split test \\
        --judge espnet-camvid --judge-weights WEIGHTS --sweep --out evaluation

    python examples/cityscapes/evaluate.py RUN         on the data of its training, without the scores of a judge

Writes results.json, results.md (the paper's Tables 1 and 2), samples.png (its Figure 2) and curves.png (of the
trainings) into one directory, and with a judge temperatures.png, classes.png and confusion.png.
"""

import sys

from streets.config.evaluation import Config
from streets.config.groups import OF_EVALUATION
from streets.system import command_line


def main(arguments: list[str]) -> None:
    """Evaluate as the command line says; a user's mistake ends in one line of text and exit status 2."""
    config = command_line.parse("evaluate.py", Config, arguments, groups=OF_EVALUATION, description=__doc__)
    command_line.run("evaluate.py", lambda: work(config))


def work(config: Config) -> None:
    """Evaluate; torch is imported here, since that takes seconds that --help must not wait for."""
    from streets.judging.evaluation import evaluate

    evaluate(config)


if __name__ == "__main__":
    main(sys.argv[1:])
