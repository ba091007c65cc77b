"""Options of ``train_classifier.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class Config:
    """Options of the training of a classifier, whose config.json keeps them."""

    out: Path
    """Directory for config.json and model.safetensors, which are written at the end."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; generated, or no such option, for drawn scenes."""
    cities: tuple[str, ...] = ()
    """Cities of the training split, its folders, to train on; all of them without this option."""
    labels: str = "cityscapes"
    """Labels of the label maps of --data: a name in streets/data/label_sets, or a .csv or .json file with a table of
    name, id, colour and training id."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps of --data; without it each file tells, which is refused where it cannot."""
    pairs: int | None = None
    """Number of training pairs, spread evenly over the split; all of them without this option, and with 0 those of
    --extra alone."""
    extra: Path | None = None
    """Root of a data set in the Cityscapes layout whose training pairs are added, such as synthesized ones of
    sample.py --augment."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace the files of an earlier run there."""
    skip_unpaired: bool = False
    """Leave out files of --data and --extra that have no partner, and say how many; else they are an error."""
    image_size: tuple[int, int] = (64, 128)
    """Height and width in pixels to which photos and label maps are resized when they are read."""
    base_size: int | None = None
    """Long side in pixels of the photos as the network sees them, in training and as a judge; without it that of
    --image-size. The network predicts every eighth pixel of this size, and the pixels between are interpolated."""
    classes: Literal["present", "all"] = "present"
    """Classes to recognize: those of the evaluated ones, 19 of Cityscapes, that are present in the training split,
    whatever --pairs takes of it, or in --extra; or all of them."""
    layers: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Number of residual blocks in each of the four stages; PSPNet50 has 3 4 6 3."""
    width: int = 8
    """Channels of the first convolution; PSPNet50 has 64."""
    epochs: int = 24
    """Number of passes over the training photos."""
    steps: int | None = None
    """Number of training steps, in place of --epochs: the same work for data sets of different sizes."""
    batch_size: int = 8
    """Number of photos in a training step."""
    learning_rate: float = 0.1
    """Learning rate of SGD with momentum 0.9 and weight decay 1e-4; it falls as (1 - step / steps) ** 0.9."""
    aux_weight: float = 0.4
    """Weight of the auxiliary head's loss."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Least and largest random enlargement of a training photo, before a random crop and flip."""
    generated: int = 640
    """Number of training scenes to generate without --data; an eighth as many are generated for validation."""
    score: tuple[str, ...] = ("val",)
    """Splits of the data set to score at the end."""
    seed: int = 0
    """Seed of the weights, the order of the data and the augmentation."""
    device: str | None = None
    """Device, for example cuda:0; without it a GPU if there is one, else the CPU."""
    workers: int = 0
    """Number of processes that read data beside the training."""
