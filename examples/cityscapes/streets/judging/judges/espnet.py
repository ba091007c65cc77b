"""ESPNet (arXiv 1803.06815; p = 2, q = 8) as its authors trained it on CamVid: a judge that is ready to use."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.weights import load_exactly, read_state
from streets.judging.judges.judge import check_photos

# Name and official label id of outputs 0..10; the twelfth is void and never predicted.
CLASSES = {"sky": 23, "building": 11, "pole": 17, "road": 7, "sidewalk": 8, "vegetation": 21, "traffic sign": 20,
           "fence": 13, "car": 26, "person": 24, "rider": 25}
BGR_MEAN, BGR_STD = (110.33139, 108.40919, 105.03353), (72.125206, 72.68849, 69.902596)
HEIGHT, WIDTH = 240, 480


class EspnetJudge:
    """Judge with the protocol of the CamVid weights: photos are resized to 240x480, and the logits resized back."""

    names, label_ids = tuple(CLASSES), tuple(CLASSES.values())

    def __init__(self, net: nn.Module):
        self.net = net.eval()

    def __call__(self, photos: Tensor) -> Tensor:
        return self.logits(photos).argmax(1).to(photos.device)

    @torch.no_grad()
    def logits(self, photos: Tensor) -> Tensor:
        """Return the logits of the 11 classes, ``(B, 11, H, W)``, at the size of the photos."""
        check_photos(photos)
        device = next(self.net.parameters()).device
        mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (BGR_MEAN, BGR_STD))
        x = torch.stack([enlarge(photo) for photo in photos.cpu()]).to(device).flip(1).float()
        return F.interpolate(self.net((x - mean) / std / 255)[:, :11], photos.shape[-2:], mode="bilinear")


def enlarge(photo: Tensor) -> Tensor:
    """Resize a photo with Pillow, as for the published scores: torch's bicubic differs by up to 2 of 255."""
    image = Image.fromarray(photo.permute(1, 2, 0).numpy()).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def load(weights: Path | None, device: str | torch.device = "cpu") -> EspnetJudge:
    """Load the judge with the weights of a ``.safetensors`` or torch file."""
    net = ESPNet()
    load_exactly(net, read_state(weights), weights, "pass the CamVid weights of ESPNet with p=2 and q=8")
    return EspnetJudge(net.to(device))


class ESPNet(nn.Module):
    """Network from photos ``(B, 3, H, W)``, sides divisible by 8, to logits ``(B, classes, H, W)``, for inference."""

    def __init__(self, classes: int = 12, p: int = 2, q: int = 8):
        super().__init__()
        self.encoder = Encoder(classes, p, q)
        self.br = Norm(classes)
        self.up_l3 = nn.Sequential(up(classes))
        self.level3_C = conv(131, classes, 1)
        self.combine_l2_l3 = nn.Sequential(norm_act(2 * classes), ResidualPyramid(2 * classes, classes))
        self.up_l2 = nn.Sequential(up(classes), norm_act(classes))
        self.conv = conv_norm_act(classes + 19, classes)
        self.classifier = up(classes)

    def forward(self, x: Tensor) -> Tensor:
        half, quarter, eighth = self.encoder(x)
        y = torch.cat([self.level3_C(quarter), self.up_l3(self.br(eighth))], dim=1)
        y = torch.cat([self.up_l2(self.combine_l2_l3(y)), half], dim=1)
        return self.classifier(self.conv(y))


class Encoder(nn.Module):
    """Network from photos to features at half and at a quarter of the size, and logits at an eighth."""

    def __init__(self, classes: int, p: int, q: int):
        super().__init__()
        self.level1, self.b1 = conv_norm_act(3, 16, stride=2), norm_act(19)
        self.level2_0, self.b2 = DownPyramid(19, 64), norm_act(131)
        self.level2 = nn.Sequential(*(ResidualPyramid(64, 64) for _ in range(p)))
        self.level3_0, self.b3 = DownPyramid(131, 128), norm_act(256)
        self.level3 = nn.Sequential(*(ResidualPyramid(128, 128) for _ in range(q)))
        self.classifier = conv(256, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x2 = F.avg_pool2d(x, 3, stride=2, padding=1)
        x4 = F.avg_pool2d(x2, 3, stride=2, padding=1)
        half = self.b1(torch.cat([self.level1(x), x2], dim=1))
        down = self.level2_0(half)
        quarter = self.b2(torch.cat([self.level2(down), down, x4], dim=1))
        down = self.level3_0(quarter)
        return half, quarter, self.classifier(self.b3(torch.cat([down, self.level3(down)], dim=1)))


class Pyramid(nn.Module):
    """Convolutions of reduced channels at five dilations, all but the first added up one by one, concatenated."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        n = outputs // 5
        self.c1 = conv(inputs, n, kernel, stride)
        self.d1 = conv(n, outputs - 4 * n, 3)
        self.d2, self.d4, self.d8, self.d16 = (conv(n, n, 3, dilation=dilation) for dilation in (2, 4, 8, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.c1(x)
        d1, d2, d4, d8, d16 = self.d1(x), self.d2(x), self.d4(x), self.d8(x), self.d16(x)
        return torch.cat([d1, d2, d2 + d4, d2 + d4 + d8, d2 + d4 + d8 + d16], dim=1)


class DownPyramid(Pyramid):
    """Pyramid that halves the size, followed by batch normalization and PReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, kernel=3, stride=2)
        self.bn, self.act = Norm(outputs), nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(super().forward(x)))


class ResidualPyramid(Pyramid):
    """Pyramid, added to its input if that has as many channels, followed by batch normalization and PReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.bn, self.residual = norm_act(outputs), inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return self.bn(x + y if self.residual else y)


class Norm(nn.Module):
    """Batch normalization with stored statistics; as in the authors' weights there is no num_batches_tracked."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-3)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Build a convolution without bias."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, bias=False)
    return nn.Sequential(OrderedDict(conv=layer))


def norm_act(channels: int) -> nn.Sequential:
    """Build batch normalization and PReLU."""
    return nn.Sequential(OrderedDict(bn=Norm(channels), act=nn.PReLU(channels)))


def conv_norm_act(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Build a 3x3 convolution without bias, batch normalization and PReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=layer, bn=Norm(outputs), act=nn.PReLU(outputs)))


def up(channels: int) -> nn.Module:
    """Build a transposed convolution that doubles the size."""
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
