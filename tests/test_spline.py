"""The spline coupling against nflows' function, at the edges of its bins, in every precision and with extreme nets."""

from functools import partial

import pytest
import torch
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline
from torch import nn

from condflows import AffineCoupling, SplineCoupling, glow_step
from condflows.affine import sigmoid_affine
from condflows.conditioners import CouplingConditioner, MLPConditioner
from condflows.couplings import rational_quadratic
from condflows.couplings.rational_quadratic import spline, unspline
from condflows.testing import check_bijector, perturb

BINS = [1, 2, 3, 8, 30]


def case(bins, scale=1.0, dtype=torch.float64, count=500, bound=3.0):
    """Return values on both sides of the bounds, and raw parameters of splines."""
    values = (torch.rand(count, 2, dtype=torch.float64) - 0.5) * 3 * bound
    raw = scale * torch.randn(count, (3 * bins - 1) * 2, dtype=torch.float64)
    return values.to(dtype), raw.to(dtype)


@pytest.mark.parametrize("bins", BINS)
@pytest.mark.parametrize("inverse", [False, True])
def test_the_formula_of_nflows(bins, inverse):
    values, raw = case(bins)
    got = (unspline if inverse else spline)(values, raw, bins, 3.0)
    parts = raw.unflatten(1, (-1, 2)).split([bins, bins, bins - 1], 1)
    widths, heights, slopes = (part.movedim(1, -1) for part in parts)
    slopes = rational_quadratic.soft_bound(slopes, rational_quadratic.LOG_SLOPE).exp()
    least = rational_quadratic.LEAST_SHARE / bins
    want = unconstrained_rational_quadratic_spline(
        values, widths, heights, slopes.expm1().log(), inverse=inverse, tails="linear", tail_bound=3.0,
        min_bin_width=least, min_bin_height=least, min_derivative=0.0)
    torch.testing.assert_close(got[0], want[0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(-got[1] if inverse else got[1], want[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("bins", BINS)
@pytest.mark.parametrize("scale", [0, 0.5, 3, 1e9])
def test_round_trips_and_derivatives(bins, scale):
    values, raw = case(bins, scale)
    values.requires_grad_()
    outputs, log_slope = spline(values, raw, bins, 3.0)
    torch.testing.assert_close(torch.autograd.grad(outputs.sum(), values)[0].log(), log_slope, rtol=1e-6, atol=1e-6)
    restored, again = unspline(outputs.detach().requires_grad_(), raw, bins, 3.0)
    torch.testing.assert_close(restored, values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(again, log_slope, rtol=1e-7, atol=1e-7)
    assert torch.equal(outputs[values.abs() > 3], values[values.abs() > 3])
    assert not log_slope[values.abs() > 3].any()
    if scale == 0:
        torch.testing.assert_close(outputs, values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients(inverse):
    values, raw = case(3, count=4)
    run = partial(unspline if inverse else spline, bins=3, bound=3.0)
    assert torch.autograd.gradcheck(run, (values.requires_grad_(), raw.requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row", [0, 2])
def test_at_the_knots(dtype, row):
    """Check both sides of every knot, and the bounds: nothing jumps, and the inverse comes back."""
    bins, bound, eps = 8, 4.0, torch.finfo(dtype).eps
    raw = (2 * torch.randn(300, 3 * bins - 1, dtype=torch.float64)).to(dtype)
    run, back = (spline, unspline) if row == 0 else (unspline, spline)
    knots = rational_quadratic._knots(raw, raw[:, :1], bins, bound)[:, row, :, 0]
    for values in (*knots.split(1, 1), torch.full_like(raw[:, :1], bound)):
        below, above = values - 4 * bound * eps, values + 4 * bound * eps
        outputs = [run(near, raw, bins, bound) for near in (below, values, above)]
        assert (outputs[2][0] >= outputs[0][0]).all()
        for near, (moved, log_slope) in zip((below, values, above), outputs, strict=True):
            restored, again = back(moved, raw, bins, bound)
            error = bound * eps * 30 * (1 + torch.exp(log_slope if row else -log_slope))
            assert ((restored - near).abs() <= error).all()
            inside = near.abs() < bound - 8 * bound * eps
            torch.testing.assert_close(again[inside], log_slope[inside], rtol=0, atol=2e4 * eps)


def test_round_trips_in_float32_beside_those_of_nflows():
    """Compare the largest error at equal random parameters; with extreme ones nflows' inverse fails altogether."""
    for scale in (1.0, 3.0):
        values = torch.rand(20_000, 1) * 8 - 4
        raw = scale * torch.randn(20_000, 23)
        ours = (unspline(spline(values, raw, 8, 4.0)[0], raw, 8, 4.0)[0] - values).abs().max()
        run = partial(unconstrained_rational_quadratic_spline, tails="linear", tail_bound=4.0, **dict(zip(
            ("unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives"), raw.split([8, 8, 7], 1),
            strict=True)))
        theirs = (run(run(values[:, 0])[0], inverse=True)[0] - values[:, 0]).abs().max()
        assert ours < 2e-4 * scale**2
        assert ours < theirs
    extreme = torch.full((1, 23), torch.inf).copysign(torch.randn(1, 23))
    for raw in (1e9 * torch.randn(1000, 23), extreme.expand(1000, -1)):
        values = torch.rand(1000, 1) * 8 - 4
        outputs, log_slope = spline(values, raw, 8, 4.0)
        restored, _ = unspline(outputs, raw, 8, 4.0)
        assert (restored - values).abs().max() < 1e-2
        assert log_slope.exp().min() > 1e-4
        assert log_slope.exp().max() < 100


def test_not_a_number_stays_what_it_is():
    values, raw = case(4, count=5)
    values[2, 1] = torch.nan
    outputs, log_slope = spline(values, raw, 4, 3.0)
    assert outputs.isnan().nonzero().tolist() == [[2, 1]]
    assert torch.isfinite(log_slope).all()


def test_steps_with_any_coupling():
    net = perturb(CouplingConditioner(4, 8, num_outputs=11 * 2))
    step = glow_step(4, net, kind=partial(SplineCoupling, bins=4))
    assert isinstance(step.bijectors[2], SplineCoupling)
    check_bijector(step, torch.randn(2, 4, 4, 4))
    plain = glow_step(4, MLPConditioner(2, 4), kind=partial(AffineCoupling, affine=sigmoid_affine))
    assert plain.bijectors[2].affine is sigmoid_affine
    with pytest.raises(ValueError, match="either affine or kind"):
        glow_step(4, MLPConditioner(2, 4), affine=sigmoid_affine, kind=SplineCoupling)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: SplineCoupling(1, nn.Identity()), "SplineCoupling expects at least 2 channels"),
    (lambda: SplineCoupling(2, nn.Identity(), bins=0), "SplineCoupling expects at least 1 bin, got 0"),
    (lambda: SplineCoupling(2, nn.Identity(), bins=2.5), "SplineCoupling expects at least 1 bin, got 2.5"),
    (lambda: SplineCoupling(2, nn.Identity(), bound=-1.0), "positive, finite bound, got -1.0"),
    (lambda: SplineCoupling(2, nn.Identity(), bound=float("inf")), "positive, finite bound, got inf"),
    (lambda: SplineCoupling(2, MLPConditioner(1, 2))(torch.randn(3, 2)),
     r"SplineCoupling expects its conditioner to return \(3, 23\), got \(3, 2\); let it end in 23 channels"),
])
def test_mistakes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("plant", ["slope", "mean", "height"])
def test_planted_mistakes_are_caught(plant, monkeypatch):
    if plant == "slope":
        monkeypatch.setattr(rational_quadratic, "_log_slope", lambda piece, theta: piece.mean.log())
    else:
        find = rational_quadratic._find

        def wrong(table, values, left):
            piece = find(table, values, left)
            return piece._replace(**{plant: 1.01 * getattr(piece, plant)})

        monkeypatch.setattr(rational_quadratic, "_find", wrong)
    coupling = perturb(SplineCoupling(4, MLPConditioner(2, 23 * 2)))
    with pytest.raises(AssertionError):
        check_bijector(coupling, torch.randn(8, 4))
