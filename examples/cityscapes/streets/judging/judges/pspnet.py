"""PSPNet (arXiv 1612.01105) in the layout of hszhao/semseg: the judge of the Full-Glow paper."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.weights import load_exactly, read_state
from streets.data import label_sets
from streets.judging.judges.judge import check_photos

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue in [0, 1]
CITYSCAPES = label_sets.CITYSCAPES.evaluated
"""Names of the 19 evaluated classes and their official label ids, in the order of their training ids."""


class PSPNetJudge:
    """Judge with the official protocol: crops that overlap by a third, each also mirrored; probabilities are averaged.

    Args:
        net: network from normalized photos to logits.
        classes: name and official label id of each output.
        size: height and width that photos are resized to, or None for no resizing. It should be the size of the photos
            that the network was trained on: photos for smaller models were squeezed from that shape.
        crop: height and width of the crops, multiples of 8 plus 1; a smaller photo is padded with the mean colour.
    """

    def __init__(self, net: nn.Module, classes: Mapping[str, int] = CITYSCAPES,
                 size: Sequence[int] | None = (1024, 2048), crop: Sequence[int] = (713, 713)):
        if len(crop) != 2 or any(side < 1 or side % 8 != 1 for side in crop):
            raise ValueError(f"crop: expected (height, width), multiples of 8 plus 1, got {tuple(crop)}")
        self.net, self.size, self.crop = net.eval(), None if size is None else (size[0], size[1]), (crop[0], crop[1])
        self.names, self.label_ids = tuple(classes), tuple(classes.values())

    @torch.no_grad()
    def __call__(self, photos: Tensor) -> Tensor:
        check_photos(photos)
        height, width = photos.shape[-2:]
        x = normalize(photos.to(next(self.net.parameters()).device))
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear")
        return F.interpolate(self.probabilities(x), (height, width), mode="bilinear").argmax(1).to(photos.device)

    def probabilities(self, x: Tensor) -> Tensor:
        """Return the class probabilities ``(B, classes, H, W)`` of normalized photos ``(B, 3, H, W)``."""
        height, width = x.shape[-2:]
        down, right = (max(crop - side, 0) for crop, side in zip(self.crop, (height, width), strict=True))
        top, left = down // 2, right // 2
        x = F.pad(x, (left, right - left, top, down - top))  # zeros, the mean colour
        total = x.new_zeros(len(x), len(self.names), *x.shape[-2:])
        count = x.new_zeros(x.shape[-2:])
        for rows in windows(x.shape[-2], self.crop[0]):
            for columns in windows(x.shape[-1], self.crop[1]):
                crops = x[..., rows, columns]
                plain, mirrored = self.net(torch.cat([crops, crops.flip(-1)])).softmax(1).chunk(2)
                total[..., rows, columns] += (plain + mirrored.flip(-1)) / 2
                count[rows, columns] += 1
        return (total / count)[..., top:top + height, left:left + width]


def windows(length: int, crop: int) -> list[slice]:
    """Return slices of ``crop`` positions, two thirds of it apart; the last one ends where the length ends."""
    stride = -(-2 * crop // 3)
    starts = (min(stride * i, length - crop) for i in range(-(-(length - crop) // stride) + 1))
    return [slice(start, start + crop) for start in starts]


def normalize(photos: Tensor) -> Tensor:
    """Normalize photos of bytes as the network reads them."""
    mean, std = (255 * torch.tensor(value, device=photos.device)[:, None, None] for value in (MEAN, STD))
    return (photos.float() - mean) / std


def load(weights: Path | None, device: str | torch.device = "cpu") -> PSPNetJudge:
    """Load a judge from a directory or ``.safetensors`` of train_classifier.py, or from an official checkpoint.

    The first has a config.json beside it that describes the judge. For an official checkpoint, classes and protocol
    are those of Cityscapes, and the numbers of blocks and channels are read from its weights.
    """
    if weights is not None and weights.is_dir():
        weights /= "model.safetensors"
    state = read_state(weights)
    if weights is None or weights.suffix != ".safetensors":
        net = PSPNet(layers_of(state), width=width_of(state))
        load_exactly(net, state, weights, "pass a PSPNet50 or PSPNet101 of Cityscapes by hszhao/semseg")
        return PSPNetJudge(net.to(device))
    path = weights.with_name("config.json")
    if not path.is_file():
        raise FileNotFoundError(f"expected {path} beside the weights, found none: copy both files of the run")
    try:
        config = json.loads(path.read_text())
        classes = dict(config["classes"])
        net = PSPNet(num_classes=len(classes), **config["network"])
        judge = PSPNetJudge(net, classes, config["size"], config["crop"])
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise ValueError(f"expected the config.json of a train_classifier.py run in {path}, got "
                         f"{type(error).__name__}: {error}; pass the directory of such a run") from error
    load_exactly(net, state, weights, "copy both files of one run")
    net.to(device)
    return judge


def layers_of(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Count the blocks of each stage; those of PSPNet50 if the keys are of another network."""
    names = [{key.split(".")[1] for key in state if key.startswith(f"layer{i}.")} for i in range(1, 5)]
    return tuple(map(len, names)) if all(names) else (3, 4, 6, 3)


def width_of(state: Mapping[str, Tensor]) -> int:
    """Return the channels of the first convolution; 64 if the keys are of another network."""
    return len(state["layer0.0.weight"]) if "layer0.0.weight" in state else 64


class PSPNet(nn.Module):
    """Network from normalized photos ``(B, 3, H, W)`` to logits ``(B, num_classes, H, W)``, computed at an eighth.

    Args:
        layers: blocks of the four stages of the ResNet: (3, 4, 6, 3) is PSPNet50, (3, 4, 23, 3) PSPNet101.
        num_classes: number of outputs.
        width: channels of the first convolution, to which all others are proportional; 64 is official.
        bins: sides of the grids that the pyramid pools to.
        dropout: share of the channels that are dropped in training before the last convolution.
    """

    def __init__(self, layers: Sequence[int] = (3, 4, 6, 3), num_classes: int = 19, width: int = 64,
                 bins: Sequence[int] = (1, 2, 3, 6), dropout: float = 0.1):
        super().__init__()
        w = width
        self.layer0 = nn.Sequential(*conv(3, w, 3, stride=2), *conv(w, w, 3), *conv(w, 2 * w, 3),
                                    nn.MaxPool2d(3, stride=2, padding=1))
        self.layer1 = stage(2 * w, w, layers[0])
        self.layer2 = stage(4 * w, 2 * w, layers[1], stride=2)
        self.layer3 = stage(8 * w, 4 * w, layers[2], dilation=2)
        self.layer4 = stage(16 * w, 8 * w, layers[3], dilation=4)
        self.ppm = PyramidPooling(32 * w, bins)
        self.cls = head(self.ppm.channels, 8 * w, num_classes, dropout)
        self.aux = head(16 * w, 4 * w, num_classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.with_auxiliary(x)[0]

    def with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, and those of the auxiliary head on the third stage, which are for training alone."""
        features = self.layer3(self.layer2(self.layer1(self.layer0(x))))
        outputs = self.cls(self.ppm(self.layer4(features))), self.aux(features)
        main, aux = (F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=True) for y in outputs)
        return main, aux


class PyramidPooling(nn.Module):
    """Pyramid pooling: the input, and its averages over ``bin x bin`` cells for each of the bins, concatenated."""

    def __init__(self, inputs: int, bins: Sequence[int]):
        super().__init__()
        outputs = inputs // len(bins)
        self.channels = inputs + outputs * len(bins)
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *conv(inputs, outputs, 1)) for side in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        pooled = (F.interpolate(feature(x), size, mode="bilinear", align_corners=True) for feature in self.features)
        return torch.cat([x, *pooled], dim=1)


class Bottleneck(nn.Module):
    """Residual block of ResNet-50 and deeper, with stride and dilation in the 3x3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1, self.relu = conv(inputs, width, 1)
        self.conv2, self.bn2, _ = conv(width, width, 3, stride, dilation)
        self.conv3, self.bn3, _ = conv(width, outputs, 1)
        self.downsample = nn.Identity() if inputs == outputs else nn.Sequential(*conv(inputs, outputs, 1, stride)[:2])

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def stage(inputs: int, width: int, blocks: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Build blocks with ``4 * width`` outputs, of which the first has the stride and all have the dilation."""
    first = Bottleneck(inputs, width, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, dilation) for _ in range(blocks - 1)))


def head(inputs: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Build the layers from features to logits."""
    return nn.Sequential(*conv(inputs, hidden, 3), nn.Dropout2d(dropout), nn.Conv2d(hidden, num_classes, 1))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    """Build a convolution without bias, batch normalization and ReLU."""
    padding = kernel // 2 * dilation
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True)]
