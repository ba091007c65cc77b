"""The report of where a flow loses invertibility, and a trained flow on conditions far from those of its training."""

import numpy as np
import pytest
import torch
from nflows.transforms import HouseholderSequence
from torch import nn

from condflows import (
    ActNorm,
    AffineCoupling,
    Chain,
    Flow,
    LUConv1x1,
    PairedFlow,
    compile_steps,
    dequantize,
    glow_step,
    initialize,
    multiscale,
)
from condflows.conditioners import CouplingConditioner, GlobalConditioner
from condflows.testing import invertibility_report, perturb


def plain(width=8):
    return multiscale(3, (2, 2), lambda c: glow_step(c, CouplingConditioner(c, width)))


def conditional(width=8):
    """Build a target whose every operation reads its counterpart in the source."""
    return multiscale(3, (2, 2), lambda c: glow_step(
        c, CouplingConditioner(c, width, c, context_width=width), GlobalConditioner(c, 2 * c),
        GlobalConditioner(c, 2 * c * c + c)))


def by_name(report):
    return {place.name: place for place in report}


def matrix(convolution, context=None):
    return convolution(torch.eye(convolution.num_channels), context)[0].T.detach().double().numpy()


def test_the_place_that_inverts_badly_is_found():
    flow = Flow(perturb(plain()))
    name = "_transform.bijectors.3.inner.bijectors.2.bijectors.1"
    with torch.no_grad():
        flow.get_submodule(name).log_s[3] -= 10
    places = by_name(invertibility_report(flow, torch.randn(4, 3, 8, 8)))
    convolutions = {n: place for n, place in places.items() if place.kind == "LUConv1x1"}
    singular = np.linalg.svd(matrix(flow.get_submodule(name)), compute_uv=False)
    assert places[name].condition == pytest.approx(np.linalg.cond(matrix(flow.get_submodule(name))), rel=1e-3)
    assert (places[name].min_scale, places[name].max_scale) == pytest.approx((singular[-1], singular[0]), rel=1e-3)
    others = [place for n, place in convolutions.items() if n != name]
    assert len(others) == 3
    assert max(place.condition for place in others) < 100 < 1e4 < places[name].condition
    assert max(place.error for place in others) < 1e-5 < 100e-5 < places[name].error
    step, level = name.rpartition(".bijectors")[0], "_transform.bijectors.3"
    assert places[step].error > 1e-3
    assert places[level].error > 1e-3
    assert places["_transform"].error > 1e-3
    assert places["_transform.bijectors.1"].error < 1e-5


def test_each_place_has_the_error_of_its_own_round_trip():
    flow, x = perturb(plain()), torch.randn(2, 3, 8, 8)
    report = invertibility_report(flow, x)
    assert [place.name for place in report][:4] == ["", "bijectors.0", "bijectors.1", "bijectors.1.bijectors.0"]
    with torch.no_grad():
        for place in report[:3]:
            module = flow.get_submodule(place.name)
            outputs = module(x)[0]
            assert type(module).__name__ == place.kind
            assert place.largest == float(x.abs().max())
            error = float((module.inverse(outputs)[0] - x).abs().max())
            assert place.error == pytest.approx(error, rel=1)  # rounding, and the report's hooks keep parts apart
            x = outputs if place.kind == "Squeeze" else x


def test_scales_of_actnorms_and_couplings():
    class Constant(nn.Module):
        def forward(self, inputs, context):
            return torch.tensor([0.5, -1.0, 0.0, 0.0]).expand(len(inputs), 4)

    actnorm, coupling = ActNorm(4), AffineCoupling(4, Constant(), affine=lambda scale, shift: (scale, shift))
    with torch.no_grad():
        actnorm.log_scale.copy_(torch.tensor([1.0, -2.0, 0.0, 0.5]))
    _, first, second = invertibility_report(Chain([actnorm, coupling]), torch.randn(3, 4))
    assert (first.min_scale, first.max_scale) == pytest.approx((np.exp(-2), np.exp(1)))
    assert (second.min_scale, second.max_scale) == pytest.approx((np.exp(-1), np.exp(0.5)))
    assert first.condition is None


def test_matrices_of_each_context():
    convolution = LUConv1x1(3, nn.Linear(2, 21))
    context = torch.tensor([[0.0, 0.0], [300.0, -300.0]])
    (place,) = invertibility_report(convolution, torch.randn(2, 3, 4), context)
    conditions = [np.linalg.cond(matrix(convolution, context[i:i + 1].expand(3, 2))) for i in (0, 1)]
    assert conditions[1] > 1.1 * conditions[0]
    assert place.condition == pytest.approx(conditions[1], rel=1e-4)


@pytest.mark.parametrize("side", [False, True])
def test_a_pair(side):
    def target(c):
        extra = c + side
        return glow_step(c, CouplingConditioner(c, 8, extra), GlobalConditioner(extra, 2 * c))

    pair = perturb(PairedFlow(plain(), multiscale(3, (2, 2), target)))
    x_a, x_b, boundaries = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    context = (x_a, boundaries) if side else x_a
    report = invertibility_report(pair, x_b, context)
    names = [place.name for place in report]
    assert names[0] == "source._transform"
    assert names[len(names) // 2] == "target._transform"
    assert all(type(pair.get_submodule(place.name)).__name__ == place.kind for place in report)
    whole = by_name(report)["target._transform"]
    with torch.no_grad():
        restored = pair.transform_from_noise(pair.transform_to_noise(x_b, context), context)
    assert whole.error == float((restored - x_b).abs().max())
    assert whole.largest == float(x_b.max())


def test_the_flow_is_left_alone():
    flow = compile_steps(Flow(plain(), (3, None, None)), backend=lambda *_: pytest.fail("the report compiles"))
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    invertibility_report(flow, torch.randn(2, 3, 8, 8))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in flow.modules())
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())


def test_transforms_of_nflows_are_places():
    report = invertibility_report(Chain([HouseholderSequence(3, 2), ActNorm(3)]), torch.randn(4, 3))
    assert [place.kind for place in report] == ["Chain", "HouseholderSequence", "ActNorm"]
    assert report[1].error < 1e-5
    assert report[1].min_scale is None


def test_an_inverse_that_blows_up_is_shown():
    actnorm = ActNorm(2)
    with torch.no_grad():
        actnorm.log_scale[0] = -200
    (place,) = invertibility_report(actnorm, torch.ones(1, 2))
    assert not place.error < 1


def test_the_table():
    lines = str(invertibility_report(Flow(Chain([ActNorm(2), LUConv1x1(2)])), torch.ones(1, 2))).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["_transform", "Chain", "1"], ["bijectors.0", "ActNorm", "1"], ["bijectors.1", "LUConv1x1", "1"]]
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["largest", "error", "min", "scale", "max", "scale", "condition"]


def test_what_is_no_flow():
    with pytest.raises(TypeError, match="expects a flow or a bijector, got Linear"):
        invertibility_report(nn.Linear(2, 2), torch.ones(1, 2))


@pytest.fixture(scope="module")
def trained():
    """Train a pair of flows on colours and noisy photos of them; return it with new colours and photos."""
    torch.manual_seed(0)

    def pairs(n):
        colours = torch.rand(n, 3, 8, 8)
        photos = 0.8 * colours.flip(1) + 0.1 + 0.03 * torch.randn(n, 3, 8, 8)
        return tuple(dequantize((255 * x.clamp(0, 1)).round().to(torch.uint8)) for x in (colours, photos))

    pair = PairedFlow(plain(16), conditional(16))
    x_a, x_b = pairs(64)
    initialize(pair, x_b, x_a)
    optimizer = torch.optim.Adam(pair.parameters(), lr=5e-3)
    for _ in range(150):
        source, target = pair.log_probs(*pairs(16))
        loss = -(target + 0.01 * source).mean() / x_b[0].numel()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pair.parameters(), 1)
        optimizer.step()
    return pair.eval(), *pairs(8)


FAR = {
    "inverted": lambda x: 1 - x,
    "noise": lambda x: torch.randn_like(x),
    "uniform noise": lambda x: torch.rand_like(x),
    "black": lambda x: torch.zeros_like(x),
    "white": lambda x: torch.ones_like(x),
    "1e3": lambda x: torch.full_like(x, 1e3),
    "-1e3": lambda x: torch.full_like(x, -1e3),
    "noise of 1e3": lambda x: 1e3 * torch.randn_like(x),
    "one pixel of 1e3": lambda x: x.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(1e3)),
    "1e6": lambda x: 1e6 * (x - 0.5),
}


@pytest.mark.parametrize("far", FAR)
@torch.no_grad()
def test_conditions_far_from_training(trained, far):
    pair, x_a, x_b = trained
    condition = FAR[far](x_a)
    log_prob = pair.log_prob(x_b, condition)
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(pair.source.log_prob(condition)).all()
    noise = pair.transform_to_noise(x_b, condition)
    assert (pair.transform_from_noise(noise, condition) - x_b).abs().max() < 1e-2
    for temperature in (0.0, 0.7, 1.0):
        assert torch.isfinite(pair.sample(2, condition, temperature)).all()
    noise = torch.randn_like(x_b)
    photos = pair.transform_from_noise(noise, condition)
    assert (pair.transform_to_noise(photos, condition) - noise).abs().max() < 1e-2


@torch.no_grad()
def test_the_trained_flow_reads_its_condition(trained):
    """Check that the condition matters, or conditions far from those of training would test nothing."""
    pair, x_a, x_b = trained
    right, wrong = (pair.log_prob(x_b, condition).mean() / x_b[0].numel() for condition in (x_a, x_a.roll(1, 0)))
    assert right > wrong + 1
