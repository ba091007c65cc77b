"""Calibration: flows that are exact, and flows with a planted fault, of which each must be found and named."""

import math

import pytest
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows import Flow as NflowsFlow
from torch import nn

from condflows import ActNorm, AffineCoupling, Chain, Flow, Logit, PairedFlow, multiscale
from condflows.testing import Calibration, calibration
from condflows.testing.uniformity import central_ranks, chi_squared_tail, hotelling_test, polynomials, smooth_test


def unbounded(raw_scale, raw_shift):
    return raw_scale, raw_shift


def moments(context):
    """Return mean and deviation of the data given a context of two numbers."""
    return 2 * context.flip(1), (0.5 * context).exp()


class Offsets(nn.Module):
    """The offsets of an actnorm that turns data into standard normal noise; with faults, almost."""

    def __init__(self, spread, shift):
        super().__init__()
        self.spread, self.shift = spread, shift

    def forward(self, context):
        mean, deviation = moments(context)
        model = self.spread * deviation
        return torch.cat([-model.log(), -(mean + self.shift * deviation) / model], dim=1)


class Regression(nn.Module):
    """The net of a coupling that makes two standard normal values of this correlation independent."""

    def __init__(self, correlation):
        super().__init__()
        self.correlation = correlation

    def forward(self, first, context=None):
        left = math.sqrt(1 - self.correlation**2)
        return torch.cat([torch.full_like(first, -math.log(left)), -self.correlation / left * first], dim=1)


def normal(spread=1.0, shift=0.0, correlation=0.0):
    """Build the exact flow of ``pairs``, but for a factor of its deviations and a shift in units of them."""
    parts = [ActNorm(2, Offsets(spread, shift), unbounded), AffineCoupling(2, Regression(correlation), unbounded)]
    return Flow(Chain(parts), shape=(2,)).double()


def pairs(rows, correlation=0.0, seed=0):
    """Draw held-out data ``(rows, 2)`` and contexts."""
    generator = torch.Generator().manual_seed(seed)
    context, noise = (torch.randn(rows, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    noise[:, 1] = correlation * noise[:, 0] + math.sqrt(1 - correlation**2) * noise[:, 1]
    mean, deviation = moments(context)
    return mean + deviation * noise, context


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Sampler:
    """A model that can only be sampled, by a function of the number of rows and of samples."""

    def __init__(self, draw):
        self.draw, self.calls = draw, []

    def sample(self, num_samples, context=None):
        rows = 1 if context is None else len(context)
        self.calls.append((rows, num_samples))
        samples = self.draw(rows, num_samples)
        return samples[0] if context is None else samples


def gap_to_uniform(p_values):
    """Return the statistic of Kolmogorov's test, times the root of the number of values: 1.63 for one in a hundred."""
    ordered = p_values.sort().values
    steps = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    return float(torch.maximum(steps[1:] - ordered, ordered - steps[:-1]).max()) * math.sqrt(len(ordered))


def test_an_exact_flow_is_calibrated():
    x, context = pairs(2000, correlation=0.6)
    result = calibration(normal(correlation=0.6), x, context, generator=seeded())
    assert result.names == ("value 0", "value 1", "log_prob")
    assert result.ranks.shape == (2000, 3)
    assert not result.ranks.is_floating_point()
    assert (int(result.ranks.min()), int(result.ranks.max()), result.num_samples) == (0, 99, 99)
    assert result.verdicts == ("calibrated",) * 3
    for level in (0.1, 0.5, 0.8, 0.9):
        exact, observed, deviation = result.coverage(level)
        assert exact == pytest.approx(level)
        assert deviation.tolist() == pytest.approx([math.sqrt(level * (1 - level) / 2000)] * 3)
        assert ((observed - level).abs() < 3.5 * deviation).all()


def test_p_values_of_an_exact_flow_are_uniform():
    x, context = pairs(300 * 40, correlation=0.6)
    flow, generator = normal(correlation=0.6), seeded(1)
    p_values = torch.stack([calibration(flow, *both, num_samples=39, generator=generator).p_values
                            for both in zip(x.split(40), context.split(40), strict=True)])
    assert p_values.shape == (300, 3)
    assert max(map(gap_to_uniform, p_values.T)) < 1.63


FAULTS = {
    "over-confident": ({"spread": 0.8}, "over-confident", "over-confident"),
    "far over-confident": ({"spread": 0.05}, "over-confident", "over-confident"),
    "under-confident": ({"spread": 1.25}, "under-confident", "under-confident"),
    "far under-confident": ({"spread": 30.0}, "under-confident", "under-confident"),
    "a little biased": ({"shift": 0.3}, "biased high", "calibrated"),
    "biased high": ({"shift": 1.0}, "biased high", "over-confident"),
    "biased low": ({"shift": -1.0}, "biased low", "over-confident"),
    "far biased": ({"shift": 30.0}, "biased high", "over-confident"),
    "over-confident and a little biased": ({"shift": -0.25, "spread": 0.4}, "over-confident", "over-confident"),
    "biased and over-confident": ({"shift": -2.0, "spread": 0.5}, "biased low", "over-confident"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(fault):
    given, of_values, of_density = FAULTS[fault]
    result = calibration(normal(**given), *pairs(600), generator=seeded())
    assert result.verdicts == (of_values, of_values, of_density)


@pytest.mark.parametrize(("of_data", "of_flow", "verdict"), [
    (0.9, 0.0, "under-confident"), (0.0, 0.9, "over-confident"), (0.6, -0.6, "over-confident")])
def test_a_wrong_correlation_is_seen_by_the_log_density_alone(of_data, of_flow, verdict):
    result = calibration(normal(correlation=of_flow), *pairs(1000, correlation=of_data), generator=seeded())
    assert result.verdicts == ("calibrated", "calibrated", verdict)
    assert result.p_values[2] < 1e-6


def test_a_flow_that_ignores_the_context_is_found_among_rows_of_some_contexts_only():
    generator = seeded()
    context = torch.randn(2000, 1, generator=generator)
    x = context + torch.randn(2000, 1, generator=generator)  # of variance 2 on the whole
    flow = Flow(ActNorm(1), shape=(1,))
    nn.init.constant_(flow.transform.log_scale, -0.5 * math.log(2))
    assert calibration(flow, x, generator=generator).verdicts == ("calibrated",) * 2
    high = context[:, 0] > 0
    assert calibration(flow, x[high], generator=generator).verdicts[0] == "biased low"


def expected_coverage(below, density, outside, num_samples):
    """Integrate the probability that a rank has no less than so many ranks below and above it.

    Args:
        below: the probability of a sample below each point of a grid.
        density: the true density at each, times the width of the grid.
        outside: the numbers of ranks that the interval leaves out, at the lower and at the upper end.
        num_samples: the number of samples.
    """
    counts = torch.arange(num_samples + 1, dtype=torch.float64)[:, None]
    ranks = torch.distributions.Binomial(num_samples, below).log_prob(counts).exp()  # (ranks, grid)
    return float((ranks[outside[0]:num_samples + 1 - outside[1]].sum(0) * density).sum())


@pytest.mark.parametrize(("level", "outside", "limit"), [(0.5, 25, 0.410), (0.8, 10, 0.695), (0.9, 5, 0.812)])
def test_coverage_of_an_over_confident_flow_is_the_analytic_one(level, outside, limit):
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(grid).exp() * (grid[1] - grid[0])
    expected = expected_coverage(torch.special.ndtr(grid / 0.8), density, (outside, outside), 99)
    assert expected == pytest.approx(limit, abs=0.01)  # 2 Phi(0.8 z) - 1, of infinitely many samples
    # Of the density's regions: log p of a sample is lower where its squared radius is larger.
    squared = torch.linspace(0, 60, 60_001, dtype=torch.float64)[1:]
    density = 0.5 * (-squared / 2).exp() * 1e-3
    of_regions = expected_coverage((-squared / 1.28).exp(), density, (2 * outside, 0), 99)
    assert of_regions == pytest.approx(1 - (1 - level) ** 0.64, abs=0.01)
    _, observed, _ = calibration(normal(spread=0.8), *pairs(4000), generator=seeded()).coverage(level)
    for share, wanted in zip(observed.tolist(), [expected, expected, of_regions], strict=True):
        assert share == pytest.approx(wanted, abs=3.5 * math.sqrt(wanted * (1 - wanted) / 4000))


def test_levels_are_those_that_whole_ranks_have():
    assert central_ranks(99, 0.9) == (5, 0.9)
    assert central_ranks(30, 0.5) == (8, 15 / 31)
    ranks = torch.arange(31)[:, None]  # one of each
    result = Calibration(ranks, 30, ("value 0",))
    for level in (0.1, 0.5, 0.8, 0.9):
        exact, observed, _ = result.coverage(level)
        assert float(observed) == pytest.approx(exact)
        assert abs(exact - level) <= 1 / 31
        assert float(Calibration(ranks, 30, ("log_prob",)).coverage(level).observed) == pytest.approx(exact)
    for level in (0.0, 0.99, 1.0, 90, math.nan):
        with pytest.raises(ValueError, match="some of the 31 ranks inside"):
            result.coverage(level)
    with pytest.raises(ValueError, match=r"20 ranks inside .* got 0\.01"):
        central_ranks(19, 0.01)


def test_a_densest_region_leaves_out_low_ranks_alone():
    ranks = torch.tensor([[9, 9], [10, 10], [89, 89], [90, 90], [99, 99]])
    result = Calibration(ranks, 99, ("value 0", "log_prob"))
    assert result.coverage(0.8).observed.tolist() == [0.4, 0.6]
    assert result.coverage(0.9).observed.tolist() == [0.8, 0.8]


def test_a_pair_of_flows():
    source = Chain([ActNorm(2)])  # the identity, so that its trace is x_a
    target = Chain([ActNorm(2, Offsets(0.8, 0.0), unbounded)])
    x_b, x_a = pairs(600)
    pair = PairedFlow(Flow(source, shape=(2,)), Flow(target, shape=(2,))).double()
    assert calibration(pair, x_b, x_a, generator=seeded()).verdicts == ("over-confident",) * 3
    target.bijectors[0].conditioner.spread = 1.0
    assert calibration(pair, x_b, x_a, generator=seeded()).verdicts == ("calibrated",) * 3


def test_a_flow_of_nflows_and_one_without_a_sample_and_log_prob():
    class Own:
        def __init__(self, flow):
            self.sample, self.log_prob = flow.sample, flow.log_prob

    x, context = pairs(300)
    exact, wrong = normal(), normal(spread=0.6)
    of_nflows = NflowsFlow(wrong.transform, StandardNormal([2])).double()
    for flow, verdict in ((of_nflows, "over-confident"), (Own(wrong), "over-confident"), (Own(exact), "calibrated")):
        assert calibration(flow, x, context, generator=seeded()).verdicts == (verdict,) * 3


def test_log_densities_of_samples_are_of_their_own_contexts():
    """Compare a model's own ``sample_and_log_prob`` with ``log_prob`` at repeated contexts."""
    class Own:
        def __init__(self, flow):
            self.sample, self.log_prob = flow.sample, flow.log_prob

    flow, both = normal(), pairs(40)
    wanted = calibration(flow, *both, generator=seeded()).ranks
    assert torch.equal(calibration(Own(flow), *both, generator=seeded()).ranks, wanted)


def test_every_row_without_a_context_has_samples_of_its_own():
    model = Sampler(lambda rows, count: torch.randn(rows, count, 1))
    result = calibration(model, torch.zeros(400, 1), num_samples=19, batch_size=190)
    assert result.names == ("value 0",)
    assert model.calls == [(1, 190)] * 40
    deviation = result.ranks.double().std()  # of a sum of 19 coins; 0 if rows shared their samples
    assert float(deviation) == pytest.approx(math.sqrt(19 / 4), rel=0.15)


@pytest.mark.parametrize(("batch_size", "calls"), [
    (None, [(20, 30)]), (90, [(3, 30)] * 6 + [(2, 30)]), (30, [(1, 30)] * 20), (12, [(1, 12), (1, 12), (1, 6)] * 20)])
def test_batches_are_bounded_and_lose_no_sample(batch_size, calls):
    model = Sampler(lambda rows, count: torch.zeros(rows, count, 1))
    x = torch.tensor([1.0, -1.0]).repeat(10)[:, None]
    result = calibration(model, x, torch.zeros(20, 1), num_samples=30, batch_size=batch_size)
    assert result.ranks[:, 0].tolist() == [30, 0] * 10
    assert model.calls == calls


@pytest.mark.parametrize("batch_size", [None, 40, 7])
def test_contexts_stay_with_their_rows(batch_size):
    class Near:
        def sample(self, num_samples, context):
            noise = torch.rand(len(context["at"]), num_samples, 1) - 0.5
            return context["at"][:, None] + noise

    at = torch.arange(50.0)[:, None]
    ranks = calibration(Near(), at, {"at": at}, num_samples=39, batch_size=batch_size).ranks
    assert ((ranks > 0) & (ranks < 39)).all()


def test_ties_are_broken_at_random():
    """Round until nearly all values tie: the number of samples below alone would be far from uniform."""
    x = torch.randn(2000, 1, generator=seeded()).round()
    model = Sampler(lambda rows, count: torch.randn(rows, count, 1).round())
    result = calibration(model, x, torch.zeros(2000, 1), num_samples=19, generator=seeded(1))
    assert result.verdicts == ("calibrated",)
    assert len(result.ranks.unique()) == 20
    constant = Sampler(lambda rows, count: torch.zeros(rows, count, 1))
    result = calibration(constant, torch.zeros(2000, 1), torch.zeros(2000, 1), num_samples=19, generator=seeded())
    assert result.verdicts == ("calibrated",)
    assert result.ranks.unique().tolist() == list(range(20))


def test_data_between_two_ends_and_outside():
    flow = Flow(Logit(0.0, 1.0), shape=(1,)).double()
    x = torch.randn(300, 1, generator=seeded(), dtype=torch.float64).sigmoid()
    assert calibration(flow, x, generator=seeded(1)).verdicts == ("calibrated",) * 2
    x[:100] = 2.0  # of log-density -inf
    result = calibration(flow, x, generator=seeded())
    assert result.ranks[:100].tolist() == [[99, 0]] * 100
    assert result.verdicts == ("biased low", "over-confident")


def test_statistics_and_their_names():
    x, context = pairs(600, correlation=0.9)

    def both(values):
        return torch.stack([values.sum(1), values.diff(dim=1)[:, 0]], dim=1)

    result = calibration(normal(), x, context, statistics=both, generator=seeded())
    assert result.names == ("statistic 0", "statistic 1", "log_prob")
    assert result.verdicts[0] == "over-confident"  # whose deviation a positive correlation raises
    assert result.verdicts[1] == "under-confident"
    named = calibration(normal(), x, context, statistics=both, names=["sum", "difference"], generator=seeded())
    assert named.names == ("sum", "difference", "log_prob")
    assert torch.equal(named.ranks, result.ranks)


def images(rows, spread=1.0, seed=0):
    """Draw images of a flow that standardizes two channels of other deviations."""
    return spread * torch.tensor([1.0, 3.0]).view(2, 1, 1) * torch.randn(rows, 2, 4, 6, generator=seeded(seed))


def image_flow():
    flow = Flow(Chain([ActNorm(2), *multiscale(2, (1,), ActNorm).parts]), shape=(2, None, None))
    with torch.no_grad():
        flow.transform.bijectors[0].log_scale.copy_(-torch.tensor([1.0, 3.0]).log())
    return flow


def test_images_have_quantities_by_channel_and_pooled_values():
    x = images(300)
    result = calibration(image_flow(), x, num_samples=39, generator=seeded(1))
    assert result.names == ("mean of channel 0", "mean of channel 1", "deviation of channel 0",
                            "deviation of channel 1", "log_prob")
    assert result.value_counts.shape == (300, 2, 40)
    assert (result.value_counts.sum(2) == 24).all()
    assert {*result.verdicts, *result.value_verdicts} == {"calibrated"}
    level, observed, deviation = result.value_coverage(0.8)
    assert ((observed - level).abs() < 3.5 * deviation).all()
    # Independent pixels: the standard error over rows is the binomial one of all pixels.
    assert deviation.tolist() == pytest.approx([math.sqrt(0.16 / (300 * 24))] * 2, rel=0.15)

    result = calibration(image_flow(), images(300, 1.25), num_samples=39, generator=seeded(1))
    assert result.value_verdicts == ("over-confident",) * 2
    assert result.verdicts[2:] == ("biased low", "biased low", "over-confident")  # deviations of samples are low


class Brightness:
    """A model of images of one channel, all of whose pixels share most of their noise; exact, without a density."""

    def sample(self, num_samples, context):
        return self.draw(len(context) * num_samples).unflatten(0, (len(context), num_samples))

    def draw(self, count):
        return 0.95 * torch.randn(count, 1, 1, 1) + math.sqrt(1 - 0.95**2) * torch.randn(count, 1, 4, 4)


def test_the_error_of_pooled_coverage_is_that_over_rows():
    """Compare it with the spread over repeats, which is far larger than if pixels were independent."""
    model, context = Brightness(), torch.zeros(200, 1)
    results = [calibration(model, model.draw(200), context, num_samples=19) for _ in range(200)]
    observed, deviation = (torch.stack([getattr(result.value_coverage(0.8), name) for result in results])
                           for name in ("observed", "deviation"))
    assert results[0].names == ("mean of channel 0", "deviation of channel 0")
    spread = float(observed.std())
    assert float(deviation.mean()) == pytest.approx(spread, rel=0.15)
    assert spread > 2.5 * math.sqrt(0.16 / (200 * 16))
    assert float(observed.mean()) == pytest.approx(0.8, abs=4 * spread / math.sqrt(200))
    p_values = torch.cat([result.value_p_values for result in results])
    assert gap_to_uniform(p_values) < 1.63


def test_signals_are_pooled_and_vectors_are_not():
    signals = torch.randn(100, 2, 8, generator=seeded())
    flow = Flow(ActNorm(2), shape=(2, None))
    result = calibration(flow, signals, generator=seeded())
    assert result.value_counts.shape == (100, 2, 100)
    result = calibration(flow, signals, generator=seeded(), statistics=lambda x: x[:, :, 0])
    assert result.value_counts is None
    with pytest.raises(ValueError, match="read p_values"):
        result.value_coverage()


def test_images_of_one_pixel_have_no_deviation():
    result = calibration(Flow(ActNorm(1), shape=(1, 1, 1)), torch.randn(300, 1, 1, 1), generator=seeded())
    assert result.names == ("mean of channel 0", "deviation of channel 0", "log_prob")
    assert result.verdicts == ("calibrated",) * 3


def test_ranks_of_neither_bias_nor_spread_have_the_wrong_shape():
    ranks = torch.cat([torch.arange(10), torch.arange(35, 65), torch.arange(90, 100)]).repeat(10)[:, None]
    result = Calibration(ranks, 99, ("value 0",))
    assert result.p_values < 1e-6
    assert result.verdicts == ("wrong shape",)
    ends = torch.cat([torch.arange(20), torch.arange(80, 100)]).repeat(10)[:, None].expand(-1, 2)
    assert Calibration(ends, 99, ("value 0", "log_prob")).verdicts == ("over-confident", "wrong shape")


def test_a_generator_decides_all_and_leaves_the_global_one():
    both, flow = pairs(30), normal()
    before = torch.get_rng_state()
    first = calibration(flow, *both, generator=seeded(3)).ranks
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(calibration(flow, *both, generator=seeded(3)).ranks, first)
    assert not torch.equal(calibration(flow, *both, generator=seeded(4)).ranks, first)
    without = calibration(flow, *both).ranks
    torch.set_rng_state(before)
    assert torch.equal(calibration(flow, *both).ranks, without)


class Dropping(Offsets):
    """Offsets that are wrong in training mode."""

    def forward(self, context):
        return super().forward(context) + (100 if self.training else 0)


def test_runs_in_eval_mode_without_gradients_and_restores_all():
    flow = normal()
    flow.transform.bijectors[0].conditioner = Dropping(1.0, 0.0)
    flow.train()
    flow.transform.bijectors[1].eval()  # not all parts need be in one mode
    modes = [module.training for module in flow.modules()]
    flow.transform.bijectors[0].shift.grad = torch.ones(2, dtype=torch.float64)
    x, context = pairs(100)
    graded = []

    def same(values):
        graded.append(values.requires_grad and torch.is_grad_enabled())
        return values

    result = calibration(flow, x.requires_grad_(), context, statistics=same, generator=seeded())
    assert not any(graded)
    assert result.verdicts == ("calibrated",) * 3
    assert [module.training for module in flow.modules()] == modes
    assert torch.is_grad_enabled()
    assert x.grad is None
    assert flow.transform.bijectors[0].shift.grad.tolist() == [1.0, 1.0]
    assert not result.coverage().observed.requires_grad

    def fails(values):
        raise KeyError

    with pytest.raises(KeyError):
        calibration(flow, x, context, statistics=fails)
    flow.sample_and_log_prob = lambda *given, **named: (torch.full((100, 99, 2), math.nan), None)
    with pytest.raises(ValueError, match="finite samples, got 19800 NaN"):
        calibration(flow, x, context)
    assert [module.training for module in flow.modules()] == modes


def test_the_table():
    text = str(calibration(normal(spread=0.6), *pairs(500), generator=seeded())).splitlines()
    assert text[0] == "500 rows, 99 samples each"
    assert text[1].split() == ["quantity", "p-value", "50", "%", "80", "%", "90", "%", "verdict"]
    assert [line.split()[0] for line in text[2:]] == ["value", "value", "log_prob"]
    assert all(line.endswith("over-confident") and line.count(" ± ") == 3 for line in text[2:])
    assert "<1e-12" in text[4]
    assert "± 0.013" in text[4]  # the root of 0.9 * 0.1 / 500
    assert len({line.rindex("±") for line in text[2:]}) == 1
    pooled = str(calibration(image_flow(), images(100), generator=seeded())).splitlines()
    assert [line.split("  ")[0] for line in pooled[-2:]] == ["values of channel 0", "values of channel 1"]


def test_a_long_table_shows_the_smallest_p_values():
    ranks = torch.randint(100, (400, 30), generator=seeded())
    ranks[:, 20] = ranks[:, 20] // 2
    result = Calibration(ranks, 99, tuple(f"value {i}" for i in range(30)))
    text = str(result).splitlines()
    assert text[2].startswith("value 20")
    assert text[2].endswith("biased high")
    assert text[-1] == "and 14 more with larger p-values"
    assert len(text) == 2 + 16 + 1
    assert result.summary == "value 20 biased high (p <1e-12): 1 of 30 quantities of 400 rows"


def test_the_summary():
    assert calibration(normal(), *pairs(200), generator=seeded()).summary == "no deviation in 3 quantities of 200 rows"
    four = Calibration(torch.zeros(200, 4, dtype=torch.long), 99, ("a", "b", "c", "d"))
    assert four.summary == ("a biased high (p <1e-12), b biased high (p <1e-12), c biased high (p <1e-12), ...: "
                            "4 of 4 quantities of 200 rows")


@pytest.mark.parametrize("num_samples", [19, 99])
def test_polynomials_are_orthonormal(num_samples):
    values = polynomials(num_samples, 6)
    assert values.shape == (num_samples + 1, 6)
    assert torch.allclose(values.mean(0), torch.zeros(6).double(), atol=1e-12)
    assert torch.allclose(values.T @ values / (num_samples + 1), torch.eye(6).double(), atol=1e-12)
    line = torch.arange(num_samples + 1).double() - num_samples / 2
    assert torch.allclose(values[:, 0], line / line.std(correction=0))


def test_all_components_together_are_pearsons_statistic():
    """Decompose the chi-squared statistic of a histogram of ranks, as Jolliffe and Primo did (2008)."""
    ranks = torch.randint(20, (500, 1), generator=seeded())
    scores = smooth_test(ranks, 19, degree=19)[2]
    histogram = torch.bincount(ranks[:, 0], minlength=20).double()
    assert float(scores.square().sum()) == pytest.approx(float(((histogram - 25) ** 2 / 25).sum()))


@pytest.mark.parametrize("rows", [20, 200])
@pytest.mark.parametrize("num_samples", [19, 99])
def test_p_values_of_uniform_ranks_are_uniform(rows, num_samples):
    p_values = smooth_test(torch.randint(num_samples + 1, (rows, 4000), generator=seeded()), num_samples)[0]
    assert gap_to_uniform(p_values) < 1.63
    for level in (0.1, 0.05, 0.01):
        assert float((p_values < level).double().mean()) == pytest.approx(level, abs=3.5 * math.sqrt(level / 4000))


def test_p_values_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = torch.tensor([0.0, 1.0, 9.49, 80.0], dtype=torch.float64)
    for degrees in (2, 4, 6):
        assert chi_squared_tail(values, degrees).tolist() == pytest.approx(stats.chi2.sf(values, degrees).tolist())
    features = torch.randn(50, 3, 2, generator=seeded(), dtype=torch.float64) + 0.2
    p_values = hotelling_test(features)[0]
    for i, p_value in enumerate(p_values.tolist()):
        mean, covariance = features[:, i].mean(0), features[:, i].T.cov()
        squared = float(50 * mean @ covariance.inverse() @ mean)
        assert p_value == pytest.approx(stats.f.sf(squared * 48 / (2 * 49), 2, 48))
    ranks = torch.randint(100, (1000, 1), generator=seeded())
    p_value = float(Calibration(ranks, 99, ("value 0",)).p_values)
    unit = (ranks[:, 0].double() + 0.5) / 100
    scores = sum((math.sqrt(2 * k + 1) * torch.special.legendre_polynomial_p(2 * unit - 1, k).mean()) ** 2
                 for k in range(1, 5))  # the same test of continuous values
    assert p_value == pytest.approx(stats.chi2.sf(1000 * float(scores), 4), rel=0.05)


def test_features_that_are_the_same_in_all_rows():
    same = torch.stack([torch.zeros(20, 2), torch.ones(20, 2)], dim=1).double()
    assert hotelling_test(same)[0].tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.filterwarnings("ignore:a context was passed to a Flow in which nothing reads it")
def test_the_inputs_decide_the_size_of_samples():
    """Give a context of another size than the images, which an open shape would follow."""
    flow = image_flow()
    result = calibration(flow, images(20), torch.zeros(20, 1, 8, 8), num_samples=19)
    assert (result.value_counts.sum(2) == 24).all()


X, C = pairs(20)
MISTAKES = {
    "no flow": (lambda: calibration(nn.Linear(2, 2), X), TypeError, "got Linear; wrap it"),
    "integers": (lambda: calibration(normal(), X.long(), C), TypeError, "floating-point inputs"),
    "another dtype": (lambda: calibration(normal(), X.float(), C.float()), TypeError, "torch.float64 on cpu"),
    "too few samples": (lambda: calibration(normal(), X, C, 18), ValueError, "at least 19 samples .* got 18"),
    "too few rows": (lambda: calibration(normal(), X[:19], C[:19]), ValueError, "at least 20 held-out rows, got 19"),
    "rows of a context": (lambda: calibration(normal(), X, C[:19]), ValueError, "batch size 20 .* got shape"),
    "NaN": (lambda: calibration(normal(), X * math.nan, C), ValueError, "finite inputs, got 40 NaN"),
    "an infinite context": (lambda: calibration(normal(), X, C / 0), ValueError, "finite context, got 40"),
    "no samples at a time": (lambda: calibration(normal(), X, C, batch_size=0), ValueError, "as batch_size, got 0"),
    "one statistic without a dimension": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x[:, 0]), ValueError, r"\(2, K\) .* got shape \(2,\)"),
    "a statistic of all rows": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x[:1]), ValueError, r"got shape \(1, 2\)"),
    "no statistics": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x[:, :0]), ValueError, r"got shape \(2, 0\)"),
    "a statistic that is no tensor": (
        lambda: calibration(normal(), X, C, statistics=lambda x: 1.0), ValueError, "got float; return a row"),
    "a statistic that is not finite": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x / 0), ValueError, "finite statistics"),
    "names of nothing": (lambda: calibration(normal(), X, C, names=["a", "b"]), ValueError, "for 0; pass as many"),
    "too few names": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x, names=["a"]), ValueError, "for 2; pass as many"),
    "the same names": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x, names="aa"), ValueError, "for 2; pass as many"),
    "the name of the log-density": (
        lambda: calibration(normal(), X, C, statistics=lambda x: x, names=["a", "log_prob"]), ValueError, "other than"),
    "samples of another shape": (
        lambda: calibration(Sampler(lambda rows, count: torch.zeros(rows, count, 3)), X, C), ValueError,
        r"samples of shape \(20, 99, 2\), got \(20, 99, 3\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    run, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        run()


def test_a_log_density_of_nan_is_refused():
    flow = normal()
    flow.log_prob = lambda x, context: torch.where(x[:, 0] > 0, math.nan, 0.0)
    with pytest.raises(ValueError, match=f"got NaN for {int((X[:, 0] > 0).sum())} of 20 values"):
        calibration(flow, X, C)
