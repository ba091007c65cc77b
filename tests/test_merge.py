"""Chains run in a fast form where nothing is recorded; they must stay the maps that their parts are."""

import copy
import unittest.mock

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from condflows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Flow,
    Inverse,
    LUConv1x1,
    Squeeze,
    freeze,
    initialize,
    merge,
)
from condflows.conditioners import MLPConditioner
from condflows.merge import Product
from condflows.testing import check_bijector, perturb

SHAPES = [(5, 4), (3, 4, 6), (2, 4, 4, 6), (2, 4, 2, 4, 2)]


def part_by_part(chain, inputs, context=None, inverse=False):
    """Call the parts of a chain, and of those within it, one after the other."""
    total = inputs.new_zeros(len(inputs))
    for part in list(chain.bijectors)[:: -1 if inverse else 1]:
        call = part.inverse if inverse else part
        run = part_by_part(part, inputs, context, inverse) if isinstance(part, Chain) else call(inputs, context)
        inputs, total = run[0], total + run[1]
    return inputs, total


def steps(channels=4, count=3, dtype=torch.float64):
    chain = Chain([part for _ in range(count) for part in (ActNorm(channels), LUConv1x1(channels))])
    return perturb(chain, 0.3).to(dtype)


def products_of(chain, inputs, inverse=False):
    return [part for part, _ in chain._steps(None, inputs, None, inverse) if isinstance(part, Product)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("inverse", [False, True])
def test_merged_pairs_are_the_same_map(shape, inverse):
    chain, x = steps(), torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    assert len(products_of(chain, x, inverse)) == 3
    got = chain.inverse(x) if inverse else chain(x)
    want = part_by_part(chain, x, inverse=inverse)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    variables = [x, *chain.parameters()]
    directions = torch.randn_like(got[0]), torch.randn_like(got[1])
    for mine, theirs in zip(torch.autograd.grad(got, variables, directions),
                            torch.autograd.grad(want, variables, directions), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_laws(shape):
    check_bijector(steps(), torch.randn(*shape, dtype=torch.float64))


def test_pairs_of_several_sizes_and_chains_within_chains():
    def step(c):
        return Chain([ActNorm(c), LUConv1x1(c)])

    inner = Chain([step(3), Squeeze(), step(12)])
    chain = Chain([step(3), inner, ActNorm(12), step(12), LUConv1x1(12), Inverse(step(12))])
    chain = perturb(chain, 0.2).double()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    assert [product.mean.shape[0] for product in products_of(chain, x)] == [3, 3, 12, 12]
    torch.testing.assert_close(chain(x), part_by_part(chain, x), rtol=1e-12, atol=1e-12)
    y = chain(x)[0]
    torch.testing.assert_close(chain.inverse(y), part_by_part(chain, y, inverse=True), rtol=1e-12, atol=1e-12)


def test_matrices_too_large_for_one_batch(monkeypatch):
    monkeypatch.setattr(merge, "LARGEST", 40)  # two of 16 entries
    chain, x = steps(count=5), torch.randn(5, 4, dtype=torch.float64)
    assert len(products_of(chain, x)) == 5
    torch.testing.assert_close(chain(x), part_by_part(chain, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_dtypes_are_those_of_the_parts(dtype, shape):
    for chain, inputs in ((steps(dtype=dtype), dtype), (steps(dtype=torch.float32), dtype), (steps(), torch.float32)):
        x = torch.randn(shape).to(inputs)
        for got, want in zip(chain(x), part_by_part(chain, x), strict=True):
            assert got.dtype == want.dtype
            torch.testing.assert_close(got, want, rtol=0.05, atol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.randn(shape)
        chain = steps(dtype=torch.float32)
        assert chain(x)[0].dtype == torch.float32
        torch.testing.assert_close(chain(x), part_by_part(chain, x), rtol=1e-5, atol=1e-5)


class Cast(Bijector):
    def forward(self, inputs, context=None):
        return inputs.double(), inputs.new_zeros(len(inputs))

    def inverse(self, inputs, context=None):
        return inputs.float(), inputs.new_zeros(len(inputs))


def test_parts_of_several_dtypes():
    x = torch.randn(5, 4)
    mixed = steps(dtype=torch.float32)
    mixed.bijectors[2].double()
    casts = Chain([Cast(), steps(dtype=torch.float32)]), Chain([steps(dtype=torch.float32), Cast(), steps()])
    for chain in (*casts, mixed):
        for name in ("forward", "inverse"):
            got, want = getattr(chain, name)(x), part_by_part(chain, x, inverse=name == "inverse")
            assert [part.dtype for part in got] == [part.dtype for part in want]
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_data_far_from_zero():
    """Check float32 against float64 where the shift cancels the data, as in the first actnorm of raw data."""
    x = 101_325 + 5 * torch.randn(1000, 4)
    chain = initialize(steps(count=1, dtype=torch.float32), x)
    exact = copy.deepcopy(chain).double()
    error = (chain(x)[0] - exact(x.double())[0]).abs().max()
    assert error < 4 * (part_by_part(chain, x)[0] - exact(x.double())[0]).abs().max() + 1e-6
    y = torch.randn(1000, 4)
    error = (chain.inverse(y)[0] - exact.inverse(y.double())[0]).abs().max()
    assert error < 2 * (part_by_part(chain, y, inverse=True)[0] - exact.inverse(y.double())[0]).abs().max() + 1e-3


def test_an_actnorm_with_one_shift_for_all_channels():
    chain, x = steps(), torch.randn(5, 4, dtype=torch.float64)
    chain.bijectors[2].shift = nn.Parameter(torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(chain(x), part_by_part(chain, x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(chain.inverse(x), part_by_part(chain, x, inverse=True), rtol=1e-12, atol=1e-12)


class OwnActNorm(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs + 1, logabsdet


def replace_forward(actnorm, convolution):
    actnorm.forward = lambda inputs, context=None: (inputs + 1, inputs.new_zeros(len(inputs)))


def replace_inverse(actnorm, convolution):
    convolution.inverse = lambda inputs, context=None: (inputs - 1, inputs.new_zeros(len(inputs)))


def hook(actnorm, convolution):
    convolution.register_forward_hook(lambda module, inputs, results: (results[0] + 1, results[1]))


def parametrization(actnorm, convolution):
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    parametrize.register_parametrization(convolution, "upper", Twice())


def pruning(actnorm, convolution):
    prune.random_unstructured(actnorm, "shift", 0.5)


@pytest.mark.parametrize("change", [replace_forward, replace_inverse, hook, parametrization, pruning])
def test_changed_parts_are_called(change):
    chain, x = steps(), torch.randn(5, 4, dtype=torch.float64)
    before = chain(x)[0], chain.inverse(x)[0]
    change(*list(chain.bijectors)[2:4])
    assert len(products_of(chain, x)) == 2
    after = chain(x)[0], chain.inverse(x)[0]
    assert any(not torch.allclose(old, new) for old, new in zip(before, after, strict=True))
    torch.testing.assert_close(chain(x), part_by_part(chain, x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(chain.inverse(x), part_by_part(chain, x, inverse=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [ActNorm, LUConv1x1, Chain])
@pytest.mark.parametrize("name", ["forward", "inverse"])
def test_a_method_replaced_in_the_class_is_called(kind, name):
    chain, x = Chain([steps(count=1), steps(count=1)]), torch.randn(5, 4, dtype=torch.float64)
    with unittest.mock.patch.object(kind, name, autospec=True, side_effect=getattr(kind, name)) as called:
        getattr(chain, name)(x)
    assert called.call_count == 2 + (kind is Chain)


def test_derived_classes_conditional_parts_and_recorded_chains_are_called():
    x = torch.randn(5, 4, dtype=torch.float64)
    own = Chain([OwnActNorm(4), LUConv1x1(4)]).double()
    assert not products_of(own, x)
    for nets in ((MLPConditioner(2, 8), None), (None, MLPConditioner(2, 36))):
        assert not products_of(Chain([ActNorm(4, nets[0]), LUConv1x1(4, nets[1])]), x)
    chain = steps()
    outputs, logabsdet, trace = chain.forward_with_trace(x)
    assert len(trace) == 6
    torch.testing.assert_close((outputs, logabsdet), chain(x), rtol=1e-12, atol=1e-12)


def test_hooks_of_every_module_fire():
    flow = Flow(Chain([steps(dtype=torch.float32), AffineCoupling(4, MLPConditioner(2, 4))]), (4,))
    uncalled = {flow._distribution, flow._embedding_net, *(m for m in flow.modules() if isinstance(m, nn.ModuleList))}
    for module in set(flow.modules()) - uncalled:
        calls = []
        handles = [module.register_forward_hook(lambda *_, calls=calls: calls.append("forward")),
                   module.register_full_backward_hook(lambda *_, calls=calls: calls.append("backward"))]
        flow(torch.randn(5, 4, requires_grad=True)).sum().backward()
        for handle in handles:
            handle.remove()
        assert calls == ["forward", "backward"], module


def test_transformed_copied_frozen_and_trained_chains():
    chain, x = steps(), torch.randn(5, 4, dtype=torch.float64)
    want = part_by_part(chain, x)
    parameters = dict(chain.named_parameters())
    called = torch.func.functional_call(chain, parameters, (x,))
    torch.testing.assert_close(called, want, rtol=1e-12, atol=1e-12)
    each = torch.vmap(lambda row: chain(row[None])[0][0])(x)
    torch.testing.assert_close(each, want[0], rtol=1e-12, atol=1e-12)
    for other in (copy.deepcopy(chain), freeze(chain)):
        torch.testing.assert_close(other(x), want, rtol=1e-12, atol=1e-12)
    doubled = torch.func.functional_call(chain, {name: 2 * value for name, value in parameters.items()}, (x,))
    assert not torch.allclose(doubled[0], want[0])
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(chain(x), doubled, rtol=1e-12, atol=1e-12)


def test_a_pair_that_occurs_twice_gets_the_gradients_of_both():
    actnorm, convolution = steps(count=1).bijectors
    chain, x = Chain([actnorm, convolution, actnorm, convolution]), torch.randn(5, 4, dtype=torch.float64)
    parameters = list(chain.parameters())
    got = torch.autograd.grad(chain(x)[0].square().sum(), parameters)
    want = torch.autograd.grad(part_by_part(chain, x)[0].square().sum(), parameters)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_errors_are_those_of_the_parts():
    with pytest.raises(ValueError, match="ActNorm expects 4 channels"):
        steps()(torch.randn(5, 3, dtype=torch.float64))
