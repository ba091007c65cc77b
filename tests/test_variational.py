"""Variational dequantization: its density, its start, and the bounds against exact probabilities."""

import copy
import math

import pytest
import torch
from torch.distributions import Normal

from condflows import Flow, LUConv1x1, VariationalDequantization, bits_per_dim, dequantize, initialize
from condflows.testing import perturb

SIZES = [(), (4,), (2, 4), (2, 2, 2)]


def example(sizes, context_channels=0, batch=3, channels=3, **options):
    torch.manual_seed(0)
    module = VariationalDequantization(channels, context_channels, width=6, spatial_dims=len(sizes), **options)
    images = torch.randint(2**module.bits, (batch, channels, *sizes))
    context = torch.randn(batch, context_channels, *sizes) if context_channels else None
    return module, images, context


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("context_channels", [0, 2])
def test_noise_is_exactly_uniform_at_the_start(sizes, context_channels):
    module, images, context = example(sizes, context_channels)
    noise = torch.rand(images.shape)
    values, log_q = module(images, context, noise=noise)
    assert torch.equal(log_q, torch.zeros(3))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, (images + noise) / 256, rtol=0, atol=1e-8 + 2**-24)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("context_channels", [0, 2])
def test_log_q_is_the_density_of_the_noise(sizes, context_channels):
    module, images, context = example(sizes, context_channels)
    module = perturb(module.double())
    context = None if context is None else context.double()
    noise = torch.rand(images.shape, dtype=torch.float64)
    _, log_q = module(images, context, noise=noise)
    for i in range(3):
        def fraction(u, i=i):
            own = None if context is None else context[i:i + 1]
            return 256 * module(images[i:i + 1], own, noise=u[None])[0].flatten()

        jacobian = torch.autograd.functional.jacobian(fraction, noise[i]).reshape(noise[i].numel(), -1)
        torch.testing.assert_close(-torch.linalg.slogdet(jacobian)[1], log_q[i], rtol=1e-8, atol=1e-8)
    assert (log_q.abs() > 0.01).all()


@pytest.mark.parametrize("bits", [1, 5, 8, 16])
def test_values_stay_in_their_bins(bits):
    module, images, _ = example((4, 4), bits=bits)
    module = perturb(module, 0.5)
    for noise in (torch.zeros(images.shape), torch.full(images.shape, 1 - 2**-24), torch.rand(images.shape)):
        values, log_q = module(images, noise=noise)
        assert torch.equal((values * 2**bits).floor().long(), images)
        assert torch.isfinite(log_q).all()


def test_gradients_at_the_ends_of_the_noise_are_finite():
    module, images, _ = example((4, 4))
    values, log_q = module(images, noise=torch.zeros(images.shape))
    (values.sum() - log_q.sum()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())


def test_noise_reads_image_context_and_generator():
    module, images, context = example((4, 4), 2)
    module = perturb(module)
    noise = torch.rand(images.shape)
    log_q = module(images, context, noise=noise)[1]
    assert not torch.equal(module(255 - images, context, noise=noise)[1], log_q)
    assert not torch.equal(module(images, -context, noise=noise)[1], log_q)
    drawn = [module(images, context, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    # A context of another size, one row of it for two images, and a vector.
    few, many = torch.randn(1, 2, 8, 8), images[:2]
    for row in (few, few[:, :, 0, 0]):
        torch.testing.assert_close(module(many, row, noise=noise[:2])[1],
                                   module(many, row.expand(2, *row.shape[1:]), noise=noise[:2])[1])


def test_a_context_is_ignored_without_context_channels():
    module, images, _ = example((4, 4))
    module, noise = perturb(module), torch.rand(images.shape)
    assert torch.equal(module(images, torch.randn(3, 7), noise=noise)[1], module(images, noise=noise)[1])


def bounds(log_prob, module, integers, draws):
    """Return the bounds of log P of one draw (a mean over draws) and of all draws."""
    with torch.no_grad():
        drawn = (module(integers) if module else (dequantize(integers, 3), 0.0) for _ in range(draws))
        each = torch.stack([log_prob(values.double()) - log_q for values, log_q in drawn])
    return each.mean(0).mean().item(), (each.logsumexp(0) - math.log(draws)).mean().item()


def test_the_bounds_come_near_exact_probabilities():
    """A normal density on eight integers, whose exact probabilities are differences of its distribution function.

    Given the density, the best noise is that of the density within a bin, with which the bound of one draw is exact.
    """
    torch.manual_seed(0)
    normal = Normal(torch.tensor([0.35, 0.6], dtype=torch.float64), 0.08)
    integers = (8 * normal.sample((4000,))).clamp(0, 7).long()
    low, high = normal.cdf(integers / 8), normal.cdf((integers + 1) / 8)
    exact = (high - low).log().sum(1).mean().item()

    def log_prob(values):
        return normal.log_prob(values).sum(1) - 2 * 3 * math.log(2)

    uniform_one, uniform_many = bounds(log_prob, None, integers, 100)
    module = VariationalDequantization(2, width=32, spatial_dims=0, bits=3).double()
    optimizer = torch.optim.Adam(module.parameters(), 5e-3)
    for step in range(250):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 250)
        values, log_q = module(integers[torch.randint(4000, (128,))])
        optimizer.zero_grad()
        (log_q - log_prob(values)).mean().backward()
        optimizer.step()
    one, many = bounds(log_prob, module, integers, 100)
    assert uniform_one < exact - 0.1  # what there is to gain
    assert exact - 0.02 < one < exact + 0.005
    assert exact - 0.005 < many < exact + 0.005
    assert uniform_many == pytest.approx(exact, abs=0.01)  # many draws make up for the noise


def test_training_together_with_a_flow_lowers_the_bits():
    torch.manual_seed(0)
    images = (torch.randint(8, (512, 4)) // 2 * 2).to(torch.uint8)
    flow = initialize(Flow(LUConv1x1(4), shape=(4,)), dequantize(images, 3))
    module = VariationalDequantization(4, spatial_dims=0, bits=3, width=16)
    optimizer = torch.optim.Adam([*flow.parameters(), *module.parameters()], 5e-3)
    losses = []
    for _ in range(200):
        values, log_q = module(images)
        loss = bits_per_dim(flow.log_prob(values) - log_q, 4, bits=3).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_hooks_copies_and_state_dicts():
    module, images, context = example((4, 4), 2)
    module, noise, called = perturb(module), torch.rand(images.shape), []
    for name, child in module.named_modules():
        child.register_forward_hook(lambda *_, name=name: called.append(name))
    want = module(images, context, noise=noise)[1]
    assert {name for name, child in module.named_modules() if [*child.parameters(recurse=False)]} <= {*called}
    other = VariationalDequantization(3, 2, width=6)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(images, context, noise=noise)[1], want)
    assert torch.equal(copy.deepcopy(other)(images, context, noise=noise)[1], want)


@pytest.mark.parametrize(("images", "context", "error", "message"), [
    (torch.rand(2, 3, 4, 4), None, TypeError, "VariationalDequantization expects integer images, got torch.float32"),
    (torch.full((2, 3, 4, 4), 256), None, ValueError, r"values in \[0, 256\), got 256 to 256"),
    (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), None, ValueError, "3 channels and 2 spatial dimensions"),
    (torch.zeros(2, 3, 4, dtype=torch.uint8), None, ValueError, "3 channels and 2 spatial dimensions"),
    (torch.zeros(2, 3, 5, 4, dtype=torch.uint8), torch.zeros(2, 2, 4, 4), ValueError, "spatial sizes that 2 divides"),
    (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), None, ValueError, "context tensor with 2 channels"),
    (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 4, 4), ValueError, "with 2 channels"),
    (torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 2, 4, 4), ValueError, "batch size 3"),
])
def test_mistakes(images, context, error, message):
    with pytest.raises(error, match=message):
        VariationalDequantization(3, 2)(images, context)


@pytest.mark.parametrize("channels", [3, 4, 5])
def test_the_noise_of_every_channel_is_learned(channels):
    module = perturb(VariationalDequantization(channels, steps=4, spatial_dims=0), 0.2)
    images, noise = torch.zeros(1, channels, dtype=torch.uint8), torch.full((1, channels), 0.3)
    assert ((256 * module(images, noise=noise)[0] - noise).abs() > 1e-3).all()


def test_what_cannot_hold_noise_is_refused():
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"expects parameters in float32 or float64, got torch.bfloat16"):
        VariationalDequantization(3).bfloat16()(images)
    with pytest.raises(ValueError, match=r"uniform noise in \[0, 1\), got values from 1 to 1"):
        VariationalDequantization(3)(images, noise=torch.ones(1, 3, 2, 2))
    with pytest.raises(ValueError, match="VariationalDequantization expects a context tensor with 2 channels"):
        VariationalDequantization(3, 2)(images, torch.zeros(1, 3, 2, 2))


def test_mistakes_of_the_builder():
    with pytest.raises(ValueError, match="a width of at least 1"):
        VariationalDequantization(3, width=0)
    with pytest.raises(ValueError, match="at least 1 step"):
        VariationalDequantization(3, steps=0)
    with pytest.raises(ValueError, match="2 for vectors"):
        VariationalDequantization(1, spatial_dims=0)
    with pytest.raises(ValueError, match="1 to 16 bits"):
        VariationalDequantization(3, bits=24)
    assert VariationalDequantization(1)(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))[0].shape == (1, 1, 2, 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_learned_noise_is_exported_and_mapped(dtype):
    dequantization = perturb(VariationalDequantization(3))
    images, noise = torch.randint(256, (2, 3, 4, 4)).to(dtype), torch.rand(2, 3, 4, 4)
    expected = dequantization(images, noise=noise)[1]
    exported = torch.export.export(dequantization, (images, None, None, noise)).module()
    torch.testing.assert_close(exported(images, None, None, noise)[1], expected)
    each = torch.func.vmap(lambda x, u: dequantization(x[None], noise=u[None])[1][0])(images, noise)
    torch.testing.assert_close(each, expected)


@pytest.mark.parametrize("noise", [torch.rand(4, 3, 4, 4), torch.rand(1, 3, 4, 4), torch.rand(2, 3, 2, 2), 0.5])
def test_noise_of_another_shape_is_refused(noise):
    images = torch.randint(256, (2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"expects noise of the images' shape \(2, 3, 4, 4\)"):
        VariationalDequantization(3)(images, noise=noise)
