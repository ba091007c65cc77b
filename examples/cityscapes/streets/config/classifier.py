"""Options of ``train_classifier.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class Config:
    """Options of the training of a classifier, which keeps them in its config.json."""

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
    """Classes to recognize: of the 19 evaluated ones those that occur in the training split, or all."""
    layers: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Blocks of the four stages; 3 4 6 3 is PSPNet50."""
    width: int = 8
    """Channels of the first convolution; 64 is PSPNet50."""
    epochs: int = 24
    """Passes over the training photos."""
    batch_size: int = 8
    """Photos of a training step."""
    learning_rate: float = 0.1
    """Learning rate of SGD with momentum 0.9 and weight decay 1e-4; it falls as (1 - step / steps) ** 0.9."""
    aux_weight: float = 0.4
    """Weight of the auxiliary head's loss."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Least and largest random enlargement of a training photo, before a random crop and flip."""
    generated: int = 640
    """Number of generated training scenes where there is no --data; an eighth as many for validation."""
    seed: int = 0
    """Seed of weights, data order and augmentation."""
    device: str | None = None
    """Device, for example cuda:0; a GPU if there is one, else the CPU."""
    workers: int = 0
    """Processes that read data beside the training."""
