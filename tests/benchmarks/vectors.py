"""The time of a conditional density of vectors in each library: others' time divided by that of condflows.

    python tests/benchmarks/vectors.py
    python tests/benchmarks/vectors.py --contenders condflows "condflows, compiled" nflows zuko

Eight layers of actnorm, learned linear layer and affine coupling with the same perceptrons; zuko's NICE has neither
actnorms nor linear layers, FrEIA's linear layers are fixed rotations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import tyro
from timing import in_turn, median, ratio
from torch import Tensor, nn

warnings.filterwarnings("ignore")

LAYERS = 8
BINS = 8


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build a coupling's net as users of the other libraries write it."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                         nn.Linear(hidden, outputs))


def condflows(features: int, context: int, hidden: int, kind: str = "affine") -> Any:
    import condflows as cf
    from condflows.conditioners import MLPConditioner

    moved = features // 2
    coupling, outputs = {"affine": (cf.AffineCoupling, 2), "spline": (cf.SplineCoupling, 3 * BINS - 1),
                         "mixture": (cf.MixtureCoupling, 3 * BINS + 2)}[kind]
    layers = [layer for _ in range(LAYERS) for layer in (
        cf.ActNorm(features), cf.LUConv1x1(features),
        coupling(features, MLPConditioner(features - moved, outputs * moved, context, (hidden, hidden))))]
    flow = cf.Flow(cf.Chain(layers), (features,))
    return SimpleNamespace(module=flow, log_prob=flow.log_prob,
                           sample=lambda context: flow.sample(1, context),
                           sample_one=lambda context: flow.sample(10_000, context),
                           decode=lambda noise, context: flow.transform.inverse(noise, context)[0])


def nflows(features: int, context: int, hidden: int, kind: str = "affine") -> Any:
    from nflows import distributions, flows
    from nflows import transforms as nt

    # nflows calls what torch no longer has.
    torch.triangular_solve = lambda b, a, upper=True, unitriangular=False: (
        torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unitriangular), None)

    class Net(nn.Module):
        def __init__(self, inputs: int, outputs: int):
            super().__init__()
            self.net = perceptron(inputs + context, hidden, outputs)

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            return self.net(torch.cat([x, context], dim=1))

    mask = [0] * (features - features // 2) + [1] * (features // 2)
    coupling = nt.AffineCouplingTransform if kind == "affine" else partial(
        nt.PiecewiseRationalQuadraticCouplingTransform, num_bins=BINS, tails="linear", tail_bound=4.0)
    layers = [layer for _ in range(LAYERS) for layer in (
        nt.ActNorm(features), nt.LULinear(features), coupling(mask, Net))]
    flow = flows.Flow(nt.CompositeTransform(layers), distributions.StandardNormal((features,)))
    return SimpleNamespace(module=flow, log_prob=flow.log_prob,
                           sample=lambda context: flow.sample(1, context),
                           sample_one=lambda context: flow.sample(10_000, context))


def zuko(features: int, context: int, hidden: int, kind: str = "affine") -> Any:
    from zuko.flows import NICE
    from zuko.transforms import MonotonicRQSTransform

    options: Any = {} if kind == "affine" else {
        "univariate": MonotonicRQSTransform, "shapes": [(BINS,), (BINS,), (BINS - 1,)]}
    flow = NICE(features, context, transforms=LAYERS, hidden_features=(hidden, hidden), **options)
    return SimpleNamespace(module=flow, log_prob=lambda x, context: flow(context).log_prob(x),
                           sample=lambda context: flow(context).sample((1,)),
                           sample_one=lambda context: flow(context).sample((10_000,)))


def freia(features: int, context: int, hidden: int) -> Any:
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    model = ff.SequenceINN(features)
    for _ in range(LAYERS):
        model.append(fm.AllInOneBlock, cond=0, cond_shape=(context,), permute_soft=True,
                     subnet_constructor=lambda inputs, outputs: perceptron(inputs, hidden, outputs))

    def log_prob(x: Tensor, context: Tensor) -> Tensor:
        noise, logabsdet = model(x, [context])
        return logabsdet - 0.5 * noise.square().sum(1) - 0.5 * math.log(2 * math.pi) * features

    def sample(context: Tensor) -> Tensor:
        return model(torch.randn(len(context), features, device=context.device), [context], rev=True)[0]

    return SimpleNamespace(module=model, log_prob=log_prob, sample=sample,
                           sample_one=lambda context: sample(context.expand(10_000, -1)))


def perceptrons(features: int, context: int, hidden: int) -> Any:
    """Build the couplings' nets alone: what no flow with these nets can be faster than."""
    first = features - features // 2
    nets = nn.ModuleList(perceptron(first + context, hidden, 2 * (features // 2)) for _ in range(LAYERS))

    def log_prob(x: Tensor, context: Tensor) -> Tensor:
        inputs = torch.cat([x[:, :first], context], dim=1)
        return sum(net(inputs).sum(1) for net in nets)

    def sample(context: Tensor) -> Tensor:
        return log_prob(torch.randn(len(context), first, device=context.device), context)

    return SimpleNamespace(module=nets, log_prob=log_prob, sample=sample,
                           sample_one=lambda context: sample(context.expand(10_000, -1)))


BUILDERS: dict[str, Callable[..., Any]] = {"condflows": condflows, "nflows": nflows, "zuko": zuko, "FrEIA": freia,
                                           "perceptrons": perceptrons}
BUILDERS |= {f"{name}, splines": partial(BUILDERS[name], kind="spline") for name in ("condflows", "nflows", "zuko")}
BUILDERS["condflows, mixtures"] = partial(condflows, kind="mixture")


KINDS = "training step", "log_prob", "sample", "10,000 of one"
SIZES = "10:5:256:128", "4:2:64:64", "32:5:1024:128", "64:5:4096:128"


def runs_of(model: Any, x: Tensor, context: Tensor) -> dict[str, Callable[[], object]]:
    """Return what is timed of a model, by name."""
    optimizer = torch.optim.Adam(model.module.parameters(), lr=1e-4, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        (-model.log_prob(x, context).mean()).backward()
        optimizer.step()

    density, sample, of_one = (torch.no_grad()(run) for run in (model.log_prob, model.sample, model.sample_one))
    runs = train, lambda: density(x, context), lambda: sample(context), lambda: of_one(context[:1])
    return dict(zip(KINDS, runs, strict=True))


def compiled(model: Any, **options: Any) -> Any:
    """Return a model whose density, and map from noise to samples, are compiled.

    The noise is drawn outside, as torch's compiled code draws it 15 times as slowly on a CPU.
    """
    log_prob, decode = (torch.compile(call, dynamic=False, **options) for call in (model.log_prob, model.decode))

    def sample(context: Tensor, each: int = 1) -> Tensor:
        noise = torch.randn(each * len(context), model.module.shape[0], device=context.device)
        return decode(noise, context)

    return SimpleNamespace(module=model.module, log_prob=log_prob, sample=sample,
                           sample_one=lambda context: sample(context, 10_000))


def main(sizes: tuple[str, ...] = SIZES, contenders: tuple[str, ...] = ("condflows", "nflows", "zuko", "FrEIA"),
         rounds: int = 15, threads: int = 1) -> None:
    """Time the contenders, and divide the times of the others by that of the first.

    Args:
        sizes: features : context : batch : hidden.
        contenders: names of BUILDERS, those of condflows also with ", compiled" after them.
    """
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} thread, medians of {rounds} rounds in turn, divided by the time of "
          f"{contenders[0]}\n")
    print("| features, context, batch, hidden | |", *(f"{name} |" for name in contenders))
    print("|---|---|" + "---|" * len(contenders))
    for size in sizes:
        torch._dynamo.reset()  # what it compiled for other sizes counts toward its limit
        features, context_features, batch, hidden = map(int, size.split(":"))
        x, context = torch.randn(batch, features), torch.randn(batch, context_features)
        runs = {}
        for name in contenders:
            torch.manual_seed(0)
            model = BUILDERS[name.removesuffix(", compiled")](features, context_features, hidden)
            runs[name] = runs_of(compiled(model) if name.endswith(", compiled") else model, x, context)
        for kind in KINDS:
            times = in_turn({name: runs[name][kind] for name in contenders}, rounds, least=0.02)
            ours = times[contenders[0]]
            cells = [f"{1e3 * median(ours):.2f} ms", *(f"{ratio(times[name], ours):.2f}" for name in contenders[1:])]
            print(f"| {', '.join(size.split(':'))} | {kind} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
