"""Signals given a coarse and noisy recording: heartbeats at eight times its rate, and how sure the model is of them.

    python examples/signals.py              trains, and writes runs/signals.png
    python examples/signals.py --tiny       a few steps

Ends at 1.318 nats per point where linear regression with a full covariance has 0.486, and its bands of 90% cover 88.5%
of the points, in a minute and a half on one core. Peaks are sharp, but after so short a training a sample misses some
of them: the calibration finds 2 of 4 quantities of 100 test signals biased low, mean and deviation.
"""

import time
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import MultivariateNormal

import condflows as cf
from condflows.conditioners import CouplingConditioner

LENGTH, COARSE, NOISE = 128, 16, 0.05
TIMES = torch.arange(LENGTH) * 2 / LENGTH  # seconds
# Delay in seconds, height and width of the waves P, R, S and T of a heartbeat.
WAVES = torch.tensor([[-0.16, 0.25, 0.035], [0.0, 1.6, 0.016], [0.045, -0.5, 0.016], [0.26, 0.45, 0.05]])


def simulate(count: int) -> tuple[Tensor, Tensor]:
    """Simulate signals (batch, 1, 128), and noisy averages (batch, 1, 16) of eight points each."""
    period = 0.6 + 0.5 * torch.rand(count, 1, 1)
    beats = period * (torch.arange(-1, 5) + torch.rand(count, 1, 1))  # (batch, 1, 6)
    clean = torch.zeros(count, 1, LENGTH)
    for delay, height, width in WAVES:
        heights = height * (0.25 * torch.randn(count, 6, 1)).exp()
        shape = (-0.5 * ((TIMES - beats.mT - delay) / width).square()).exp()
        clean += (heights * shape).sum(1, keepdim=True)
    coarse = F.avg_pool1d(clean, LENGTH // COARSE)
    return clean + NOISE * torch.randn_like(clean), coarse + NOISE * torch.randn_like(coarse)


def step(c: int) -> cf.Chain:
    """Build a step of Glow whose coupling reads the recording, repeated to the length of the level."""
    return cf.glow_step(c, CouplingConditioner(c, width=64, context_channels=1, spatial_dims=1, context_width=32))


def regression(signal: Tensor, coarse: Tensor) -> Tensor:
    """Fit a linear regression on the recording, with a full covariance of the residuals; return its log-density."""
    targets, inputs = (tensor.flatten(1) for tensor in simulate(10_000))
    weight = torch.linalg.lstsq(F.pad(inputs, (0, 1), value=1.0), targets).solution
    left = MultivariateNormal(torch.zeros(LENGTH), (targets - F.pad(inputs, (0, 1), value=1.0) @ weight).T.cov())
    return left.log_prob(signal.flatten(1) - F.pad(coarse.flatten(1), (0, 1), value=1.0) @ weight)


def main(size: int = 20_000, epochs: int = 2, batch_size: int = 64, learning_rate: float = 3e-3, seed: int = 0,
         tiny: bool = False, out: Path = Path("runs/signals.png")) -> None:
    if min(size, epochs, batch_size, learning_rate) <= 0 or out.suffix != ".png":
        raise SystemExit("signals.py: error: --size, --epochs, --batch-size and --learning-rate must be positive, "
                         "and --out end in .png")
    size, epochs = (3000, 1) if tiny else (size, epochs)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    began = time.perf_counter()

    flow = cf.Flow(cf.multiscale(1, (4, 4, 4), step, spatial_dims=1), shape=(1, LENGTH))
    cf.fit(flow, *simulate(size), epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, clip_norm=1.0)

    signal, coarse = simulate(100)
    with torch.no_grad():
        learned = flow.log_prob(signal, coarse).mean() / LENGTH
        samples = flow.sample(100, coarse)
    baseline = regression(signal, coarse).mean() / LENGTH
    error = (samples.mean(1) - signal).square().mean().sqrt()
    low, high = samples.quantile(torch.tensor([0.05, 0.95]), dim=1)
    covered = ((low < signal) & (signal < high)).float().mean()
    print(f"log-likelihood of 100 test signals in nats per point: linear regression {baseline:.3f}, "
          f"flow {learned:.3f}; root mean square error of the samples' mean {error:.3f}; "
          f"bands of 90% cover {covered:.1%}; {time.perf_counter() - began:.0f} s")
    print("calibration:", cf.testing.calibration(flow, signal, coarse).summary)

    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    for i, plot in enumerate(axes):
        plot.fill_between(TIMES, low[i, 0], high[i, 0], alpha=0.3, linewidth=0, label="90% of 100 samples")
        plot.plot(TIMES, samples[i, 0, 0], linewidth=1, label="one sample")
        plot.plot(TIMES, signal[i, 0], color="black", linewidth=1, label="real")
        plot.stairs(coarse[i, 0], torch.arange(COARSE + 1) * 2 / COARSE, color="C3", baseline=None, label="given")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=4)
    axes[-1].set_xlabel("seconds")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
