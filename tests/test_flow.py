"""Distributions: densities, samples and pairs."""

import copy
import math
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow as NFlow
from nflows.transforms.base import CompositeTransform
from nflows.transforms.standard import IdentityTransform
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import condflows
from condflows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Flow,
    Inverse,
    LUConv1x1,
    PairedFlow,
    Split,
    Squeeze,
    Trace,
    glow_step,
    multiscale,
)
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner, MLPConditioner
from condflows.testing import perturb
from models.full_glow import full_glow


@pytest.fixture
def pair():
    return perturb(full_glow(3, (1, 1), 8, context_width=4), 0.05)


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 12), torch.rand(2, 3, 8, 12)


def vector_flow():
    return perturb(Flow(Chain([ActNorm(2, MLPConditioner(3, 4)), LUConv1x1(2)]), shape=(2,)))


# --- Flow -----------------------------------------------------------------------------------------------------------


def test_log_prob_is_that_of_the_gaussian_it_is():
    convolution = perturb(LUConv1x1(3), 0.3)
    matrix = convolution(torch.eye(3))[0].T.detach()
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(3), precision_matrix=matrix.T @ matrix)
    x = torch.randn(5, 3)
    torch.testing.assert_close(Flow(convolution).log_prob(x), gaussian.log_prob(x))
    torch.testing.assert_close(Flow(convolution)(x), gaussian.log_prob(x))


def test_is_an_nflows_flow_and_agrees_with_it():
    flow, context = vector_flow(), torch.randn(5, 3)
    assert isinstance(flow, NFlow)
    theirs = NFlow(flow.transform, StandardNormal([2]))
    x = torch.randn(5, 2)
    torch.testing.assert_close(flow.log_prob(x, context), theirs.log_prob(x, context), check_dtype=False)
    assert torch.equal(flow(x, context), flow.log_prob(x, context))
    assert theirs.sample(4, context).shape == flow.sample(4, context).shape == (5, 4, 2)


def test_samples_follow_the_density():
    flow = vector_flow()
    context = torch.randn(1, 3).expand(2, 3)
    samples, log_prob = flow.sample_and_log_prob(20_000, context)
    assert samples.shape == (2, 20_000, 2)
    assert log_prob.shape == (2, 20_000)
    torch.testing.assert_close(log_prob[1], flow.log_prob(samples[1], context[:1].expand(20_000, 3)))
    # The entropy of a linear map of noise: that of the noise minus the log-determinant.
    logabsdet = flow.transform(samples[:, 0], context)[1][0]
    entropy = 1 + math.log(2 * math.pi) - logabsdet
    assert (log_prob.mean() + entropy).abs().item() < 0.03


def test_shapes_of_samples():
    flow = Flow(ActNorm(2), shape=(2,))
    assert flow.sample(3).shape == (3, 2)
    assert flow.sample(3, torch.randn(4, 9)).shape == (4, 3, 2)
    samples, log_prob = flow.sample_and_log_prob(3)
    assert samples.shape == (3, 2)
    assert log_prob.shape == (3,)


def test_samples_belong_to_their_context():
    flow, context = vector_flow(), torch.randn(3, 3)
    together = flow.sample(2, context, temperature=0)
    for i in range(3):
        torch.testing.assert_close(together[i, 1], flow.sample(1, context[i : i + 1], temperature=0)[0, 0])
    assert not torch.allclose(together[0], together[1])


def test_temperature():
    flow = Flow(ActNorm(1), shape=(1,))
    zero = flow.sample(100, temperature=0)
    assert torch.equal(zero, flow.sample(100, temperature=0.0))
    assert not zero.any()
    for temperature in (0.5, 1, 3):
        samples = flow.sample(20_000, temperature=temperature).detach()
        assert abs(samples.std().item() / temperature - 1) < 0.05
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite temperature of at least 0"):
            flow.sample(1, temperature=bad)


def test_temperatures_of_single_values():
    flow = Flow(ActNorm(3, GlobalConditioner(1, 6)), shape=(3, 4, 6))
    flow = perturb(flow)
    context, temperature = torch.rand(2, 1, 4, 6), torch.rand(3, 1, 6, dtype=torch.float64)
    plain = flow.sample(5, context, 1.0, torch.Generator().manual_seed(0))
    noise = flow.transform_to_noise(plain.flatten(0, 1), context.repeat_interleave(5, 0))
    want = flow.transform_from_noise(noise * temperature.float(), context.repeat_interleave(5, 0))
    samples, log_prob = flow.sample_and_log_prob(5, context, temperature, torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.flatten(0, 1), want)
    torch.testing.assert_close(log_prob.flatten(), flow.log_prob(want, context.repeat_interleave(5, 0)))
    same = flow.sample(5, context, torch.full((3, 4, 6), 0.7), torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, flow.sample(5, context, 0.7, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("temperature", "message"), [
    (torch.ones(2), r"broadcasts to a sample's shape \(3, 4, 6\), got shape \(2,\)"),
    (torch.ones(1, 3, 4, 6), r"got shape \(1, 3, 4, 6\)"),
    (torch.ones(0), r"got shape \(0,\)"),
    (torch.tensor([1, 1, 1, 1, 1, -1.0]), "finite temperatures of at least 0, got some from -1 to 1"),
    (torch.tensor([1, 1, 1, 1, 1, math.inf]), "got some from 1 to inf"),
])
def test_other_temperatures_of_single_values_are_refused(temperature, message):
    with pytest.raises(ValueError, match=message):
        Flow(ActNorm(3), shape=(3, 4, 6)).sample(2, temperature=temperature)


@pytest.mark.parametrize(("channels", "size", "factor"), [(3, (8, 16), 2), (1, (8,), 2), (2, (9, 9), 3), (8, (), 2)])
def test_values_by_level_are_where_the_levels_end(channels, size, factor):
    """Find the noise of each level by where it does not depend on what coarser levels do."""
    values = (1.2, 0.9, 0.8)[:2 if factor == 3 else 3]
    laid = condflows.by_level(values, (channels, *size), factor)
    assert laid.shape == (channels, *size)
    inputs, before = torch.randn(1, channels, *size), None
    for levels in range(len(values), 0, -1):  # the steps of a level change what has not ended before it
        steps = [int(level == levels - 1) for level in range(len(values))]
        flow = condflows.multiscale(channels, steps, lambda c: perturb(ActNorm(c), 1.0), factor=factor,
                                    spatial_dims=len(size))
        plain = condflows.multiscale(channels, [0] * len(values), ActNorm, factor=factor, spatial_dims=len(size))
        changed = flow(inputs)[0] != plain(inputs)[0]
        reached = changed[0] if before is None else changed[0] & ~before
        assert (laid[reached] == torch.tensor(values[levels - 1])).all()
        assert reached.any()
        before = changed[0]
    assert before.all()


@pytest.mark.parametrize("values", [torch.tensor(0.5), "12", 0.5, []])
def test_values_by_level_are_several_numbers(values):
    with pytest.raises(ValueError, match="by_level expects a value for each level"):
        condflows.by_level(values, (3, 8, 8))


def test_values_by_level_of_a_shape_of_another_library():
    laid = condflows.by_level(torch.tensor([0.5, 0.8]), np.array([3, 8, 8]))
    assert torch.equal(laid, condflows.by_level((0.5, 0.8), (3, 8, 8)))


def test_a_generator_makes_samples_reproducible():
    flow = Flow(ActNorm(2), shape=(2,))
    draws = [flow.sample(4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    before = torch.random.get_rng_state()
    flow.sample(4, generator=torch.Generator())
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_temperature_is_one_unless_given(pair, images):
    flow = Flow(ActNorm(2), shape=(2,))
    for model, context in ((flow, None), (pair, images[0])):
        want = model.sample(2, context, 1.0, torch.Generator().manual_seed(1))
        for sample in (model.sample, lambda *args, m=model, **kwargs: m.sample_and_log_prob(*args, **kwargs)[0]):
            assert torch.equal(sample(2, context, generator=torch.Generator().manual_seed(1)), want)


def test_float64_models_sample_float64():
    flow = vector_flow().double()
    samples, log_prob = flow.sample_and_log_prob(3, torch.randn(2, 3, dtype=torch.float64))
    assert samples.dtype == log_prob.dtype == torch.float64
    noise = flow.transform_to_noise(samples[:, 0], torch.zeros(2, 3, dtype=torch.float64))
    restored = flow.transform_from_noise(noise, torch.zeros(2, 3, dtype=torch.float64))
    assert (restored - samples[:, 0]).abs().max() < 1e-12
    without_parameters = Flow(Chain([]), (2,))
    assert without_parameters.sample(3, torch.randn(2, 3, dtype=torch.float64)).dtype == torch.float64
    assert without_parameters.sample(3).dtype == torch.float32
    assert without_parameters.log_prob(torch.zeros(3, 2, dtype=torch.float64)).dtype == torch.float64


def test_noise_is_on_the_models_device():
    flow = Flow(ActNorm(2), shape=(2,)).to("meta")
    assert flow.sample(3).device.type == "meta"
    generator = torch.Generator().manual_seed(0)
    assert flow.sample(3, generator=generator).device.type == "meta"
    drawn = torch.Generator().manual_seed(0)
    torch.randn(3, 2, generator=drawn)
    assert torch.equal(generator.get_state(), drawn.get_state())  # drawn where the generator is


def conditional_glow(**options):
    """Build two levels of which every operation reads the condition except the prior."""
    def step(c):
        return glow_step(c, CouplingConditioner(c, 8, context_channels=2), GlobalConditioner(2, 2 * c),
                         GlobalConditioner(2, 2 * c * c + c), **options)

    return perturb(multiscale(3, (2, 1), step, lambda c: AffineCoupling(c, ConvConditioner(c))))


class Shifted(Bijector):
    """A user's own bijector, which reads the context with a row for each input."""

    def forward(self, inputs, context=None):
        return inputs + context.mean((1, 2, 3)).view(-1, 1, 1, 1), inputs.new_zeros(len(inputs))

    def inverse(self, inputs, context=None):
        return inputs - context.mean((1, 2, 3)).view(-1, 1, 1, 1), inputs.new_zeros(len(inputs))


class UsersConditioner(nn.Module):
    """A user's own net of a coupling, which expects a context for each input."""

    def forward(self, inputs, context):
        return torch.cat([inputs, inputs + context.mean((1, 2, 3)).view(-1, 1, 1, 1)], dim=1)


@pytest.mark.parametrize("build", [
    conditional_glow,
    lambda: conditional_glow(checkpoint=True),
    lambda: Chain([Shifted(), conditional_glow(), CompositeTransform([ActNorm(3, GlobalConditioner(2, 6))])]),
    lambda: Chain([Squeeze(), AffineCoupling(12, UsersConditioner()), Inverse(Squeeze())]),
], ids=["conditional", "checkpointed", "users' bijectors and nflows", "users' conditioner"])
def test_samples_of_one_condition_share_its_work_and_stay_the_same(build):
    flow, context = Flow(build(), (3, 8, 8)), torch.randn(2, 2, 8, 8)
    with_gradients = flow.sample_and_log_prob(3, context, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shared = flow.sample_and_log_prob(3, context, generator=torch.Generator().manual_seed(0))
    for got, want in zip(shared, with_gradients, strict=True):
        torch.testing.assert_close(got, want.detach(), rtol=1e-5, atol=1e-5)
    for i in range(2):  # the samples of a condition are its own
        alone = torch.stack([flow.transform_to_noise(x[None], context[i:i + 1])[0] for x in shared[0][i]])
        noise = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)).unflatten(0, (2, 3))
        torch.testing.assert_close(alone, noise[i], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_coupling_that_is_used_at_two_resolutions_encodes_its_condition_for_each():
    coupling = perturb(AffineCoupling(8, CouplingConditioner(8, 8, context_channels=2)))
    flow = Flow(Chain([coupling, Split(Chain([Squeeze(), Split(coupling), Inverse(Squeeze())]))]), (8, 8, 8))
    context = torch.randn(2, 2, 8, 8)
    samples, log_prob = flow.sample_and_log_prob(3, context)
    again = flow.log_prob(samples.flatten(0, 1), context.repeat_interleave(3, 0))
    torch.testing.assert_close(again, log_prob.flatten(), rtol=1e-4, atol=1e-3)


class Solved(TorchDispatchMode):
    """A record of the batch sizes of triangular solves, and of the rows that each convolution reads."""

    def __init__(self):
        super().__init__()
        self.solved, self.convolved = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.linalg_solve_triangular:
            self.solved.append(args[0].shape[0])
        if func.overloadpacket is torch.ops.aten.convolution:
            self.convolved.append(len(args[0]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("gradients", [False, True])
def test_conditioners_and_inverses_are_made_once_for_a_condition(gradients):
    with torch.set_grad_enabled(gradients):
        check_what_is_made_once()


def check_what_is_made_once():
    flow, context = Flow(conditional_glow(), (3, 8, 8)), torch.randn(2, 2, 8, 8)
    with Solved() as few:
        flow.sample(2, context)
    with Solved() as many:
        flow.sample(7, context)
    assert few.solved == many.solved == [2] * len(few.solved)  # two factors of each condition's matrix, three steps
    assert len(few.solved) == 6
    assert sorted(few.convolved)[:24] == [2] * 24  # two nets of three convolutions and an encoder of two, three steps
    assert [n for n in few.convolved if n != 2] == [4] * 10  # the couplings' nets, and the prior
    assert [n for n in many.convolved if n != 2] == [14] * 10
    with Solved() as parts:  # three samples of each condition at a time, then one
        flow.sample(7, context, batch_size=3)
    assert parts.solved == 3 * few.solved
    assert sorted(parts.convolved)[3 * 24:] == [2] * 10 + [6] * 20


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("conditional", [False, True])
def test_samples_do_not_depend_on_how_many_are_made_at_a_time(batch_size, conditional):
    context = torch.randn(2, 2, 8, 8) if conditional else None
    plain = perturb(multiscale(3, (2,), lambda c: glow_step(c, CouplingConditioner(c, 8))))
    flow = Flow(conditional_glow() if conditional else plain, (3, 8, 8))
    want = flow.sample_and_log_prob(7, context, 0.5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = flow.sample_and_log_prob(7, context, 0.5, torch.Generator().manual_seed(0), batch_size)
    for parts, whole in zip(got, want, strict=True):
        assert parts.shape == whole.shape
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_open_shapes_take_the_size_of_an_image_context(temperature):
    def step(c):
        return Chain([ActNorm(c, GlobalConditioner(2, 2 * c)), AffineCoupling(c, CouplingConditioner(c, 8, 2))])

    for shape in (None, (3, None, None), (3, 8, None)):
        flow = Flow(multiscale(3, (1, 1), step), shape)
        assert flow.sample(2, torch.randn(4, 2, 8, 12), temperature).shape == (4, 2, 3, 8, 12)
    flow = Flow(multiscale(3, (1,), lambda c: ActNorm(c), spatial_dims=3))
    assert flow.sample(2, torch.randn(4, 5, 2, 4, 6), temperature).shape == (4, 2, 3, 2, 4, 6)
    assert Flow(ActNorm(3), (3, None)).sample(2, torch.randn(4, 5, 7), temperature).shape == (4, 2, 3, 7)


@pytest.mark.parametrize("spatial_dims", [0, 1, 2, 3])
def test_a_multiscale_flow_knows_the_shape_of_its_data(spatial_dims):
    bijector = multiscale(6, (1, 1), ActNorm, spatial_dims=spatial_dims)
    assert bijector.data_shape == (6, *(None,) * spatial_dims)
    for flow in (Flow(bijector), copy.deepcopy(Flow(bijector)), PairedFlow(bijector, bijector).target):
        assert flow.shape == (6, *(None,) * spatial_dims)
        size = (8, 4, 12)[:spatial_dims]
        assert flow.sample(2, size=size).shape == (2, 6, *size)
    with pytest.raises(ValueError, match=r"Flow expects inputs of shape \(batch, 6"):
        flow.log_prob(torch.randn(2, 5, *size))
    assert Flow(bijector, (6, *size)).shape == (6, *size)
    assert Flow(Chain([bijector])).shape is None


@pytest.mark.parametrize(("shape", "size", "want"), [
    ((3, None, None), (8, 12), (3, 8, 12)),
    ((3, None, None), torch.Size([4, 4]), (3, 4, 4)),
    ((3, 8, None), (8, 4), (3, 8, 4)),
    ((3, 8, 8), (8, 8), (3, 8, 8)),
    ((3, None), [7], (3, 7)),
    ((3,), (), (3,)),
])
def test_samples_of_a_given_size(shape, size, want):
    flow = Flow(ActNorm(3), shape)
    assert flow.sample(2, size=size).shape == (2, *want)
    assert flow.sample_and_log_prob(2, torch.randn(4, 5, 2, 2), size=size)[0].shape == (4, 2, *want)
    pair = PairedFlow(ActNorm(3), flow)
    x_a = torch.randn(4, 3, *(2,) * len(size))
    assert pair.sample(2, x_a, size=size).shape == pair.sample_and_log_prob(2, x_a, size=size)[0].shape == (4, 2, *want)


@pytest.mark.parametrize("size", [(8,), (8, 12, 1), 8, (0, 4), (8.5, 4), (8, None), (4, True)], ids=str)
def test_sizes_that_do_not_fit_an_open_shape(size):
    with pytest.raises(ValueError, match="whole number for each spatial dimension"):
        Flow(ActNorm(3), (3, None, None)).sample(1, size=size)


def test_a_size_that_differs_from_the_shape():
    with pytest.raises(ValueError, match="whole number for each spatial dimension"):
        Flow(ActNorm(3), (3, 8, None)).sample(1, size=(9, 12))


def test_a_size_is_never_guessed():
    """Refuse to guess the number of dimensions of a vector, or one of several sizes of images."""
    vectors = Flow(Chain([LUConv1x1(10, GlobalConditioner(1, 210))]))
    with pytest.raises(ValueError, match=r"shape=\(C,\) for vectors"):
        vectors.sample(3, torch.randn(4, 1, 28, 28))
    images = Flow(Chain([ActNorm(3), ActNorm(3)]), (3, None, None))
    small, large, sequence = torch.randn(4, 5, 2, 2), torch.randn(4, 5, 8, 12), torch.randn(4, 5, 9)
    for several in ((large, small), {"fine": large, "coarse": [small, torch.randn(4, 1)]}):
        with pytest.raises(ValueError, match=r"\(8, 12\), \(2, 2\) as context; pass size="):
            images.sample(2, several)
        assert images.sample(2, several, size=(6, 4)).shape == (4, 2, 3, 6, 4)
    for one in ((torch.randn(4, 1), large, torch.randn(4, 7, 8, 12)), (sequence, large), Trace([small, large])):
        assert images.sample(2, one).shape == (4, 2, 3, 8, 12)


def test_a_pair_whose_source_is_smaller_than_its_target():
    def step(c):
        return Chain([AffineCoupling(c, CouplingConditioner(c, 8, c))])

    pair = perturb(PairedFlow(multiscale(3, (1,), lambda c: Chain([ActNorm(c)])), multiscale(3, (1,), step)))
    x_a, x_b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
    assert pair.log_probs(x_a=x_a, x_b=x_b)[1].shape == (2,)
    samples, log_prob = pair.sample_and_log_prob(4, x_a, size=(32, 32))
    assert samples.shape == (2, 4, 3, 32, 32)
    torch.testing.assert_close(log_prob[:, 1], pair.log_prob(samples[:, 1], x_a), rtol=1e-4, atol=1e-2)


def test_structured_contexts():
    class Weather(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = MLPConditioner(3, 4)

        def forward(self, context):
            wind, rest = context["wind"], context["rest"]
            return self.net(torch.cat([wind, *rest], 1))

    flow = perturb(Flow(Chain([ActNorm(2, Weather())]), (2,)), 0.5)
    context = {"wind": torch.randn(4, 1), "rest": (torch.randn(4, 1), torch.randn(4, 1))}
    assert flow.sample(3, context).shape == (4, 3, 2)
    assert flow.log_prob(torch.randn(4, 2), context).shape == (4,)

    class Pair(NamedTuple):
        wind: torch.Tensor
        rest: torch.Tensor

    class ReadsPair(MLPConditioner):
        def forward(self, inputs, context=None):
            return super().forward(inputs.wind + inputs.rest)

    flow = perturb(Flow(Chain([ActNorm(2, ReadsPair(3, 4))]), (2,)), 0.5)
    assert flow.sample(2, Pair(torch.randn(4, 3), torch.randn(4, 3))).shape == (4, 2, 2)
    trace = Trace([torch.randn(4, 3)])
    flow = perturb(Flow(Chain([ActNorm(2, MLPConditioner(3, 4))]), (2,)), 0.5)
    one = flow.sample(2, trace, temperature=0)
    assert torch.equal(one, flow.sample(2, trace[0], temperature=0))


def test_batches_and_single_inputs_agree():
    flow = full_glow(3, (2, 2), 16, context_width=8)
    x_a, x_b = torch.rand(5, 3, 16, 16), torch.rand(5, 3, 16, 16)
    condflows.initialize(flow, x_b, x_a)
    together = flow.log_prob(x_b, x_a)
    alone = torch.cat([flow.log_prob(x_b[i : i + 1], x_a[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=0)


# --- PairedFlow -----------------------------------------------------------------------------------------------------


def test_paired_flow_is_source_and_target(pair, images):
    x_a, x_b = images
    log_p_a, log_p_b = pair(x_a=x_a, x_b=x_b)
    _, _, trace = pair.source.transform.forward_with_trace(x_a)
    torch.testing.assert_close(log_p_a, pair.source.log_prob(x_a))
    torch.testing.assert_close(log_p_b, pair.target.log_prob(x_b, trace))
    torch.testing.assert_close(log_p_b, pair.log_prob(x_b, context=x_a))
    assert all(torch.equal(a, b) for a, b in zip(pair.log_probs(x_a=x_a, x_b=x_b), (log_p_a, log_p_b), strict=True))


@pytest.mark.parametrize("call", ["forward", "log_probs"])
def test_images_by_position_are_easily_swapped_and_get_a_warning(pair, images, call):
    x_a, x_b = images
    run = pair if call == "forward" else pair.log_probs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        want = run(x_b=x_b, x_a=x_a)
        torch.testing.assert_close(want[1], pair.log_prob(x_b, context=x_a))
    with pytest.warns(FutureWarning, match=r"pass them by name: pair\(x_a=\.\.\., x_b=\.\.\.\)") as caught:
        got = run(x_a, x_b)
    assert all(map(torch.equal, got, want))
    assert call == "forward" or caught[0].filename == __file__
    with pytest.raises(TypeError, match="x_b"):
        run(x_a=x_a)


def test_paired_flow_depends_on_its_condition(pair, images):
    x_a, x_b = images
    assert not torch.allclose(pair.log_prob(x_b, x_a), pair.log_prob(x_b, 1 - x_a))
    first, second = pair.sample(1, x_a, temperature=0), pair.sample(1, 1 - x_a, temperature=0)
    assert not torch.allclose(first, second)


def test_paired_flow_samples(pair, images):
    x_a, _ = images
    samples, log_prob = pair.sample_and_log_prob(3, x_a, 0.7, torch.Generator().manual_seed(1))
    assert samples.shape == (2, 3, 3, 8, 12)
    assert torch.equal(samples, pair.sample(3, x_a, 0.7, torch.Generator().manual_seed(1)))
    for i in range(3):
        torch.testing.assert_close(log_prob[:, i], pair.log_prob(samples[:, i], x_a), rtol=1e-4, atol=1e-2)
    cold = pair.sample(2, x_a, temperature=0)
    assert torch.equal(cold, pair.sample(2, x_a, temperature=0))
    assert torch.equal(cold[:, 0], cold[:, 1])
    assert pair.source.sample(2, torch.zeros(1, 1, 8, 12)).shape == (1, 2, 3, 8, 12)


def test_the_source_reads_each_condition_once(pair, images):
    rows = []
    pair.source.transform.bijectors[1].bijectors[0].register_forward_hook(lambda m, a, r: rows.append(len(a[0])))
    pair.sample(5, images[0])
    assert rows == [2]


def vector_step(context=0, checkpoint=False, last=None):
    """Build a step of four channels, which reads entries of ``context`` channels, or nothing if that is 0."""
    actnorm, coupling = (MLPConditioner(context, 8, hidden=(5,)), MLPConditioner(2, 4, context)) if context else (
        None, MLPConditioner(2, 4))
    parts = [ActNorm(4, actnorm), LUConv1x1(4), AffineCoupling(4, coupling)]
    return Chain([*parts, last] if last else parts, checkpoint)


def vector_group(context=0):
    return Chain([vector_step(context, True), vector_step(context, True)], checkpoint=True)


@pytest.mark.parametrize("side", [None, torch.randn(3, 2, dtype=torch.float64)], ids=["alone", "side"])
@pytest.mark.parametrize("build", [
    lambda c: Chain([vector_step(c), Split(LUConv1x1(2)), Split(Chain([ActNorm(2)]), prior=vector_step(c))]),
    lambda c: Chain([vector_step(c, True), Split(Chain([ActNorm(2)]), prior=vector_step(c, True))]),
    lambda c: Chain([vector_group(c), vector_step(c, True), vector_group(c)]),
    lambda c: Chain([vector_step(c), vector_step(c)], checkpoint=True),
    lambda c: vector_step(c, True, Chain([LUConv1x1(4), ActNorm(4)])),
    lambda c: vector_step(c, True, IdentityTransform()),
    lambda c: vector_step(c, checkpoint=c == 0),
    lambda c: vector_step(c, checkpoint=c > 0),
    lambda c: Inverse(vector_step(c, True)),
    lambda c: Chain([Chain([], checkpoint=True), vector_step(c)]),
], ids=["plain", "steps", "groups", "whole", "nested", "nflows", "source", "target", "inverse", "empty"])
def test_both_densities_together_are_those_of_each(build, side):
    pair = perturb(PairedFlow(build(0), build(4 if side is None else 6))).double()
    inputs = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    together = pair.log_probs(*inputs, side)
    each = pair.source.log_prob(inputs[0]), pair.log_prob(inputs[1], inputs[0] if side is None else (inputs[0], side))
    torch.testing.assert_close(together, each, rtol=1e-12, atol=1e-12)
    leaves = [*inputs, *pair.parameters()]
    gradients = [torch.autograd.grad(sum(densities).sum(), leaves) for densities in (together, each)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(pair.log_probs(*inputs, side), each, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("group", "most"), [(1, 2.3), (4, 0.7)])
def test_checkpoints_of_a_pair_keep_inputs_and_no_trace(group, most):
    x = torch.rand(1, 4, 64, 64)

    def step(context):
        step = glow_step(4, CouplingConditioner(4, 4, context, context_width=4), checkpoint=True)
        return step if group == 1 else Chain([step, *(copy.deepcopy(step) for _ in range(group - 1))], checkpoint=True)

    def kept(steps):
        """Measure the memory that a pair's densities keep for the backward pass, in units of the images' size."""
        pair = PairedFlow(*(Chain([step(context) for _ in range(steps // group)]) for context in (0, 4)))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
            densities = pair.log_probs(x, x)
        assert densities[1].requires_grad
        events = record.profiler.kineto_results.events()
        return sum(event.nbytes() for event in events if event.name() == "[memory]") / x.nbytes

    assert kept(16) - kept(8) < most * 8


@pytest.mark.parametrize(("checkpoint", "gradients", "beside"), [
    (True, True, True), (False, False, True), (False, True, False)])
def test_source_and_target_take_turns_where_it_saves_memory(checkpoint, gradients, beside):
    pair = PairedFlow(*(Chain([vector_step(context, checkpoint) for _ in range(2)]) for context in (0, 4)))
    order = []
    for name, flow in (("a", pair.source), ("b", pair.target)):
        for step in flow.transform.parts:
            step.parts[2].register_forward_hook(lambda *_, name=name: order.append(name))
    with torch.set_grad_enabled(gradients):
        pair.log_probs(torch.randn(3, 4), torch.randn(3, 4))
    assert order == (["a", "b"] * 2 if beside else ["a", "a", "b", "b"])


def test_hooks_on_the_steps_of_a_target_are_called(pair, images):
    step, calls = pair.target.transform.parts[1], []
    expected = pair.log_probs(*images)
    step.register_forward_hook(lambda *call: calls.append(call))
    torch.testing.assert_close(pair.log_probs(*images), expected)
    assert len(calls) == 1


def test_noise_and_transfer(pair, images):
    x_a, x_b = images
    noise = pair.transform_to_noise(x_b, x_a)
    torch.testing.assert_close(pair.transform_from_noise(noise, x_a), x_b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pair.transfer(x_b, x_a, x_a), x_b, rtol=1e-4, atol=1e-4)
    moved = pair.transfer(x_b, x_a, 1 - x_a)
    torch.testing.assert_close(pair.transform_to_noise(moved, 1 - x_a), noise, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(moved, x_b, atol=1e-2)


def test_side_information(images):
    x_a, x_b = images
    pair = perturb(full_glow(3, (1, 1), 8, context_width=4, side_channels=2), 0.05)
    side = torch.rand(2, 2, 8, 12) > 0.5
    log_prob = pair.log_prob(x_b, (x_a, side))
    torch.testing.assert_close(pair(x_a=x_a, x_b=x_b, side=side)[1], log_prob)
    assert not torch.allclose(log_prob, pair.log_prob(x_b, (x_a, ~side)))
    assert pair.sample(2, (x_a, side)).shape == (2, 2, 3, 8, 12)
    single = PairedFlow(ActNorm(2), ActNorm(2, MLPConditioner(3, 4)))
    assert single.log_prob(torch.randn(5, 2), (torch.randn(5, 2), torch.randn(5, 1))).shape == (5,)


def test_any_resolution_with_the_same_weights(pair):
    for size in ((4, 4), (8, 16), (20, 12)):
        x_a, x_b = torch.rand(1, 3, *size), torch.rand(1, 3, *size)
        noise = pair.transform_to_noise(x_b, x_a)
        assert noise.shape == x_b.shape
        torch.testing.assert_close(pair.transform_from_noise(noise, x_a), x_b, rtol=1e-4, atol=1e-4)
        assert pair.sample(1, x_a).shape == (1, 1, 3, *size)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_a_deep_pair_stays_invertible_far_outside(size):
    """Run eight steps with random nets on conditions far larger than the data."""
    pair = perturb(full_glow(3, (4, 4), 32, context_width=16), 0.03)
    x_a, x_b = size * torch.randn(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    noise = pair.transform_to_noise(x_b, x_a)
    torch.testing.assert_close(pair.transform_from_noise(noise, x_a), x_b, rtol=0, atol=1e-3)
    assert torch.isfinite(torch.cat(pair(x_a=x_a, x_b=x_b))).all()
    assert torch.isfinite(pair.sample(2, x_a)).all()


def test_a_deep_pair_survives_its_first_steps():
    """Train four levels of sixteen steps at a high learning rate without warm-up: the loss recovers.

    Where a step of the 1x1 convolutions' conditioners grows with the number of channels, the loss diverges to 1e17.
    """
    pair = full_glow(3, (16, 16, 16, 16), 8, context_width=4)
    x_a, x_b = torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16)
    condflows.initialize(pair, x_b, x_a)
    optimizer = torch.optim.Adam(pair.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        log_p_a, log_p_b = pair(x_a=x_a, x_b=x_b)
        loss = -(1e-4 * log_p_a + log_p_b).mean() / x_b[0].numel()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert max(losses) < 1e3
    assert losses[-1] < losses[0] + 5


def test_models_in_bfloat16_keep_densities_in_float32():
    flow = Flow(Chain([ActNorm(4, GlobalConditioner(2, 8)), LUConv1x1(4), AffineCoupling(4, ConvConditioner(4))]))
    flow = flow.to(torch.bfloat16)
    x, context = torch.randn(2, 4, 4, 4, dtype=torch.bfloat16), torch.randn(2, 2, 4, 4, dtype=torch.bfloat16)
    noise, logabsdet = flow.transform(x, context)
    assert noise.dtype == torch.bfloat16
    assert logabsdet.dtype == flow.log_prob(x, context).dtype == torch.float32
    for bijector in (Chain([]), *flow.transform.parts):
        assert bijector(x, context)[1].dtype == bijector.inverse(x, context)[1].dtype == torch.float32
    torch.testing.assert_close(flow.transform.inverse(noise, context)[0], x, rtol=0.1, atol=0.1)


def test_the_objective_trains_both_flows(pair, images):
    log_p_a, log_p_b = pair(*images)
    (-(1e-4 * log_p_a + log_p_b)).mean().backward()
    assert all(p.grad is not None for p in pair.parameters())


def test_autocast_keeps_densities_in_float32(pair, images):
    x_a, x_b = images
    exact = pair.log_prob(x_b, x_a)
    with torch.autocast("cpu", torch.bfloat16):
        log_p_a, log_p_b = pair(x_a=x_a, x_b=x_b)
    assert log_p_a.dtype == log_p_b.dtype == torch.float32
    assert (log_p_b - exact).abs().max() / exact.abs().max() < 0.02


def test_conditioners_run_in_bf16_under_autocast(images):
    dtypes = {}
    net = CouplingConditioner(4, 8)
    net.net.register_forward_hook(lambda m, a, r: dtypes.update(net=r.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = AffineCoupling(4, net)(torch.randn(2, 4, 4, 4))
    assert dtypes["net"] == torch.bfloat16
    assert outputs.dtype == torch.float32


# --- errors ---------------------------------------------------------------------------------------------------------

ERRORS = {
    "shape": (lambda: Flow(ActNorm(2), (2,)).log_prob(torch.randn(3, 4)), ValueError, r"\(batch, 2\), got \(3, 4\)"),
    "rank": (lambda: Flow(ActNorm(2), (2, None)).log_prob(torch.randn(3, 2)), ValueError, r"\(batch, 2, None\)"),
    "integers": (lambda: Flow(ActNorm(2)).log_prob(torch.ones(3, 2, dtype=int)), TypeError, "^Flow.*dequantize"),
    "integer noise": (
        lambda: Flow(ActNorm(2)).transform_from_noise(torch.ones(3, 2, dtype=int)), TypeError, "^Flow expects float"),
    "no samples": (lambda: Flow(ActNorm(2), (2,)).sample(0), ValueError, "positive whole number of samples, got 0"),
    "half a sample": (lambda: Flow(ActNorm(2), (2,)).sample(1.5), ValueError, "positive whole number of samples"),
    "open shape without context": (lambda: Flow(ActNorm(2)).sample(1), ValueError, "open shape None.*shape=..."),
    "open shape with a vector": (
        lambda: Flow(ActNorm(2), (2, None)).sample(1, torch.randn(1, 3)), ValueError, "expects an image context"),
    "open shape of another rank": (
        lambda: Flow(ActNorm(2), (2, None)).sample(1, torch.randn(1, 3, 4, 4)), ValueError, "must agree"),
    "a yes for a number": (lambda: Flow(ActNorm(2), (2,)).sample(True), ValueError, "number of samples, got True"),
    "no temperature": (lambda: Flow(ActNorm(2), (2,)).sample(1, temperature=None), ValueError, "at least 0, got None"),
    "batch of an unused context": (
        lambda: Flow(ActNorm(2)).log_prob(torch.randn(3, 2), torch.randn(5, 3)), ValueError,
        r"Flow expects a context of batch size 3.*\(5, 3\)"),
    "batch of the context of noise": (
        lambda: Flow(ActNorm(2)).transform_from_noise(torch.randn(3, 2), torch.randn(5, 3)), ValueError,
        "^Flow expects a context of batch size 3"),
    "batch of the context of what becomes noise": (
        lambda: Flow(ActNorm(2)).transform_to_noise(torch.randn(3, 2), torch.randn(5, 3)), ValueError,
        "^Flow expects a context of batch size 3"),
    "contexts of two batch sizes": (
        lambda: Flow(ActNorm(2), (2,)).sample(2, (torch.randn(3, 1), torch.randn(4, 1))), ValueError,
        r"^Flow expects a context of batch size 3.*\(4, 1\)"),
    "pair with half a tuple": (
        lambda: PairedFlow(ActNorm(2), ActNorm(2)).sample(1, (torch.randn(3, 2),)), TypeError, "x_a, side information"),
    "channels of an open split": (
        lambda: Flow(Split(ActNorm(2))).sample(1, torch.randn(1, 3, 4, 4)), ValueError, "cannot tell the number"),
    "a number as shape": (lambda: Flow(ActNorm(2), 2), ValueError, "without the batch, got 2; pass"),
    "an empty shape": (lambda: Flow(ActNorm(2), ()), ValueError, r"without the batch, got \(\)"),
    "a size of 0": (lambda: Flow(ActNorm(2), (2, 0)), ValueError, "positive whole numbers, or None.*got 0"),
    "a number as context of samples": (
        lambda: Flow(ActNorm(2), (2,)).sample(1, torch.tensor(1.0)), ValueError, r"batch size 1.*got shape \(\)"),
    "channels of an open shape": (
        lambda: Flow(ActNorm(2), (None, 4)).sample(1, size=(4,)), ValueError, r"open shape \(None, 4\)"),
    "no channels": (lambda: Flow(Squeeze()).sample(1, torch.randn(1, 3, 4, 4)), ValueError, "shape=..."),
    "pair without context": (
        lambda: PairedFlow(ActNorm(2), ActNorm(2)).log_prob(torch.randn(3, 2)), ValueError, "source image as context"),
    "pair with integer context": (
        lambda: PairedFlow(ActNorm(2), ActNorm(2)).sample(1, torch.ones(3, 2, dtype=torch.uint8)), TypeError,
        "dequantize"),
    "pair of other batch sizes": (
        lambda: PairedFlow(ActNorm(2), ActNorm(2, MLPConditioner(2, 4)))(torch.randn(3, 2), torch.randn(4, 2)),
        ValueError, "batch size 4 like its inputs"),
    "pair of other structures": (
        lambda: PairedFlow(Chain([ActNorm(2)]), Chain([ActNorm(2), ActNorm(2)]))(torch.randn(3, 2), torch.randn(3, 2)),
        ValueError, r"structure \[ActNorm x2\], got \[\*\]"),
    "pair of other structures within": (
        lambda: PairedFlow(Chain([ActNorm(2)]), Chain([Chain([ActNorm(2)])]))(torch.randn(3, 2), torch.randn(3, 2)),
        ValueError, r"structure \[\[ActNorm\]\], got \[\*\]"),
    "source from nflows": (
        lambda: PairedFlow(Flow(torch.nn.Identity()), ActNorm(2)), TypeError, "put it into a condflows.Chain"),
    "side of another batch size": (
        lambda: PairedFlow(ActNorm(2), ActNorm(2)).log_prob(torch.randn(3, 2), (torch.randn(3, 2), torch.randn(1, 2))),
        ValueError, r"batch size 3 like its inputs, got shape \(1, 2\)"),
    "nothing fits the levels": (
        lambda: full_glow(3, (1, 1), 8).log_prob(torch.rand(1, 3, 6, 8), torch.rand(1, 3, 6, 8)), ValueError,
        r"that 2 divides.*\(1, 6, 3, 4\)|that 2 divides.*3, 4"),
}


@pytest.mark.parametrize("mistake", ERRORS)
def test_mistakes_are_named(mistake):
    call, error, message = ERRORS[mistake]
    with pytest.raises(error, match=message):
        call()


def test_the_paired_flow_takes_flows_and_bijectors():
    source = Flow(ActNorm(2), (2,))
    pair = PairedFlow(source, ActNorm(2))
    assert pair.source is source
    assert isinstance(pair.target, Flow)
    assert ConvConditioner(4)(torch.zeros(1, 2, 3, 3)).shape == (1, 4, 3, 3)
