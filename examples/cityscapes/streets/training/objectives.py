"""The objective of a model: maximum likelihood of flows, an adversarial loss of pix2pix, matching of velocities."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from condflows.hooks import outputs_not_finite
from streets.config.training import Config
from streets.data.pixels import PairPixels
from streets.training.adversarial import Adversarial
from streets.training.descent import Batch, snapshot
from streets.training.likelihood import Likelihood
from streets.training.matching import Matching

Objective = Likelihood | Adversarial | Matching
OBJECTIVES: dict[str, Any] = {"pix2pix": Adversarial, "flow_matching": Matching}
"""Objectives of the models that have no likelihood."""


def make_objective(model: Any, config: Config, pixels: PairPixels | None = None) -> Objective:
    """Make the objective that the model of a configuration is trained with, on pairs of these pixels."""
    if config.model in OBJECTIVES:
        return OBJECTIVES[config.model](model, config)
    return Likelihood(model, config, pixels)


@torch.no_grad()
def first_not_finite(objective: Objective, batches: Sequence[Batch]) -> str | None:
    """Name the first output of a module in the forward pass, or else the first gradient, that is not finite.

    None where all are finite in this process. The averages of batch normalization stay as they are.
    """
    model = objective.model
    restore = snapshot(model.buffers())
    try:
        with outputs_not_finite(model) as outputs:
            for batch in batches:
                objective.figures(*batch)
    finally:
        restore()
    gradients = (f"the gradient of {name}" for name, parameter in model.named_parameters()
                 if parameter.grad is not None and not torch.isfinite(parameter.grad).all())
    found = (f"the output of {name or 'the model'} ({kind})" for name, kind in outputs)
    return next(chain(found, gradients), None)
