"""Precision under bfloat16 autocast: only the conditioners lose any, and bits per dimension hardly change."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from condflows import Bijector, PairedFlow, bits_per_dim, initialize
from condflows.testing import perturb
from models import MODELS
from streets.config.kinds import WITHOUT_LIKELIHOOD

FLOWS = [name for name in MODELS if name not in WITHOUT_LIKELIHOOD]
BF16 = torch.bfloat16


def bf16():
    return torch.autocast("cpu", BF16)


def small_model(name, steps=(1, 1), width=6, **options):
    if name != "glow":
        options["context_width"] = 4
    return MODELS[name](3, steps, width, **options)


def batch(size=2):
    """Draw label maps of four areas, and photos of as many colours with some noise."""
    x_a = torch.rand(size, 3, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return x_a + torch.rand_like(x_a) / 256, 0.5 * x_a.flip(1) + 0.1 * torch.rand_like(x_a)


def loss(model, x_a, x_b):
    log_probs = model(x_a=x_a, x_b=x_b) if isinstance(model, PairedFlow) else (model(x_b, x_a),)
    return -sum(log_prob.mean() for log_prob in log_probs) / x_b[0].numel()


def test_bits_of_a_trained_flow():
    x_a, x_b = batch(64)
    model = initialize(small_model("full_glow", (2, 2), 12), x_b, x_a)
    untrained = loss(model, x_a, x_b).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss(model, *batch(8)).backward()
        optimizer.step()
    assert loss(model, x_a, x_b) < untrained - 1
    with torch.no_grad():
        bits = bits_per_dim(model.log_prob(x_b, x_a), (3, 8, 8))
        with bf16():
            low = bits_per_dim(model.log_prob(x_b, x_a), (3, 8, 8))
    assert low.dtype == torch.float32
    assert 0 < (low - bits).abs().max() < 0.01


class Touching(TorchDispatchMode):
    """A record of the operations that read or write bfloat16 while no conditioner runs."""

    def __init__(self, model):
        super().__init__()
        self.inside, self.names = 0, set()
        for module in model.modules():
            for net in (getattr(module, "conditioner", None), getattr(module, "_embedding_net", None)):
                if net is not None:
                    net.register_forward_pre_hook(lambda *_: self.enter(1))
                    net.register_forward_hook(lambda *_: self.enter(-1))

    def enter(self, count):
        self.inside += count

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, results))
        if not self.inside and any(isinstance(leaf, torch.Tensor) and leaf.dtype == BF16 for leaf in leaves):
            self.names.add(str(operation))
        return results


@pytest.mark.parametrize("name", FLOWS)
def test_nothing_but_conditioners_runs_in_bfloat16(name):
    """Check that nets' outputs are cast up before they are bounded, and that bijectors map float32 to float32."""
    model = perturb(small_model(name))
    layers, bijectors = set(), set()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output: layers.add(output.dtype))
        elif isinstance(module, Bijector):
            module.register_forward_hook(
                lambda module, inputs, outputs: bijectors.update(x.dtype for x in (inputs[0], *outputs)))
    x_a, x_b = batch()
    with Touching(model) as touching, bf16():
        loss(model, x_a, x_b)
        model.sample(1, x_a)
    assert layers == {BF16}
    assert bijectors == {torch.float32}
    assert touching.names == {"aten._to_copy.default"}


@pytest.mark.parametrize("name", FLOWS)
def test_training(name):
    """Check gradients: in float32, near those without autocast, and the same where activations are recomputed."""
    plain, saving = small_model(name), small_model(name, checkpoint=True)
    x_a, x_b = batch(4)
    plain = perturb(initialize(plain, *batch(64)[::-1]), 0.02)
    saving.load_state_dict(plain.state_dict())

    def gradients(model, enabled):
        model.zero_grad()
        with torch.autocast("cpu", BF16, enabled=enabled):
            value = loss(model, x_a, x_b)
        value.backward()
        return {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}

    want, got, recomputed = gradients(plain, False), gradients(plain, True), gradients(saving, True)
    assert want.keys() == got.keys() == recomputed.keys()
    for key, gradient in got.items():
        assert gradient.dtype == torch.float32
        assert torch.isfinite(gradient).all()
        # Where steps are computed again, gradients are summed in another order; where source and target run in turn,
        # actnorms and 1x1 convolutions are not merged. A cast that was left out would differ by 1e-3.
        largest = float(gradient.abs().max())
        torch.testing.assert_close(gradient, recomputed[key], rtol=1e-4, atol=1e-4 * largest, msg=key)
    flat = [torch.cat([gradient.flatten() for gradient in all.values()]) for all in (want, got)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.99
    before = loss(saving, x_a, x_b)
    torch.optim.Adam(saving.parameters(), lr=1e-4).step()
    assert loss(saving, x_a, x_b) < before
