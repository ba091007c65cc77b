"""Nets in bfloat16: the time of one net, and how exact a trained flow stays.

    OMP_NUM_THREADS=1 python tests/benchmarks/bfloat16.py
    OMP_NUM_THREADS=1 python tests/benchmarks/bfloat16.py --run runs/glow --data ../shared/data/camvid64

The second takes a run of train.py and photos of a test split, or drawn scenes: round trips and bits per dimension, with
all layers of its nets in bfloat16, and with what might lower the error: some layers in float32, or inputs rounded to a
grid.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import tyro
from timing import in_turn, median, ratio
from torch import Tensor, nn

from condflows import Flow, bfloat16_nets, bits_per_dim
from condflows.conditioners import CouplingConditioner
from condflows.conditioners.convnet import ConvNet

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "cityscapes"))


class InFloat32(nn.Module):
    """A layer that stays in float32."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return self.layer(values.float())


class OnGrid(nn.Module):
    """A layer whose inputs are rounded to multiples of ``step``."""

    def __init__(self, layer: nn.Module, step: float):
        super().__init__()
        self.layer, self.step = layer, step

    def forward(self, values: Tensor) -> Tensor:
        return self.layer((values / self.step).round() * self.step)


def replaced(flow: Flow, first: Callable[[nn.Module], nn.Module] | None = None,
             last: Callable[[nn.Module], nn.Module] | None = None) -> Flow:
    """Copy a flow with nets in bfloat16, and with other first and last layers of its convolutional nets."""
    flow = bfloat16_nets(copy.deepcopy(flow))
    for net in [module for module in flow.modules() if isinstance(module, ConvNet)]:
        if first:
            net[0] = first(net[0])
        if last:
            net[-1] = last(net[-1])
    return flow


VARIANTS = {
    "bfloat16": {},
    "first layer float32": {"first": InFloat32},
    "last layer float32": {"last": InFloat32},
    "first and last float32": {"first": InFloat32, "last": InFloat32},
    "inputs on a grid of 1/256": {"first": partial(OnGrid, step=2**-8)},
    "inputs on a grid of 1/64": {"first": partial(OnGrid, step=2**-6)},
}


@torch.no_grad()
def exactness(run: Path, data: Path | None, photos: int) -> None:
    """Print the errors of a trained flow's round trips, and how far its bits are from those of float32 nets."""
    from torch.utils.data import default_collate

    from streets.data.datasets import open_dataset, spread
    from streets.runs.run import Run

    trained = Run(run)
    dataset = open_dataset(data, "test", trained.image_size, 8)
    batch = default_collate([dataset[i] for i in spread(len(dataset), photos)])
    pairs = trained.pairs()
    context, x = pairs.context(batch), pairs.modelled(batch)
    plain = bits_per_dim(trained.model.log_prob(x, context), x.shape[1:])
    print("| nets | round trip, largest error | 99.9 % | mean | bits from float32, largest | mean |\n|" + "---|" * 6)
    for name, flow in {"float32": trained.model, **{name: replaced(trained.model, **options)
                                                     for name, options in VARIANTS.items()}}.items():
        errors = (flow.transform_from_noise(flow.transform_to_noise(x, context), context) - x).abs().flatten()
        bits = bits_per_dim(flow.log_prob(x, context), x.shape[1:]) - plain
        print(f"| {name} | {errors.max():.1e} | {errors.kthvalue(int(0.999 * len(errors))).values:.1e} | "
              f"{errors.mean():.1e} | {bits.abs().max():.5f} | {bits.mean():.5f} |")


def speed(widths: tuple[int, ...], rounds: int) -> None:
    """Print the time of forward and backward pass of a coupling's net, 40 to 24 channels, 4 images of 32x64."""
    print("| width | float32, ms | bfloat16, ms | ratio |\n|---|---|---|---|")
    for width in widths:
        net = CouplingConditioner(40, width, num_outputs=24).to(memory_format=torch.channels_last)
        inputs = torch.randn(4, 20, 32, 64, requires_grad=True)

        def step(net: nn.Module, inputs: Tensor = inputs) -> None:
            net(inputs).sum().backward()

        times = in_turn({"float32": partial(step, net), "bfloat16": partial(step, bfloat16_nets(copy.deepcopy(net)))},
                        rounds, least=0.1)
        print(f"| {width} | {1e3 * median(times['float32']):.1f} | {1e3 * median(times['bfloat16']):.1f} | "
              f"{ratio(times['float32'], times['bfloat16']):.2f} |")


def main(run: Path | None = None, data: Path | None = None, photos: int = 8,
         widths: tuple[int, ...] = (64, 128, 256, 512), rounds: int = 7) -> None:
    torch.set_num_threads(1)
    if run is None:
        speed(widths, rounds)
    else:
        exactness(run, data, photos)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
