"""Conditioners of parts of a context and of labels: the same as conditioners that users write themselves."""

from types import MappingProxyType

import pytest
import torch
from torch import nn

from condflows import ActNorm, AffineCoupling, Chain, Flow, LUConv1x1, Standardize, glow_step, initialize, multiscale
from condflows.conditioners import CouplingConditioner, Embed, GlobalConditioner, MLPConditioner, Select
from condflows.testing import check_bijector, perturb
from condflows.trace import resize


def context_of(batch, dtype=torch.float32):
    return {"map": torch.rand(batch, 1, 4, 6, dtype=dtype), "small": torch.rand(batch, 2, 2, 3, dtype=dtype),
            "pose": torch.randn(batch, 3, dtype=dtype)}


def test_a_part_is_what_the_conditioner_reads():
    context, x = context_of(5), torch.randn(5, 4, 4, 6)
    net = perturb(MLPConditioner(3, 8))
    for key, container in (("pose", context), ("pose", MappingProxyType(context)), (2, tuple(context.values())),
                           (-1, list(context.values()))):
        ours = ActNorm(4, Select(key, net))(x, container)
        torch.testing.assert_close(ours, ActNorm(4, net)(x, context["pose"]), rtol=0, atol=0)


def test_several_parts_are_joined():
    context, x = context_of(5), torch.randn(5, 4, 4, 6)
    net = perturb(CouplingConditioner(4, 8, 6))
    joined = torch.cat([resize(context[key], context["map"]) for key in ("pose", "map", "small")], 1)
    ours = AffineCoupling(4, Select(["pose", "map", "small"], net))(x, context)
    torch.testing.assert_close(ours, AffineCoupling(4, net)(x, joined), rtol=0, atol=0)
    vectors = (torch.randn(5, 2), torch.randn(5, 1))
    net = perturb(MLPConditioner(3, 8))
    torch.testing.assert_close(ActNorm(4, Select([0, 1], net))(x, vectors), ActNorm(4, net)(x, torch.cat(vectors, 1)))


def test_parts_of_several_dtypes_keep_their_values():
    labels, vector = torch.tensor([[1], [2]]), torch.tensor([[0.7, 0.2], [0.9, 0.5]])
    for keys in ([0, 1], [1, 0]):
        joined = Select(keys, nn.Identity()).change((labels, vector))
        assert joined.dtype == torch.float32
        assert sorted(joined[0].tolist()) == pytest.approx([0.2, 0.7, 1.0])


def step(c):
    return glow_step(c, Select(["map", "pose"], CouplingConditioner(c, 6, 4, context_width=4)),
                     actnorm=Select("pose", MLPConditioner(3, 2 * c)),
                     conv=Select("map", GlobalConditioner(1, 2 * c * c + c)))


def test_laws_and_the_row_rule():
    check_bijector(step(4), torch.randn(3, 4, 4, 6), context_of(3))
    flow = perturb(Flow(multiscale(1, (1,), step), (1, 8, 12))).double()
    context = context_of(2, torch.float64)
    initialize(flow, torch.rand(2, 1, 8, 12, dtype=torch.float64), context)
    samples, log_prob = flow.sample_and_log_prob(3, context)
    assert samples.shape == (2, 3, 1, 8, 12)
    repeated = {key: part.repeat_interleave(3, 0) for key, part in context.items()}
    torch.testing.assert_close(flow.log_prob(samples.flatten(0, 1), repeated), log_prob.flatten(), rtol=1e-8, atol=1e-8)
    calls = []
    flow.transform.bijectors[1].bijectors[0].conditioner.conditioner.net.register_forward_hook(
        lambda _, inputs, __: calls.append(len(inputs[0])))
    flow.sample(3, context)
    assert calls == [2]  # once a condition


class Own(nn.Module):
    def __init__(self, net, embedding):
        super().__init__()
        self.net, self.embedding = net, embedding

    def forward(self, *inputs):
        *first, labels = inputs
        return self.net(*first, self.embedding(labels))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_labels_of_vectors(shape):
    embed, labels, x = Embed(10, 5), torch.randint(10, shape), torch.randn(6, 4)
    nets = perturb(MLPConditioner(2, 4, 5)), perturb(MLPConditioner(5, 8))
    ours = Chain([AffineCoupling(4, embed.before(nets[0])), ActNorm(4, embed.before(nets[1]))])
    own = Chain([AffineCoupling(4, Own(nets[0], embed.vectors)), ActNorm(4, Own(nets[1], embed.vectors))])
    torch.testing.assert_close(ours(x, labels), own(x, labels.flatten()), rtol=0, atol=0)
    assert sum(parameter is embed.vectors.weight for parameter in ours.parameters()) == 1
    check_bijector(ours, x, labels)
    flow = Flow(ours, (4,))
    assert flow.sample(7, labels).shape == (6, 7, 4)
    flow.log_prob(x, labels).sum().backward()
    assert embed.vectors.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("extra", [(), (1,)])
def test_maps_of_labels(extra):
    embed, labels = Embed(4, 3), torch.randint(4, (2, *extra, 4, 6), dtype=torch.uint8)
    vectors = embed(labels)
    assert vectors.shape == (2, 3, 4, 6)
    assert torch.equal(vectors[1, :, 2, 5], embed.vectors.weight[labels.view(2, 4, 6)[1, 2, 5].long()])
    coupling = AffineCoupling(4, embed.before(CouplingConditioner(4, 6, 3, context_width=4)))
    check_bijector(coupling, torch.randn(2, 4, 4, 6), labels)


def test_they_nest():
    context = {"label": torch.randint(5, (6,)), "pose": 300 + 20 * torch.randn(6, 3)}
    embed, standardize = Embed(5, 4), Standardize(3)
    chain = Chain([ActNorm(2, Select("label", embed.before(MLPConditioner(4, 4)))), LUConv1x1(2),
                   AffineCoupling(2, Select("pose", standardize.before(MLPConditioner(1, 2, 3))))])
    initialize(chain, torch.randn(6, 2), context)
    torch.testing.assert_close(standardize.mean, context["pose"].mean(0), rtol=1e-5, atol=1e-3)
    check_bijector(chain, torch.randn(6, 2), context)


CONTEXT = context_of(2)
X = torch.randn(2, 4, 4, 6)


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: ActNorm(4, Select("speed", MLPConditioner(3, 8)))(X, CONTEXT), ValueError,
     r"Select expects a context with 'speed', got \['map', 'small', 'pose'\]"),
    (lambda: ActNorm(4, Select(3, MLPConditioner(3, 8)))(X, tuple(CONTEXT.values())), ValueError,
     "with 3, got 3 parts"),
    (lambda: ActNorm(4, Select("pose", MLPConditioner(3, 8)))(X, CONTEXT["pose"]), TypeError,
     r"Select\('pose'\) expects a mapping, tuple or list as context, got Tensor"),
    (lambda: ActNorm(4, Select("pose", MLPConditioner(2, 8)))(X, CONTEXT), ValueError, "with 2 channels"),
    (lambda: Embed(3, 2)(torch.tensor([0, 3])), ValueError,
     "labels from 0 to 2, got 0 to 3; build it for more classes"),
    (lambda: Embed(3, 2)(torch.tensor([-1, 1])), ValueError, "labels from 0 to 2, got -1 to 1"),
    (lambda: Embed(3, 2)(torch.tensor([0.5, 1.0])), TypeError, "integer labels, 0 to 2, got torch.float32"),
    (lambda: Embed(3, 2)(torch.tensor(1)), TypeError, "a batch of integer labels"),
    (lambda: Embed(0, 2), ValueError, "at least 1 class"),
])
def test_mistakes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
