"""Validation of a model in training: its figure on a split, and a picture of samples."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, default_collate

from condflows.trace import map_context
from streets.data import loading
from streets.data.datasets import spread
from streets.runs.pictures import grid, visible
from streets.runs.samples import sample
from streets.system import processes, progress
from streets.training.state import Training

GRID_ROWS, GRID_SAMPLES = 4, 3


@torch.no_grad()
def validate(training: Training, model: Any) -> float:
    """Return the mean figure of the split; the noise is always the same, each process does its share of the pairs."""
    model.eval()
    config, device = training.config, training.device
    pairs = training.pairs.restarted(0)
    own = Subset(training.val_set, range(processes.rank(), len(training.val_set), processes.world()))
    size = max(1, config.batch_size // (processes.world() * config.accumulate))
    total = torch.zeros(2, dtype=torch.float64, device=device)
    batches = loading.loader(own, config.workers, batch_size=size) if len(own) else ()
    for batch in progress.bar(batches, total=math.ceil(len(own) / size), desc="validation", leave=False,
                              disable=not training.main):
        training.leave_if_asked()
        figures = training.objective.validate(*pairs(batch), model).double()
        total += torch.stack([figures.sum(), figures.new_tensor(len(figures))])
    figure, count = processes.total(total).tolist()
    return figure / count


@torch.no_grad()
def sample_grid(training: Training, model: Any) -> Tensor:
    """Draw rows of the given image, the real one and samples, for scenes spread over the split; always the same."""
    model.eval()
    config = training.config
    pairs = training.pairs.restarted(0)
    batch = default_collate([training.val_set[i] for i in spread(len(training.val_set), GRID_ROWS)])
    context = pairs.context(batch)
    # One sample at a time, for the memory that large images need.
    contexts = [map_context(lambda x, i=i: x[i:i + 1], context) for i in range(len(batch["name"]))]
    columns = []
    for _ in range(GRID_SAMPLES):
        training.leave_if_asked()
        columns.append(torch.cat([sample(model, 1, x, config.temperature, pairs.noise, config.guidance,
                                         pairs.wanted.channels, config.noise)[:, 0].cpu() for x in contexts]))
    columns = [visible(column) for column in columns]
    return grid([visible(batch[pairs.source], pairs.given.bits), visible(batch[pairs.target], pairs.wanted.bits),
                 *columns])
