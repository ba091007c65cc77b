"""Costs of a step of training, before anything of its size is allocated: the step itself, run on shapes alone."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from streets.config.training import Config
from streets.data.loading import Order
from streets.runs.building import build
from streets.system import processes
from streets.system.devices import choose_device
from streets.training.descent import Batch
from streets.training.objectives import make_objective
from streets.training.options import check, model_arguments


@dataclass
class Costs:
    """Costs of a step in one process, once the optimizers have their state."""

    parameters: int
    flop_per_image: float
    """Floating-point operations of all passes, recomputed ones included; as FlopCounterMode counts them."""
    memory: dict[str, int]
    """Bytes of all tensors when they take most; activations are what there is beside the other kinds."""

    @property
    def peak(self) -> int:
        """Bytes of all kinds together."""
        return sum(self.memory.values())


def predict(config: Config) -> Costs:
    """Predict the costs of a training, not compiled, in one of its processes."""
    check(config)
    device, arguments = choose_device(config.device), model_arguments(config)
    Order(config.batch_size, config.batch_size, config.seed, config.accumulate)  # refuses uneven parts
    pairs = config.batch_size // (processes.world() * config.accumulate)
    # The other processes are not there to wait for, and need no memory here.
    with FakeTensorMode(), Tracker() as tracker, processes.alone():
        with device:
            model: Any = build(config.model, arguments, config.dequantization, config.nets)
            batches = [batch_like(config, pairs) for _ in range(config.accumulate)]
        parameters = list(model.parameters())
        for parameter in parameters:
            if parameter.ndim == 4:  # what model.to does, which refuses tensors without data
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            parameter.grad = torch.zeros_like(parameter)
        objective = make_objective(model, config)
        objective.finite = lambda values: True  # there are no values
        for optimizer in objective.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tracker.flop, tracker.peak = 0, tracker.now
        objective.update(batches[:2])  # from the second on, which finds gradients, all are alike
        memory = {"parameters and buffers": size([*parameters, *model.buffers()]), "gradients": size(parameters),
                  "optimizer": size([optimizer.state for optimizer in objective.optimizers])}
        memory["activations"] = tracker.peak - sum(memory.values())
        if config.ema is not None:
            memory["moving average"] = memory["parameters and buffers"]
        count = sum(parameter.numel() for parameter in parameters)
    return Costs(count, tracker.flop / (pairs * len(batches[:2])), memory)


def batch_like(config: Config, pairs: int) -> Batch:
    """Make a batch of zeros of the shape of a training's."""
    if config.given_labels:
        return torch.zeros(pairs, 1, *config.image_size, dtype=torch.uint8), torch.zeros(pairs, 3, *config.image_size)
    x_a, x_b, side = (torch.zeros(pairs, channels, *config.image_size).contiguous(memory_format=torch.channels_last)
                      for channels in (3, 3, 1))
    return ((x_a, side) if config.boundaries else x_a), x_b


def size(tensors: Any) -> int:
    """Count the bytes of tensors in any structure."""
    return sum(tensor.nbytes for tensor in tree_leaves(tensors) if isinstance(tensor, Tensor))


class Tracker(TorchDispatchMode):
    """Counts operations, and the bytes of the storages that were made under it and are in use.

    Not FlopCounterMode, whose hooks on modules keep recomputed activations alive.
    """

    flop, now, peak = 0, 0, 0

    def __init__(self):
        super().__init__()
        self.storages: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.flop += flop_registry[func.overloadpacket](*args, **kwargs, out_val=outputs)
        for tensor in tree_leaves(outputs):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage not in self.storages:
                self.storages.add(storage)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return outputs

    def _add(self, nbytes: int) -> None:
        self.now += nbytes
        self.peak = max(self.peak, self.now)


def report(costs: Costs, config: Config) -> str:
    """Write the lines that ``train.py --dry-run`` prints."""
    height, width = config.image_size
    return "\n".join([
        f"{config.model}: {costs.parameters / 1e6:.4g} million parameters",
        f"a training step: {costs.flop_per_image / 1e9:.4g} GFLOP an image",
        f"peak of memory in each process, {config.batch_size // processes.world()} x {height}x{width} in "
        f"{config.accumulate} parts: {costs.peak / 2**30:.3g} GiB",
        *(f"    {kind}: {nbytes / 2**30:.3g} GiB" for kind, nbytes in costs.memory.items()),
        "    on a CPU the process takes 0.4 to 1 GiB more: the program, and what malloc keeps",
        "    not predicted: a GPU's own context and workspaces, and what --compile changes",
    ])


def dry_run(config: Config) -> None:
    """Print the costs of a step; of several processes the first alone does."""
    if processes.rank() == 0:
        print("one step on shapes alone, which takes minutes for a large model", flush=True)
        print(report(predict(config), config))
