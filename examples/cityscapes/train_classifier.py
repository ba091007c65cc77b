"""Train a small PSPNet to recognize the classes of real street photos, as a judge of synthesized ones.

    python examples/cityscapes/train_classifier.py --out runs/pspnet                               generated scenes
    python examples/cityscapes/train_classifier.py --data ROOT --base-size 192 --out runs/pspnet   your photos

The second, on CamVid's 367 training photos at 64x128, takes 400 s of processor time on a busy core. Pixel accuracy,
class accuracy and mean IoU are then 81.6, 54.7 and 43.6 % on the validation split, and 68.3, 40.5 and 32.0 % on the 62
test photos.
"""

import sys

from streets.config.classifier import Config
from streets.config.groups import OF_CLASSIFIER
from streets.system import command_line


def main(arguments: list[str]) -> None:
    """Train as the command line says; a user's mistake ends in one line of text and exit status 2."""
    config = command_line.parse("train_classifier.py", Config, arguments, groups=OF_CLASSIFIER, description=__doc__)
    command_line.run("train_classifier.py", lambda: work(config))


def work(config: Config) -> None:
    """Train; torch is imported here, since that takes seconds that --help must not wait for."""
    from streets.judging.classifier import train

    train(config)


if __name__ == "__main__":
    main(sys.argv[1:])
