"""Judges: segmentation classifiers that score synthesized street photos by the classes that they recognize in them.

    judge = load_judge("espnet-camvid", Path("weights.safetensors"))
    predicted = judge(photos)                      # class indices of every pixel
    truth = class_indices(judge, labels)           # those of the label maps that the photos were made from
"""

from collections.abc import Callable
from pathlib import Path

import torch

from streets.data.label_sets import CITYSCAPES
from streets.data.labels import LabelSet
from streets.judging.judges import colors, espnet, pspnet
from streets.judging.judges.judge import Judge, class_indices, for_labels

__all__ = ["JUDGES", "Judge", "class_indices", "load_judge"]

JUDGES: dict[str, Callable[[Path | None, str | torch.device], Judge]] = {
    "espnet-camvid": espnet.load, "pspnet": pspnet.load, "colors": colors.load
}
SOURCES = {
    "espnet-camvid": "the CamVid weights of ESPNet's authors (github.com/sacmehta/ESPNet)",
    "pspnet": "a directory of train_classifier.py, or an official checkpoint (github.com/hszhao/semseg)",
}
"""Weights that a judge can have."""


def load_judge(name: str, weights: Path | None = None, device: str | torch.device = "cpu",
               labels: LabelSet = CITYSCAPES) -> Judge:
    """Load the judge of that name with its weights, for label maps of a label set.

    Raises:
        FileNotFoundError: there are no weights in that place.
        ValueError: an unknown name, no or damaged weights, or those of another network, of which the first key that
            differs is named with both shapes.
    """
    if name not in JUDGES:
        raise ValueError(f"expected a judge of {', '.join(JUDGES)}, got {name!r}: pass one of these names")
    if name in SOURCES and (weights is None or not weights.exists()):
        advice = f"give --judge-weights the path of {SOURCES[name]}"
        if weights is None:
            raise ValueError(f"--judge {name}: expected a file of weights, got none: {advice}, or leave --judge out to "
                             "measure without a judge")
        raise FileNotFoundError(f"--judge {name}: expected weights in {weights}, but there is no such file: {advice}")
    judge = JUDGES[name](weights, device)
    return colors.ColorsJudge(labels) if isinstance(judge, colors.ColorsJudge) else for_labels(judge, labels)
