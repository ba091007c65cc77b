"""The logit: laws in 0 to 3 dimensions, known values, rows outside of the interval, and its ends in every precision."""

import math

import pytest
import torch
from nflows.transforms.nonlinearities import Logit as NFlowsLogit

from condflows import ActNorm, Chain, Flow, Logit, LUConv1x1, conditioners, initialize
from condflows.testing import check_bijector

ENDS = {"unit": (), "numbers": (-2, 5), "of each channel": ([-1.0, 0.0, 2.0], [1.0, 3.0, 2.5]),
        "one number for all": ([-3.0, -1.0, 0.0], 4)}


def inside(logit, *size):
    low, high = (end.double().view(1, -1, *(1 for _ in size)) for end in (logit.low, logit.high))
    return low + (high - low) * (0.05 + 0.9 * torch.rand(3, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("size", [(), (4,), (2, 3), (2, 2, 2)])
@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
def test_laws(ends, size):
    logit = Logit(*ends)
    check_bijector(logit, inside(logit, *size))
    check_bijector(logit, inside(logit, *size), torch.randn(3, 2))  # which it ignores


def test_values_are_those_of_a_formula_and_of_nflows():
    inputs = torch.rand(5, 3, dtype=torch.float64)
    outputs, logabsdet = Logit().double()(inputs)
    torch.testing.assert_close(outputs, inputs.log() - (1 - inputs).log())
    expected, expected_logabsdet = NFlowsLogit(eps=0.0).double()(inputs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(logabsdet, expected_logabsdet)
    shifted, shifted_logabsdet = Logit(10, 30).double()(10 + 20 * inputs)
    torch.testing.assert_close(shifted, outputs)
    torch.testing.assert_close(shifted_logabsdet, logabsdet - 3 * math.log(20))


@pytest.mark.parametrize("value", [-0.5, 0.0, 1.0, 7.0, math.inf, -math.inf])
def test_a_row_outside_has_no_density_and_the_others_are_untouched(value):
    flow = initialize(Flow(Chain([Logit(), ActNorm(3), LUConv1x1(3)]), shape=(3,)).double(),
                      torch.rand(50, 3, dtype=torch.float64))
    inputs = torch.rand(4, 3, dtype=torch.float64)
    outside = inputs.clone()
    outside[2, 1] = value
    whole, found = flow.log_prob(inputs), flow.log_prob(outside.requires_grad_())
    assert found[2] == -math.inf
    rest = [0, 1, 3]
    torch.testing.assert_close(found[rest], whole[rest], rtol=0, atol=0)
    found.nan_to_num(neginf=0).sum().backward()
    assert torch.isfinite(outside.grad).all()
    assert (outside.grad[2] == 0).all()
    assert (outside.grad[rest] != 0).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in flow.parameters())


def test_nan_is_not_taken_for_a_value_outside():
    assert torch.isnan(Flow(Logit()).log_prob(torch.tensor([[math.nan, 0.5], [0.5, 0.5]]))[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 4), (-100, -0.5)])
def test_samples_stay_inside(low, high, dtype):
    logit = Logit(low, high).to(dtype)
    noise = torch.tensor([[0.0, 8.0], [-30.0, 1e4], [-math.inf, math.inf]], dtype=dtype)
    outputs, logabsdet = logit.inverse(noise)
    assert ((outputs > low) & (outputs < high)).all()
    assert outputs.dtype == dtype
    assert torch.isfinite(logit(outputs)[0]).all()
    assert torch.isfinite(logabsdet[:2]).all()


def test_the_density_integrates_to_one():
    """On a grid of one dimension, given a condition."""
    torch.manual_seed(0)
    net = conditioners.MLPConditioner(1, 2)
    torch.nn.init.normal_(net.net[-1].weight)
    flow = Flow(Chain([Logit(-1, 2), ActNorm(1, net)]), shape=(1,)).double()
    grid = torch.linspace(-1, 2, 100_001, dtype=torch.float64)[1:-1, None]
    with torch.no_grad():
        density = flow.log_prob(grid, torch.full_like(grid, 0.7)).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-4)


def test_ends_move_with_the_flow_and_are_in_the_state_dict():
    logit = Logit([0.0, 1.0], [2.0, 3.0])
    assert logit.state_dict().keys() == {"low", "high"}
    assert logit.double().low.dtype == torch.float64
    other = Logit([0.0, 0.0], [1.0, 1.0])
    other.load_state_dict(logit.state_dict())
    assert torch.equal(other.high, torch.tensor([2.0, 3.0]))
    assert logit.to("meta").low.device.type == "meta"
    with torch.device("meta"):
        assert Logit([0.0, 1.0], 2).low.device.type == "meta"


WRONG = {
    "not in order": (lambda: Logit(1, 0), "finite ends with low < high, got 1.0 and 0.0"),
    "equal": (lambda: Logit(1, 1), "low < high"),
    "not finite": (lambda: Logit(0, math.inf), "finite ends"),
    "of other numbers": (lambda: Logit([0.0, 0.0], [1.0, 1.0, 1.0]), r"the shapes \(2,\) and \(3,\)"),
    "of two dimensions": (lambda: Logit(torch.zeros(2, 2), 1), r"the shapes \(2, 2\) and \(\)"),
    "other channels": (lambda: Logit([0.0, 0.0], 1)(torch.rand(2, 3)), "the ends of 2 channels"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_ends(wrong):
    call, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        call()
