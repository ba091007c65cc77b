"""The speed and memory of flows on a GPU: every table of ``docs/performance.md`` that needs one.

    python tests/benchmarks/gpu.py
    python tests/benchmarks/gpu.py --tiny --device cpu      (seconds: whether it runs)

Times are medians in milliseconds. "matrix rate" is the share of what one large matrix product reaches in the same
precision. A contender that is not installed, or runs out of memory, says so and is left out.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import tyro
import vectors
from glows import BUILDERS, full_glow_pair
from timing import in_turn, median
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")

PRECISIONS = "float32", "TF32", "bf16"
FORMS: dict[str, dict[str, Any] | None] = {"eager": None, "compiled": {}, "CUDA graphs": {"mode": "reduce-overhead"}}


class Machine:
    """A device, its clock and its memory."""

    def __init__(self, device: str, rounds: int, least: float):
        self.device = torch.device(device)
        self.rounds = rounds
        self.least = least  # seconds of a round
        self.is_cuda = self.device.type == "cuda"

    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.is_cuda else str(self.device)

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def timed(self, runs: dict[str, Callable[[], object]]) -> dict[str, float | str]:
        """Time runs in turn, and return milliseconds, or why there are none."""
        results: dict[str, float | str] = {}
        working = {}
        for name, run in runs.items():
            def waited(run: Callable[[], object] = run) -> None:
                run()
                self.wait()

            try:
                waited()
                working[name] = waited
            except torch.OutOfMemoryError:
                results[name] = "out of memory"
        times = in_turn(working, self.rounds, self.least)
        return results | {name: 1e3 * median(seconds) for name, seconds in times.items()}

    def peak(self, run: Callable[[], object]) -> str:
        """Return the peak of allocated memory during a run, in MiB."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        run()
        self.wait()
        return f"{torch.cuda.max_memory_allocated(self.device) / 2**20:.0f}" if self.is_cuda else "-"

    def matrix_rate(self, precision: str, size: int) -> float:
        """Measure the floating-point operations a second of one large matrix product."""
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = torch.randn(2, size, size, device=self.device, dtype=dtype)
        with in_precision(precision, self.device):
            return 2e3 * size**3 / float(self.timed({"product": lambda: a @ b})["product"])


def in_precision(precision: str, device: torch.device) -> AbstractContextManager:
    """Set whether matrix products and convolutions use TF32, and return autocast to bfloat16 if asked for."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def runs_of(glow: Any, x: torch.Tensor, precision: str, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return a training step and an inverse of a contender of glows.py."""
    optimizer = torch.optim.Adam(glow.module.parameters(), lr=1e-5, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        with in_precision(precision, device):
            loss = glow.loss(x)
        loss.backward()
        optimizer.step()

    def sample() -> None:
        with in_precision(precision, device), torch.no_grad():
            glow.inverse()

    return {"training step": train, "sample": sample}


def build(builder: Callable[..., Any], device: torch.device, *args: Any, **options: Any) -> Any:
    """Build a contender on a device."""
    torch.manual_seed(0)
    with torch.device(device):
        glow = builder(*args, **options)
    glow.module.to(device)
    return glow


def row(*cells: object) -> None:
    print("|", " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells), "|", flush=True)


def images(machine: Machine, steps: tuple[int, ...], width: int, side: int, batch: int, product: int) -> None:
    """Print times, memory and rates of Full-Glow in every form and precision, and of the Glows of the others."""
    device, x = machine.device, torch.rand(batch, 3, side, side, device=machine.device)
    print(f"\n{len(steps)} x {steps[0]}, width {width}, {side}x{side}, batch {batch}\n")
    row("model", "precision", "form", "training step", "sample", "peak MiB", "matrix rate")
    row(*["---"] * 7)
    models = {"Full-Glow": full_glow_pair, **{name: BUILDERS[name] for name in (
        "condflows", "normflows", "nflows", "FrEIA (Householder)")}}
    for name, builder in models.items():
        for precision in PRECISIONS:
            rate = machine.matrix_rate(precision, product)
            for form, options in FORMS.items():
                if options is not None and name not in ("Full-Glow", "condflows"):
                    continue
                torch._dynamo.reset()
                try:
                    glow = build(builder, device, steps, width, batch, side)
                except ImportError as error:
                    row(name, precision, form, f"{error.name} is not installed", "", "", "")
                    continue
                with FlopCounterMode(display=False) as counter:
                    runs_of(glow, x, precision, device)["training step"]()
                if options is not None:
                    glow.loss, glow.inverse = (torch.compile(call, dynamic=False, **options)
                                               for call in (glow.loss, glow.inverse))
                runs = runs_of(glow, x, precision, device)
                times = machine.timed(runs)
                step = times["training step"]
                share = f"{1e5 * counter.get_total_flops() / (step * rate):.0f} %" if isinstance(step, float) else "-"
                memory = machine.peak(runs["training step"]) if isinstance(step, float) else "-"
                row(name, precision, form, step, times["sample"], memory, share)


def large(machine: Machine, steps: tuple[int, ...], width: int, size: tuple[int, int]) -> None:
    """Print time and memory of a training step of Full-Glow at high resolution, activations recomputed."""
    for precision in PRECISIONS:
        glow = build(full_glow_pair, machine.device, steps, width, 1, 8, checkpoint=True)
        x = torch.rand(1, 3, *size, device=machine.device)
        train = runs_of(glow, x, precision, machine.device)["training step"]
        start = time.perf_counter()
        try:
            memory = machine.peak(train)
            row(f"{size[0]}x{size[1]}", precision, time.perf_counter() - start, machine.timed({"step": train})["step"],
                memory)
        except torch.OutOfMemoryError:
            row(f"{size[0]}x{size[1]}", precision, "-", "out of memory", "-")


def densities(machine: Machine, size: str) -> None:
    """Print times of conditional densities of vectors in each library, and of condflows in every form."""
    features, context_features, batch, hidden = map(int, size.split(":"))
    x = torch.randn(batch, features, device=machine.device)
    context = torch.randn(batch, context_features, device=machine.device)
    print(f"\nvectors: {features} features, {context_features} of context, batch {batch}, hidden {hidden}\n")
    row("library", "form", *vectors.KINDS)
    row(*["---"] * (2 + len(vectors.KINDS)))
    for name in ("condflows", "nflows", "zuko", "FrEIA", "perceptrons"):
        builder = vectors.BUILDERS[name]
        for form, options in FORMS.items():
            if options is not None and name != "condflows":
                continue
            torch._dynamo.reset()
            try:
                model = build(builder, machine.device, features, context_features, hidden)
            except ImportError as error:
                row(name, form, f"{error.name} is not installed")
                continue
            model = model if options is None else vectors.compiled(model, **options)
            row(name, form, *machine.timed(vectors.runs_of(model, x, context)).values())


def main(device: str = "cuda", tiny: bool = False, rounds: int = 10) -> None:
    """Print all tables.

    Args:
        device: where the flows run.
        tiny: run everything at sizes that take seconds, to see that it runs.
    """
    machine = Machine(device, 1, least=0) if tiny else Machine(device, rounds, least=0.05)
    if tiny:  # code that is compiled in earnest takes minutes
        FORMS["compiled"] = {"backend": "eager"}
    if not machine.is_cuda:
        FORMS.pop("CUDA graphs")
    torch.set_float32_matmul_precision("highest")
    print(f"torch {torch.__version__}, {machine.name()}, medians of {machine.rounds} rounds")
    steps, width, side, product = ((1,), 8, 8, 64) if tiny else ((16,) * 4, 512, 256, 8192)
    for batch in (1,) if tiny else (1, 8):
        images(machine, steps, width, side, batch, product)
    print("\nhigh resolution, Full-Glow, 4 x 8, activations recomputed\n")
    row("size", "precision", "first step, s", "step, ms", "peak MiB")
    row(*["---"] * 5)
    for size in ((8, 16), (16, 32)) if tiny else ((512, 1024), (1024, 2048)):
        large(machine, (1,) if tiny else (8,) * 4, width, size)
    for size in ("4:2:8:8",) if tiny else vectors.SIZES:
        densities(machine, size)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
