"""Communication of the processes that ``torchrun`` started; a single process gets back what it gives."""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_alone = ContextVar("alone", default=False)


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Return the number of processes."""
    return 1 if _alone.get() else int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def alone() -> Iterator[None]:
    """Compute as a single process does until the end of the block, however many there are."""
    before = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(before)


def local_rank() -> int:
    """Return the number of this process among those of its machine, which is also that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Connect the processes until the end of the block; all compute on a device of this type.

    Whatever uses the group, such as a model of ``DistributedDataParallel``, must be gone at the end of the block: freed
    after the group it may wait forever.
    """
    if world() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # What the first process does alone, such as pictures of samples, may take longer than the default of minutes.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=1))
    try:
        yield
    except SystemExit as end:  # of all processes; after an error in one, destroying the group would wait for the others
        traceback.clear_frames(end.__traceback__)  # they hold the model
        _disconnect()
        raise
    _disconnect()


def _disconnect() -> None:
    gc.collect()  # models in reference cycles
    dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """Sum tensors over the processes."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def largest(number: int, device: torch.device) -> int:
    """Return the largest of the numbers that the processes give."""
    if world() == 1:
        return number
    value = torch.tensor([number], device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def texts(text: str, device: torch.device) -> list[str]:
    """Gather the texts of all processes in their order; they travel as bytes, so that nothing is unpickled."""
    if world() == 1:
        return [text]
    own = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world())]
    dist.all_gather(lengths, torch.tensor([len(own)], device=device))
    longest = max(1, int(max(lengths)))
    padded = [torch.zeros(longest, dtype=torch.uint8, device=device) for _ in range(world())]
    dist.all_gather(padded, torch.nn.functional.pad(own, (0, longest - len(own))))
    return [bytes(row[:int(n)].tolist()).decode() for row, n in zip(padded, lengths, strict=True)]


def by_first(work: Callable[[], object], device: torch.device) -> None:
    """Do work in the first process alone; a mistake of the user's that it meets there ends all processes alike."""
    reason = ""
    if rank() == 0:
        try:
            work()
        except (ValueError, OSError) as error:
            if world() == 1:
                raise
            reason = str(error) or type(error).__name__
    if told := texts(reason, device)[0]:
        raise ValueError(told)
