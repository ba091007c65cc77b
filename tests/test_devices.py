"""Devices that lack float64 or values: no operation demands what a device may not have."""

import copy

import pytest
import torch
from helpers import make_context
from registry import COSTLY_LAWS, ENTRIES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from condflows import ActNorm, Chain, Flow, Logit, LUConv1x1, Standardize, glow_step, initialize
from condflows.conditioners import MLPConditioner
from condflows.testing import invertibility_report, perturb
from condflows.trace import map_context


class NoFloat64(TorchDispatchMode):
    """Refuse float64, everywhere or on devices other than the CPU."""

    def __init__(self, everywhere=True):
        super().__init__()
        self.everywhere = everywhere

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(results):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64:
                allowed = not self.everywhere and leaf.device.type == "cpu"
                assert allowed, f"{function} makes float64 on {leaf.device}"
        return results


def conditional():
    nets = MLPConditioner(2, 4, context_features=3), MLPConditioner(3, 8), MLPConditioner(3, 36)
    return Flow(Chain([Standardize(4), glow_step(4, *nets), glow_step(4, MLPConditioner(2, 4))]), shape=(4,))


def test_a_flow_is_initialized_trained_sampled_and_reported_without_float64():
    flow, x, context = conditional(), 3 + torch.randn(20, 4), torch.randn(20, 3)
    with NoFloat64():
        initialize(flow, x, context)
        flow.log_prob(x, context).mean().backward()
        flow.sample_and_log_prob(2, context, temperature=0.5)
        report = invertibility_report(flow, x, context)
        Logit(0, 1)(torch.rand(2, 3))
        Chain([Logit([0.0, 1.0], 2)]).inverse(torch.randn(2, 2))
    assert max(place.error for place in report) < 1e-4


def test_a_report_has_the_condition_numbers_of_float64():
    convolution = perturb(LUConv1x1(8), 0.3)
    matrix = convolution(torch.eye(8))[0].double()
    (place,) = invertibility_report(convolution, torch.randn(5, 8))
    assert place.condition == pytest.approx(float(torch.linalg.cond(matrix)), rel=1e-3)


def test_modules_are_built_where_a_device_context_says():
    with torch.device("meta"), NoFloat64(everywhere=False):
        flow = conditional()
        Logit(0.0, 1.0)
    assert all(value.is_meta for value in flow.state_dict().values())


@pytest.mark.parametrize("name", COSTLY_LAWS)
def test_shapes_are_computed_on_the_meta_device(name):
    if name == "vector: chain with an nflows spline coupling":
        pytest.skip("nflows' splines look at values")
    entry = ENTRIES[name]
    bijector = entry.build()
    inputs = torch.randn(2, entry.channels, *entry.sizes)
    context = make_context(entry, inputs, 1, torch.float32)
    moved = copy.deepcopy(bijector).to("meta")
    of_meta = map_context(lambda tensor: tensor.to("meta"), context)
    for run, on_meta in ((bijector, moved), (bijector.inverse, moved.inverse)):
        values = inputs if run is bijector else bijector(inputs, context)[0].detach()
        for got, want in zip(on_meta(values.to("meta"), of_meta), run(values, context), strict=True):
            assert got.is_meta
            assert (got.shape, got.dtype) == (want.shape, want.dtype)


def test_fake_tensors_have_shapes():
    with FakeTensorMode():
        flow = conditional()
        Chain([Logit(0.0, 1.0), Logit([0.0, 1.0], 2)])
        x, context = torch.randn(5, 4), torch.randn(5, 3)
        assert flow.log_prob(x, context).shape == (5,)
        assert flow.sample(7, context).shape == (5, 7, 4)
        flow.log_prob(x, context).mean().backward()
        assert flow.transform.bijectors[1].bijectors[1].lower.grad.shape == (4, 4)


@pytest.mark.parametrize("way", ["to_empty", "assign"])
def test_weights_are_loaded_into_what_was_built_without_memory(way):
    trained, x, context = perturb(conditional()), torch.randn(5, 4), torch.randn(5, 3)
    initialize(trained, x, context)
    with torch.device("meta"):
        flow = conditional()
    if way == "to_empty":
        flow = flow.to_empty(device="cpu")
        flow.load_state_dict(trained.state_dict())
    else:
        flow.load_state_dict(trained.state_dict(), assign=True)
    assert torch.equal(flow.log_prob(x, context), trained.log_prob(x, context))
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(flow.sample(2, context, generator=seeds[0]), trained.sample(2, context, generator=seeds[1]))


def test_float64_under_autocast_gets_the_usual_message():
    flow = Flow(ActNorm(4), shape=(4,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            assert flow.log_prob(torch.randn(2, 4, dtype=dtype)).dtype == torch.float32
        with pytest.raises(TypeError, match=r"expects torch\.float32 on cpu like its parameters, got torch\.float64"):
            flow.log_prob(torch.randn(2, 4, dtype=torch.float64))
        assert flow.double().log_prob(torch.randn(2, 4, dtype=torch.float64)).dtype == torch.float64
