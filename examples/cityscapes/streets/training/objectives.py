"""The objective of a model: maximum likelihood of flows, an adversarial loss of pix2pix."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from streets.config.training import Config
from streets.training.adversarial import Adversarial
from streets.training.descent import Batch, snapshot
from streets.training.likelihood import Likelihood

Objective = Likelihood | Adversarial


def make_objective(model: Any, config: Config) -> Objective:
    """Make the objective that the model of a configuration is trained with."""
    return (Adversarial if config.model == "pix2pix" else Likelihood)(model, config)


@torch.no_grad()
def first_not_finite(objective: Objective, batches: Sequence[Batch]) -> str | None:
    """Name the first output of a module in the forward pass, or else the first gradient, that is not finite.

    None where all are finite in this process. The averages of batch normalization stay as they are.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, tuple) else ()
        if not found and any(isinstance(x, Tensor) and not torch.isfinite(x).all() for x in tensors):
            found.append(f"the output of {name or 'the model'} ({type(module).__name__})")

    model = objective.model
    restore = snapshot(model.buffers())
    hooks = [module.register_forward_hook(lambda module, _, output, name=name: look(name, module, output))
             for name, module in model.named_modules()]
    try:
        for batch in batches:
            objective.figures(*batch)
    finally:
        for hook in hooks:
            hook.remove()
        restore()
    gradients = (f"the gradient of {name}" for name, parameter in model.named_parameters()
                 if parameter.grad is not None and not torch.isfinite(parameter.grad).all())
    return found[0] if found else next(gradients, None)
