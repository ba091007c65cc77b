"""Training of a PSPNet as a judge: the semseg recipe without pretrained weights."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import ConcatDataset, DataLoader

from streets.config.checks import check_counts, check_finite
from streets.config.classifier import Config
from streets.config.data import folder, name_of
from streets.data import label_sets
from streets.data.datasets import some
from streets.data.labels import IGNORED
from streets.data.reading import LabelMaps
from streets.data.shares import report
from streets.judging.judges import class_indices
from streets.judging.judges.pspnet import PSPNet, PSPNetJudge, normalize
from streets.judging.photos import batches, open_pairs, open_scored, present_classes
from streets.judging.scores import SCORES, Scores
from streets.runs.configuration import versions
from streets.runs.directory import writing
from streets.runs.weights import save_weights
from streets.system import files, progress
from streets.system.devices import choose_device


def train(config: Config) -> Path:
    """Train as the configuration says and return the directory of the judge."""
    check(config)
    config = dataclasses.replace(config, data=folder(config.data))
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    with writing(config.out, config.overwrite):
        maps = LabelMaps(label_sets.read(config.labels), config.label_values)
        real, extra = open_pairs(config, maps)
        train_set = ConcatDataset([some(real, config.pairs), *extra])
        if config.pairs == 0 and not extra:
            raise ValueError("--pairs 0: there is nothing to train on without --extra; give it, or more pairs")
        if len(train_set) < config.batch_size:
            raise ValueError(f"--batch-size {config.batch_size}: there are only {len(train_set)} training photos")
        scored = open_scored(config, maps)
        report(real, maps.labels, "train")
        classes = maps.labels.evaluated
        if config.classes == "present":
            classes = present_classes(ConcatDataset([real, *extra]), classes, config)
        zoom = (config.base_size or max(config.image_size)) / max(config.image_size)
        size = tuple(max(1, round(zoom * side)) for side in config.image_size)
        crop = tuple(min(713, 8 * math.ceil((side - 1) / 8) + 1) for side in size)
        net: Any = PSPNet(config.layers, len(classes), config.width)
        net = net.to(device, memory_format=torch.channels_last)
        judge = PSPNetJudge(net, classes, size, crop)
        print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {len(train_set)} training photos on {device}, "
              f"data: {name_of(config.data)}, crops of {crop[0]}x{crop[1]}\nclasses: {', '.join(classes)}")

        descend(judge, batches(train_set, config), zoom, config)

        results = {name: score(judge, dataset, config) for name, dataset in scored.items()}
        save_weights(net, config.out / "model.safetensors")
        files.write_json(config.out / "config.json", {
            "network": {"layers": config.layers, "width": config.width}, "classes": classes, "size": size,
            "crop": crop, "scores": results, "options": dataclasses.asdict(config), "versions": versions(),
        })
    for split, result in results.items():
        print(f"{split}: {', '.join(f'{SCORES[name]} {value:.1f} %' for name, value in result.items())}")
    print(f"judge: {config.out}")
    return config.out


def check(config: Config) -> None:
    """Refuse values with which no training is possible."""
    check_counts(config, pairs=0, epochs=1, steps=1, batch_size=2, width=1, base_size=8, generated=1, seed=0, workers=0)
    check_finite(config, "learning_rate")
    check_finite(config, "aux_weight", zero=True)
    if config.extra is not None and config.data is None:
        raise ValueError(f"--extra {config.extra}: there is no --data to add it to; give its folder, or --data "
                         "generated to add to drawn scenes")
    if min(config.layers) < 1:
        raise ValueError(f"--layers {' '.join(map(str, config.layers))}: every stage needs at least 1 block")
    if not 0 < config.scale[0] <= config.scale[1] < math.inf:
        raise ValueError(f"--scale {config.scale[0]} {config.scale[1]}: positive numbers are needed, the least first")


def descend(judge: PSPNetJudge, batches: DataLoader, zoom: float, config: Config) -> None:
    """Train the network of a judge: stochastic gradient descent on the cross-entropy of random crops."""
    net: Any = judge.net.train()
    device = next(net.parameters()).device
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate, momentum=0.9, weight_decay=1e-4)
    steps = config.steps or config.epochs * len(batches)
    schedule = LambdaLR(optimizer, lambda step: (1 - step / steps) ** 0.9)
    scale = (zoom * config.scale[0], zoom * config.scale[1])
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    bar = progress.bar(itertools.islice(endless, steps), total=steps, desc="training")
    for step, batch in enumerate(bar):
        targets = class_indices(judge, batch["label"].to(device))
        photos, targets = augment(normalize(batch["photo"].to(device)), targets, judge.crop, scale)
        main, aux = net.with_auxiliary(photos.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(main, targets) + config.aux_weight * cross_entropy(aux, targets)
        epoch = step // len(batches) + 1
        if not torch.isfinite(loss):
            raise ValueError(f"in epoch {epoch} the loss is {loss.item()} and nothing is written: lower "
                             "--learning-rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(epoch=epoch, loss=f"{loss.item():.3f}", refresh=False)
    net.eval()


def score(judge: PSPNetJudge, dataset: Any, config: Config) -> dict[str, float]:
    """Score a judge on real photos."""
    found = Scores(judge)
    for batch in DataLoader(dataset, config.batch_size, num_workers=config.workers):
        found.add(judge(batch["photo"]), batch["label"])
    return {name: value for name, value in found.compute().items() if name in SCORES}


def augment(photos: Tensor, targets: Tensor, crop: Sequence[int], scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Crop photos ``(B, 3, H, W)`` and targets ``(B, H, W)`` at random, enlarged by ``scale`` and mirrored.

    A crop that reaches beyond its photo has the mean colour there, and the target `IGNORED`.
    """
    batch, _, height, width = photos.shape
    low, high = scale
    enlarged = low + (high - low) * torch.rand(batch, 1, device=photos.device)
    reach = torch.tensor([crop[1] / width, crop[0] / height], device=photos.device) / enlarged
    centre = (1 - reach) * (2 * torch.rand_like(reach) - 1)
    mirror = torch.randint(0, 2, (batch,), device=photos.device) * 2 - 1
    affine = torch.cat([torch.diag_embed(reach), centre[:, :, None]], dim=2)
    affine[:, 0, 0] *= mirror
    grid = F.affine_grid(affine, [batch, 3, *crop], align_corners=False)
    photos = F.grid_sample(photos, grid, mode="bilinear", align_corners=False)
    # Beyond the photo there are zeros: in photos they are the mean colour, and in these targets they mean IGNORED.
    flipped = F.grid_sample((IGNORED - targets[:, None]).float(), grid, mode="nearest", align_corners=False)
    return photos, IGNORED - flipped[:, 0].long()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over the pixels that have a target; 0, not NaN, if none has."""
    total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)
