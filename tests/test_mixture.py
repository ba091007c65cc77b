"""The mixture coupling against torch.distributions, at the ends of the logistic, and with extreme nets."""

from functools import partial

import pytest
import torch
from torch import distributions as td
from torch import nn

from condflows import ActNorm, Chain, Flow, MixtureCoupling, glow_step, initialize
from condflows.conditioners import MLPConditioner
from condflows.couplings import logistic_mixture
from condflows.couplings.logistic_mixture import Mixture
from condflows.testing import check_bijector, perturb

COMPONENTS = [1, 2, 5, 8]


def case(components, scale=1.0, dtype=torch.float64, count=500):
    """Return values, and raw parameters of mixtures."""
    values = 4 * torch.randn(count, 2, dtype=torch.float64)
    raw = scale * torch.randn(count, 3, components, 2, dtype=torch.float64)
    return values.to(dtype), raw.to(dtype)


def logistic(mean, scale):
    uniform = td.Uniform(torch.zeros_like(mean), torch.ones_like(mean))
    return td.TransformedDistribution(uniform, [td.SigmoidTransform().inv, td.AffineTransform(mean, scale)])


@pytest.mark.parametrize("components", COMPONENTS)
def test_the_distribution_of_torch(components):
    values, raw = case(components)
    mixture = Mixture.of(raw)
    weights, means, scales = (part.movedim(1, -1) for part in (
        mixture.log_weight.exp(), mixture.mean, mixture.log_scale.exp()))
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(values))
    torch.testing.assert_close(weights[..., -1], torch.full_like(values, 0.1))
    same = td.MixtureSameFamily(td.Categorical(weights), logistic(means, scales), validate_args=False)
    outputs, log_slope = mixture.logit(values)
    chance = same.cdf(values)
    inside = (chance > 1e-6) & (chance < 1 - 1e-6)
    torch.testing.assert_close(outputs[inside], torch.logit(chance)[inside], rtol=1e-8, atol=1e-8)
    want = same.log_prob(values) - (chance * (1 - chance)).log()
    torch.testing.assert_close(log_slope[inside], want[inside], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("components", COMPONENTS)
@pytest.mark.parametrize("scale", [0, 1, 5, 1e9])
def test_round_trips_and_derivatives(components, scale):
    values, raw = case(components, scale)
    mixture = Mixture.of(raw)
    values.requires_grad_()
    outputs, log_slope = mixture.logit(values)
    torch.testing.assert_close(torch.autograd.grad(outputs.sum(), values)[0].log(), log_slope, rtol=1e-7, atol=1e-7)
    restored, again = mixture.unlogit(outputs.detach())
    torch.testing.assert_close(restored, values.detach(), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(again, log_slope, rtol=1e-9, atol=1e-9)
    if scale == 0:
        torch.testing.assert_close(outputs, values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_root_is_found_in_a_few_steps(dtype, monkeypatch):
    calls, logit = [], Mixture.logit
    monkeypatch.setattr(Mixture, "logit", lambda self, x: calls.append(1) or logit(self, x))
    for scale, most in ((0.3, 10), (1, 15), (1e9, 25)):
        values, raw = case(8, scale, dtype, 3000)
        mixture = Mixture.of(raw)
        calls.clear()
        roots = mixture.unlogit(values)[0]
        assert len(calls) <= most
        error = (logit(mixture, roots)[0] - values).abs() / (1 + values.abs())
        assert error.max() < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients(inverse):
    """Check those of the inverse, which are those of the implicit function, against finite differences."""
    values, raw = case(3, count=4)

    def run(values, raw):
        mixture = Mixture.of(raw)
        return mixture.unlogit(values) if inverse else mixture.logit(values)

    assert torch.autograd.gradcheck(run, (values.requires_grad_(), raw.requires_grad_()))
    assert torch.autograd.gradgradcheck(run, (values, raw))


def test_infinite_values_and_none_leave_other_rows_alone():
    coupling = perturb(MixtureCoupling(2, MLPConditioner(1, 26)))
    x = torch.randn(5, 2)
    x[1, 1], x[2, 1], x[3, 1] = torch.inf, -torch.inf, torch.nan
    log_prob = Flow(coupling, (2,)).log_prob(x)
    assert log_prob[1:3].tolist() == [-torch.inf, -torch.inf]
    assert log_prob[3].isnan()
    restored = coupling.inverse(x)[0]
    for good in (0, 4):
        torch.testing.assert_close(log_prob[good], Flow(coupling, (2,)).log_prob(x[good : good + 1])[0])
        torch.testing.assert_close(restored[good], coupling.inverse(x[good : good + 1])[0][0])
    assert restored[1, 1] > 1e25
    assert restored[2, 1] < -1e25


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_values_and_extreme_nets(dtype):
    raw = torch.cat([case(4, 1e9, dtype)[1], torch.full((500, 3, 4, 2), torch.inf, dtype=dtype).copysign(
        torch.randn(500, 3, 4, 2))]).requires_grad_()
    mixture = Mixture.of(raw)
    for far in (0.0, 3.0, 50.0, 1e4, 1e10, 1e30):
        for values in (torch.full((1000, 2), sign * far, dtype=dtype, requires_grad=True) for sign in (1, -1)):
            outputs, log_slope = mixture.logit(values)
            restored, again = mixture.unlogit(outputs)
            error = (restored - values).abs().max() / (1 + far)
            assert error < 500 * torch.finfo(dtype).eps
            assert ((log_slope.exp() > 4e-3) & (log_slope.exp() < 20.1)).all()
            torch.testing.assert_close(again, log_slope, rtol=0, atol=2000 * torch.finfo(dtype).eps)
            gradients = torch.autograd.grad((outputs + log_slope + restored + again).sum(), (values, raw),
                                            retain_graph=True)
            assert torch.isfinite(gradients[0]).all()
            assert torch.isfinite(gradients[1][:500]).all()


def test_components_part_from_each_other():
    """Train two modes: components that start equal must not stay so."""
    flow = Flow(Chain([ActNorm(2), MixtureCoupling(2, MLPConditioner(1, 3 * 4 + 2, hidden=()), 4)]), (2,))
    data = torch.randn(1000, 2) * 0.2
    data[:, 1] += torch.where(torch.rand(1000) < 0.5, 1.0, -1.0)
    initialize(flow, data)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    first = float(-flow.log_prob(data).mean())
    for _ in range(150):
        optimizer.zero_grad()
        loss = -flow.log_prob(data).mean()
        loss.backward()
        optimizer.step()
    assert float(loss) < first - 0.5
    means = flow.transform.bijectors[1].conditioner.net[-1].bias.view(14, 1)[4:8, 0]
    assert means.std() > 0.05


def test_steps_of_glow():
    step = glow_step(4, MLPConditioner(2, 11 * 2), kind=partial(MixtureCoupling, components=3))
    check_bijector(step, torch.randn(3, 4))


@pytest.mark.parametrize(("build", "message"), [
    (lambda: MixtureCoupling(1, nn.Identity()), "MixtureCoupling expects at least 2 channels"),
    (lambda: MixtureCoupling(2, nn.Identity(), components=0), "MixtureCoupling expects at least 1 component, got 0"),
    (lambda: MixtureCoupling(2, MLPConditioner(1, 2))(torch.randn(3, 2)),
     r"MixtureCoupling expects its conditioner to return \(3, 26\), got \(3, 2\); let it end in 26 channels"),
])
def test_mistakes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("plant", ["slope", "inverse", "gradient"])
def test_planted_mistakes_are_caught(plant, monkeypatch):
    logit = Mixture.logit
    if plant == "slope":
        monkeypatch.setattr(Mixture, "logit", lambda self, x: (logit(self, x)[0], 0.99 * logit(self, x)[1]))
    elif plant == "inverse":
        monkeypatch.setitem(logistic_mixture.STEPS, torch.float64, 1)
    else:
        unlogit = Mixture.unlogit
        monkeypatch.setattr(Mixture, "unlogit", lambda self, y: tuple(part.detach() for part in unlogit(self, y)))
    coupling = perturb(MixtureCoupling(4, MLPConditioner(2, 26 * 2)))
    with pytest.raises((AssertionError, RuntimeError)):
        check_bijector(coupling, torch.randn(8, 4))
