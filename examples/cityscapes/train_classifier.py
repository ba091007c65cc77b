"""Train a small PSPNet to recognize the classes of real street photos, as a judge of synthesized ones.

    python examples/cityscapes/train_classifier.py --out runs/pspnet                               generated scenes
    python examples/cityscapes/train_classifier.py --data ROOT --base-size 192 --out runs/pspnet   your photos

The second, on CamVid's 367 training photos at 64x128, takes 400 s of processor time on a busy core. Pixel accuracy,
class accuracy and mean IoU are then 81.6, 54.7 and 43.6 % on the validation split, and 68.3, 40.5 and 32.0 % on the 62
test photos.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cli


@dataclass
class Config:
    """Everything that a classifier depends on; written to its config.json."""

    out: Path
    """Directory for config.json and model.safetensors; both are written at the end."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; street scenes are generated if it is left out."""
    overwrite: bool = False
    """Replace what an earlier run left in the directory."""
    image_size: tuple[int, int] = (64, 128)
    """Height and width in pixels at which photos and label maps are read."""
    base_size: int | None = None
    """Long side at which the network sees photos, in training and as a judge; that of --image-size if it is left out.
    A prediction is made for every eighth pixel of this size, and interpolated between."""
    classes: Literal["present", "all"] = "present"
    """Of the 19 evaluated classes, those that occur in the training split, or all."""
    layers: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Blocks of the four stages; 3 4 6 3 is PSPNet50."""
    width: int = 8
    """Channels of the first convolution; 64 is PSPNet50."""
    epochs: int = 24
    """Passes over the training photos."""
    batch_size: int = 8
    """Photos of a training step."""
    learning_rate: float = 0.1
    """Of SGD with momentum 0.9 and weight decay 1e-4; it falls as (1 - step / steps) ** 0.9."""
    aux_weight: float = 0.4
    """Weight of the auxiliary head's loss."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Least and largest random enlargement of a training photo, before a random crop and flip."""
    generated: int = 640
    """Number of generated training scenes where there is no --data; an eighth as many for validation."""
    seed: int = 0
    """Of weights, data order and augmentation."""
    device: str | None = None
    """For example cuda:0; a GPU if there is one, else the CPU."""
    workers: int = 0
    """Processes that read data beside the training."""


def main(arguments: list[str]) -> None:
    """Train as the command line says; a mistake of the user's ends in one line and exit status 2."""
    cli.run("train_classifier.py", work, cli.parse("train_classifier.py", Config, arguments, description=__doc__))


def work(config: Config) -> None:
    from classifiers.training import train  # torch takes seconds to import: not before --help is answered

    train(config)


if __name__ == "__main__":
    main(sys.argv[1:])
