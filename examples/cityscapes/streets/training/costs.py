"""Costs of a step of training, before anything of its size is allocated: the step itself, run on shapes alone."""

import dataclasses
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from streets.config.kinds import WITHOUT_LIKELIHOOD
from streets.config.training import Config
from streets.data import label_sets
from streets.data.datasets import open_split, some
from streets.data.loading import Order
from streets.data.pixels import PairPixels
from streets.data.reading import LabelMaps
from streets.runs.building import build
from streets.system import processes
from streets.system.devices import choose_device
from streets.training.descent import Batch
from streets.training.objectives import make_objective
from streets.training.options import check, model_arguments

GIB = 2**30
HEAP = 2**25
"""Largest block that glibc may keep when it is freed, in bytes; a larger one goes back to the system at once."""
PROGRAM = 0.45 * GIB
"""Bytes of a process on a CPU beside its tensors: Python, torch, and what it draws."""
KEPT = 1.6
"""Bytes that glibc keeps at most beside those in use, for each byte in blocks of ``HEAP`` or less, as measured by
tests/benchmarks/process_memory.py."""


@dataclass
class Costs:
    """Costs of a step in one process, once the optimizers have their state."""

    parameters: int
    flop_per_image: float
    """Floating-point operations of all passes, recomputed ones included; as FlopCounterMode counts them."""
    memory: dict[str, int]
    """Bytes of all tensors when they take most; activations are what there is beside the other kinds."""
    initialization: int = 0
    """Bytes of all tensors when the actnorms are initialized, before the first step."""
    blocks: int = 0
    """Bytes of the tensors of ``HEAP`` or less, when these take most."""

    @property
    def peak(self) -> int:
        """Bytes of all kinds together in a step."""
        return sum(self.memory.values())

    def process(self, kept: bool) -> float:
        """Predict the bytes of the whole process on a CPU, with or without what glibc keeps of freed blocks at most."""
        return PROGRAM + max(self.peak, self.initialization) + KEPT * self.blocks * kept


def predict(config: Config, pixels: PairPixels | None = None) -> Costs:
    """Predict the costs of a training on pairs of these pixels, not compiled, in one of its processes."""
    check(config)
    pixels = pixels or PairPixels()
    device, arguments = choose_device(config.device), model_arguments(config, pixels=pixels)
    Order(config.batch_size, config.batch_size, config.seed, config.accumulate)  # refuses uneven parts
    pairs = config.batch_size // (processes.world() * config.accumulate)
    # The other processes are not there to wait for, and need no memory here.
    with FakeTensorMode(), Tracker() as tracker, processes.alone():
        with device:
            model: Any = build(config.model, arguments, config.dequantization, config.nets,
                               pixels.sides(config.direction)[1].bits)
            batches = [batch_like(config, pairs, pixels) for _ in range(config.accumulate)]
        initialization = initialize(model, config, pixels, device, tracker)
        parameters = list(model.parameters())
        for parameter in parameters:
            if parameter.ndim == 4:  # what model.to does, which refuses tensors without data
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            parameter.grad = torch.zeros_like(parameter)
        objective = make_objective(model, config, pixels)
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
    return Costs(count, tracker.flop / (pairs * len(batches[:2])), memory, initialization, tracker.most_blocks)


def initialize(model: Any, config: Config, pixels: PairPixels, device: torch.device, tracker: "Tracker") -> int:
    """Return the most bytes during the pass that initializes the actnorms, which only flows have."""
    if config.model in WITHOUT_LIKELIHOOD or processes.rank():  # the first process initializes
        return 0
    tracker.peak = tracker.now
    with device, torch.no_grad():
        context, x_b = batch_like(config, config.init_pairs, pixels)
        model.log_prob(x_b, context)
    return tracker.peak


def batch_like(config: Config, pairs: int, pixels: PairPixels) -> Batch:
    """Make a batch of zeros of the shape of a training's."""
    given, modelled = pixels.sides(config.direction)
    x_a, x_b, side = (torch.zeros(pairs, channels, *config.image_size).contiguous(memory_format=torch.channels_last)
                      for channels in (given.channels, modelled.channels, 1))
    if config.given_labels:
        return torch.zeros(pairs, 1, *config.image_size, dtype=torch.uint8), x_b
    return ((x_a, side) if config.boundaries else x_a), x_b


def size(tensors: Any) -> int:
    """Count the bytes of tensors in any structure."""
    return sum(tensor.nbytes for tensor in tree_leaves(tensors) if isinstance(tensor, Tensor))


class Tracker(TorchDispatchMode):
    """Counts operations, and the bytes of the storages that were made under it and are in use.

    Not FlopCounterMode, whose hooks on modules keep recomputed activations alive.
    """

    flop, now, peak = 0, 0, 0
    blocks, most_blocks = 0, 0
    """Bytes in storages of ``HEAP`` or less: now, and at most."""

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
        if abs(nbytes) <= HEAP:
            self.blocks += nbytes
            self.most_blocks = max(self.most_blocks, self.blocks)


def report(costs: Costs, config: Config) -> str:
    """Write the lines that ``train.py --dry-run`` prints."""
    height, width = config.image_size
    return "\n".join([
        f"{config.model}: {costs.parameters / 1e6:.4g} million parameters",
        f"a training step: {costs.flop_per_image / 1e9:.4g} GFLOP an image",
        f"peak of memory in each process, {config.batch_size // processes.world()} x {height}x{width} in "
        f"{config.accumulate} parts: {costs.peak / GIB:.3g} GiB",
        *(f"    {kind}: {nbytes / GIB:.3g} GiB" for kind, nbytes in costs.memory.items()),
        f"before the first step, to initialize from {config.init_pairs} pairs at once (--init-pairs): "
        f"{costs.initialization / GIB:.3g} GiB",
        f"the whole process on a CPU: up to {costs.process(True) / GIB:.3g} GiB, as glibc keeps freed memory; about "
        f"{costs.process(False) / GIB:.3g} GiB, but slower, where MALLOC_MMAP_THRESHOLD_=1000000 is set",
        "    not predicted: a GPU's own context and workspaces, what --compile changes, and for a short time a second "
        "copy of weights and optimizer in a checkpoint",
    ])


def dry_run(config: Config) -> None:
    """Print the costs of a step; of several processes the first alone does. Data that cannot be opened are refused."""
    maps = LabelMaps(label_sets.read(config.labels), config.label_values)
    split = partial(open_split, config.data, image_size=config.image_size, generated=config.generated,
                    seed=config.seed, maps=maps, options=config, hold_out=True)
    train_set = some(split("train", cities=config.cities), config.pairs)
    split("val")
    config = dataclasses.replace(config, init_pairs=min(config.init_pairs, len(train_set)))
    if processes.rank() == 0:
        print("one step on shapes alone, which takes minutes for a large model", flush=True)
        print(report(predict(config, train_set.pixels), config))
