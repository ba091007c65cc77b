"""Train a model on street scenes: label map to photo.

    python examples/cityscapes/train.py                                        generated scenes, under five minutes
    python examples/cityscapes/train.py --model c_flow                         another model of the paper
    python examples/cityscapes/train.py --data ROOT --image-size 64 128        your data in the Cityscapes layout
    python examples/cityscapes/train.py --preset paper-256 --data ROOT         the paper's settings
    python examples/cityscapes/train.py --out RUN --resume                     go on with a run that was stopped
    torchrun --nproc_per_node 8 examples/cityscapes/train.py --out RUN ...     on 8 GPUs

The first trains Encoded Glow and ends at about 4.8 conditional bits per dimension on validation; its samples show
streets with houses, trees and cars.
"""

import dataclasses
import sys

from streets.config.data import folder
from streets.config.groups import GROUPS
from streets.config.presets import defaults
from streets.config.training import Config
from streets.system import command_line, stopping


def main(arguments: list[str]) -> None:
    """Train as the command line says; a user's mistake ends in one line of text and exit status 2."""
    with stopping.requests() as stop:  # first, so that no signal is lost
        config = parse(arguments)
        command_line.run("train.py", lambda: dry_run(config) if config.dry_run else train(config, stop))


def parse(arguments: list[str]) -> Config:
    """Read the options of a command line; the others are those of preset and model, or of the run that is resumed."""
    config = command_line.parse("train.py", Config, arguments, defaults(arguments), GROUPS, description=__doc__)
    return dataclasses.replace(config, data=folder(config.data))


# Torch takes seconds to import, which must not delay --help.
def train(config: Config, stop: stopping.Stop) -> None:
    """Train a model."""
    from streets.training import loop

    loop.train(config, stop)


def dry_run(config: Config) -> None:
    """Print parameters, operations and memory of a training step."""
    from streets.training import costs

    costs.dry_run(config)


if __name__ == "__main__":
    main(sys.argv[1:])
