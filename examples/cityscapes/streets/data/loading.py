"""Loading of training data: the order of the pairs, batches, and files that cannot be read."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from streets.data.labels import OtherLabels
from streets.system import processes, progress
from streets.system.seeds import seed_of


class Order:
    """Order of the training pairs: every epoch takes all of them once, shuffled anew.

    A batch at the end of an epoch takes the rest of its pairs from the next one, so all batches are full. The pairs of
    a step depend on ``seed`` and the number of the step alone.

    Args:
        length: number of pairs in the data set.
        batch_size: pairs of a step, over all its batches and processes.
        seed: seed of the order.
        accumulate: batches of a step in each process.
    """

    def __init__(self, length: int, batch_size: int, seed: int, accumulate: int = 1):
        parts = processes.world() * accumulate
        if batch_size % parts:
            raise ValueError(f"--batch-size {batch_size}: {processes.world()} processes with --accumulate {accumulate} "
                             f"expect a multiple of {parts}")
        if batch_size > length:
            raise ValueError(f"--batch-size {batch_size}: there are only {length} training pairs")
        self.length, self.batch_size, self.seed, self.accumulate = length, batch_size, seed, accumulate

    def steps(self, epochs: int) -> int:
        """Count the steps that complete this number of epochs."""
        return -(-epochs * self.length // self.batch_size)

    def pairs(self, step: int) -> list[int]:
        """Return the indices of a step's pairs, over all its batches and processes; in epoch e plus e * length."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = [place // self.length for place in places]
        return [epoch * self.length + shuffled(self.length, self.seed, epoch)[place % self.length]
                for epoch, place in zip(epochs, places, strict=True)]

    def batches(self, first: int, last: int) -> Iterator[list[int]]:
        """Yield the indices of each batch of this process, as ``pairs`` does, for steps ``first`` to ``last - 1``."""
        part = self.batch_size // (processes.world() * self.accumulate)
        start = processes.rank() * self.accumulate * part
        for step in range(first, last):
            indices = self.pairs(step)
            for i in range(self.accumulate):
                yield indices[start + i * part:start + (i + 1) * part]


@functools.lru_cache(maxsize=2)
def shuffled(length: int, seed: int, epoch: int) -> list[int]:
    """Return the shuffled indices of an epoch."""
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    return torch.randperm(length, generator=generator).tolist()


class Tried(Dataset):
    """Items of a data set; an unreadable one is the error, as a value, since workers add a traceback to raised ones."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except (ValueError, OSError) as error:
            return error


def advised(error: Exception) -> str:
    """Explain why a file cannot be read, with the advice to leave it out, unless other files may be misread too."""
    return f"{error}" if isinstance(error, OtherLabels) else (
        f"{error}; or leave out what cannot be read with --skip-bad-files")


def prepare_worker(worker: int) -> None:
    """Let a worker end with the training alone: not by a SIGTERM to the group, but when the training is killed.

    The loader's own watch of a killed parent sees only workers that were forked from it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait until the process that started this one has ended, and end too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


OPTIONS: dict[str, Any] = {"generator": torch.Generator(), "worker_init_fn": prepare_worker}
"""Options of all loaders; with this generator workers take no seeds from the global one."""


def collate(items: list[Any]) -> Any:
    """Collate items into a batch; if one cannot be read, return the first error instead."""
    return next((item for item in items if isinstance(item, Exception)), None) or default_collate(items)


def loader(dataset: Any, workers: int, **options: Any) -> Iterator[Any]:
    """Yield the batches of a data set; a ValueError names the first file that cannot be read."""
    for batch in DataLoader(Tried(dataset), collate_fn=collate, num_workers=workers, **OPTIONS, **options):
        if isinstance(batch, Exception):
            raise ValueError(advised(batch))
        yield batch


def unreadable(dataset: Any, workers: int, device: torch.device, split: str) -> dict[int, str]:
    """Find the items that cannot be read, and return the reasons by index; every process reads its share of them.

    A label map of other labels is an error all the same, as others of its kind may be readable.
    """
    own = range(processes.rank(), len(dataset), processes.world())
    every = DataLoader(Subset(Tried(dataset), own), batch_size=None, num_workers=workers, **OPTIONS)
    bar = progress.bar(every, desc=f"reading {split}", disable=processes.rank() > 0)
    bad = [f"{i} {int(isinstance(item, OtherLabels))} {' '.join(str(item).split())}"
           for i, item in zip(own, bar, strict=True) if isinstance(item, Exception)]
    lines = "\n".join(processes.texts("\n".join(bad), device)).splitlines()
    found = [line.split(" ", 2) for line in lines if line]
    for _, of_other_labels, why in found:
        if int(of_other_labels):
            raise ValueError(why)
    return dict(sorted((int(i), why) for i, _, why in found))
