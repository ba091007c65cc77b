"""Network of the Full-Glow authors (arXiv 2012.05846), which loads their checkpoints.

Structure and routing are those of ``full_glow``; what differs is how the parameters are expressed:

    actnorm        y = s (x + t); a condition gives s and t themselves
    1x1            W = P (L + I) (U + diag(sign * exp(s))); a condition gives L, U and s themselves
    coupling       y = s (x + t), s = sigmoid(log_s + 2)
    priors         mean and log-deviation from a convolution padded with ones; at the top, a convolution of zeros

Their nets of actnorm and 1x1 flatten the condition, so a checkpoint works only at the size it was trained at.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condflows import AffineCoupling, Bijector, Chain, Flow, PairedFlow, multiscale
from condflows.bijector import sum_log_scale
from models.weights import load_exactly, read_state, state_dict_in

Weights = str | Path | Mapping[str, Tensor]

# Endings of keys that are no weights: masks, for which tril and triu stand here, and flags of past initialization.
IGNORED = (".initialized", ".u_mask", ".l_mask", ".l_eye")


def load_published(weights: Weights, image_size: Sequence[int], steps: Sequence[int], filters: int = 512) -> PairedFlow:
    """Build p(label map) and p(photo given label map) with the authors' weights, for images in [0, 1].

    Args:
        weights: a ``.safetensors`` file, a torch file, or the state dict itself.
        image_size: (height, width) that the checkpoint was trained at; images of other sizes are refused.
        steps: steps of each level, finest first.
        filters: hidden channels of the coupling nets.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unreadable file, a size too small for the nets, or the weights of another network, of which
            the first key that differs is named with both shapes.
    """
    read = state_dict_in(weights, "weights") if isinstance(weights, Mapping) else read_state(Path(weights))
    state = {key: value for key, value in read.items() if not key.endswith(IGNORED)}
    flow, named = build(image_size, steps, filters)
    load_exactly(named, state, "weights" if isinstance(weights, Mapping) else weights,
                 "pass the image_size, steps and filters that the checkpoint was trained with")
    return flow.eval()


def build(image_size: Sequence[int], steps: Sequence[int], filters: int) -> tuple[PairedFlow, nn.Module]:
    """Build the flow with initial weights, and a module of its parts under the names that they have in a checkpoint."""
    unit = 2 ** len(steps)
    if len(image_size) != 2 or any(size % unit or size < 5 * unit for size in image_size):
        raise ValueError(f"image_size: expected (height, width), multiples of {unit} and at least {5 * unit} for "
                         f"{len(steps)} levels, got {tuple(image_size)}; pass the size of the checkpoint")
    height, width = image_size

    def glow(conditional: bool) -> tuple[Flow, nn.Module]:
        flows, gaussians = [nn.ModuleList() for _ in steps], [nn.Module() for _ in steps]

        def level(c: int) -> int:  # 0 for 12 channels, 1 for 24, 2 for 48, ...
            return (c // 12).bit_length() - 1

        def cond_net(c: int, num_outputs: int) -> nn.Module | None:
            size = (c, height >> level(c) + 1, width >> level(c) + 1)
            return ConditionNet(size, num_outputs) if conditional else None

        def step(c: int) -> Bijector:
            act_norm, inv_conv = RawActNorm(c, cond_net(c, 2 * c)), RawConv1x1(c, cond_net(c, 2 * c * c + c))
            net = CouplingNet(c, filters, conditional)
            flows[level(c)].append(nn.ModuleDict({"act_norm": act_norm, "inv_conv": inv_conv, "coupling": net}))
            return Chain([act_norm, inv_conv, AffineCoupling(c, net, coupling_affine)])

        def prior(c: int) -> Bijector:
            gaussians[level(c)] = net = ZeroConv(c // 2, c)
            return AffineCoupling(c, net, prior_affine)

        def top(c: int) -> Bijector:
            gaussians[level(c)] = net = ZeroConv(c, 2 * c)
            return TopPrior(net)

        flow = Flow(multiscale(3, steps, step, prior, top), (3, height, width))
        blocks = [nn.ModuleDict({"flows": f, "gaussian": g}) for f, g in zip(flows, gaussians, strict=True)]
        return flow, nn.ModuleDict({"blocks": nn.ModuleList(blocks)})

    source, left = glow(conditional=False)
    target, right = glow(conditional=True)
    return PairedFlow(source, target), nn.ModuleDict({"left_glow": left, "right_glow": right})


def coupling_affine(log_s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-scale and shift of ``s (x + t)``."""
    log_scale = F.logsigmoid(log_s + 2)
    return log_scale, t * log_scale.exp()


def prior_affine(mean: Tensor, log_sd: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-scale and shift of ``(x - mean) / sd``."""
    return -log_sd, -mean * (-log_sd).exp()


class Scaling(Bijector):
    """``y = s (x + t)`` with s of either sign; subclasses define s and t."""

    def scale_and_shift(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return s and t."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale, shift = self.scale_and_shift(inputs, context)
        return scale * (inputs + shift), sum_log_scale(scale.abs().log(), inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale, shift = self.scale_and_shift(inputs, context)
        return inputs / scale - shift, -sum_log_scale(scale.abs().log(), inputs)


class RawActNorm(Scaling):
    """Actnorm with s and t of each channel: parameters, or the outputs of ``cond_net(context)``."""

    def __init__(self, channels: int, cond_net: nn.Module | None):
        super().__init__()
        self.cond_net = cond_net
        if cond_net is None:
            self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
            self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def scale_and_shift(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return s and t, for each channel or for each channel of each context."""
        if self.cond_net is None:
            return self.scale, self.loc
        scale, shift = self.cond_net(context)[:, :, None, None].chunk(2, dim=1)
        return scale, shift


class TopPrior(Scaling):
    """``(x - mean) / sd``; the padding with ones makes mean and sd depend on the position near the border."""

    def __init__(self, gaussian: nn.Module):
        super().__init__()
        self.gaussian = gaussian

    def scale_and_shift(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return s and t of every position: ``1 / sd`` and ``-mean``."""
        mean, log_sd = self.gaussian(torch.zeros_like(inputs[:1])).chunk(2, dim=1)
        return (-log_sd).exp(), -mean


class RawConv1x1(Bijector):
    """``y = P (L + I) (U + diag(sign * exp(s))) x``: L, U and s are parameters, or outputs of ``cond_net(context)``."""

    w_p: Tensor
    s_sign: Tensor

    def __init__(self, channels: int, cond_net: nn.Module | None):
        super().__init__()
        self.cond_net = cond_net
        if cond_net is None:
            self.w_l, self.w_u = (nn.Parameter(torch.zeros(channels, channels)) for _ in range(2))
            self.w_s = nn.Parameter(torch.zeros(channels))
        self.register_buffer("w_p", torch.eye(channels))
        self.register_buffer("s_sign", torch.ones(channels))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_s = self._factors(context)
        outputs = self.w_p @ lower @ upper @ inputs.flatten(2)
        return outputs.view(inputs.shape), sum_log_scale(log_s, inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_s = self._factors(context)
        outputs = torch.linalg.solve_triangular(lower, self.w_p.T @ inputs.flatten(2), upper=False, unitriangular=True)
        outputs = torch.linalg.solve_triangular(upper, outputs, upper=True)
        return outputs.reshape(inputs.shape), -sum_log_scale(log_s, inputs)

    def _factors(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lower factor, the upper factor and the log-scale."""
        c = len(self.s_sign)
        if self.cond_net is None:
            lower, upper, log_s = self.w_l[None], self.w_u[None], self.w_s[None]
        else:
            lower, upper, log_s = self.cond_net(context).split([c * c, c * c, c], dim=1)
        lower = lower.reshape(-1, c, c).tril(-1) + torch.diag_embed(torch.ones_like(log_s))
        return lower, upper.reshape(-1, c, c).triu(1) + torch.diag_embed(self.s_sign * log_s.exp()), log_s


class ZeroConv(nn.Module):
    """A 3x3 convolution padded with the value 1, times ``exp(3 * scale)``."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3)
        self.scale = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        return self.conv(F.pad(inputs, (1, 1, 1, 1), value=1.0)) * (3 * self.scale).exp()


class CouplingNet(nn.Module):
    """A net from ``(first_part, context)`` to log_s and t of the second part."""

    def __init__(self, channels: int, filters: int, conditional: bool):
        super().__init__()
        c, seen = channels, channels // 2 + channels * conditional
        self.net = nn.Sequential(*_relus(nn.Conv2d(seen, filters, 3, padding=1), nn.Conv2d(filters, filters, 1)),
                                 ZeroConv(filters, c))
        layers = _relus(nn.Conv2d(c, 128, 3, padding=1), nn.Conv2d(128, c, 3, padding=1)) if conditional else []
        self.cond_net = _named(conv_net=nn.Sequential(*layers)) if conditional else None

    def forward(self, first: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(first if self.cond_net is None else torch.cat([first, self.cond_net(context)], dim=1))


class ConditionNet(nn.Module):
    """A net from a context ``(batch, channels, height, width)`` of a fixed size to ``(batch, num_outputs)``."""

    def __init__(self, size: tuple[int, int, int], num_outputs: int):
        super().__init__()
        self.size = size
        channels, height, width = size
        convolutions = _relus(nn.Conv2d(channels, 8, 1), nn.Conv2d(8, 4, 3), nn.Conv2d(4, 2, 3))
        linears = _relus(nn.Linear(2 * (height - 4) * (width - 4), 32), nn.Linear(32, 64), nn.Linear(64, 48))
        self.conv_net = _named(conv_net=nn.Sequential(*convolutions))
        self.linear_net = _named(linear_net=nn.Sequential(*linears, _named(linear=nn.Linear(48, num_outputs))))

    def forward(self, context: Tensor | None) -> Tensor:
        size = None if context is None else tuple(context.shape[1:])
        if context is None or size != self.size:
            raise ValueError(f"expected a context of size {self.size}, got {size}; pass the trace of the source flow "
                             "at the size that the checkpoint was trained at")
        return self.linear_net(self.conv_net(context).flatten(1))


def _relus(*layers: nn.Module) -> list[nn.Module]:
    """Return the layers with a ReLU after each."""
    return [module for layer in layers for module in (layer, nn.ReLU())]


def _named(**modules: nn.Module) -> nn.Sequential:
    """Build a sequence of modules with these names."""
    return nn.Sequential(OrderedDict(modules))
