"""Denoising: the mean of the data that noisy inputs come from."""

import math

import pytest
import torch
from test_guide import LABELS, pyramid_flow

from condflows import ActNorm, Chain, Flow, LUConv1x1, PairedFlow, denoise
from condflows.bijector import Bijector
from condflows.conditioners import MLPConditioner
from condflows.testing import perturb


class OfUniform(Bijector):
    """Map y, a uniform value in [0, 1] with Gaussian noise, to a standard normal one."""

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, inputs, context=None):
        below, above = inputs / self.sigma, (inputs - 1) / self.sigma
        share = self.integral(below) - self.integral(above)
        density = torch.special.ndtr(below) - torch.special.ndtr(above)
        outputs = torch.special.ndtri((self.sigma * share).clamp(1e-12, 1 - 1e-12))
        log_normal = -outputs.square() / 2 - math.log(2 * math.pi) / 2
        return outputs, (density.log() - log_normal).flatten(1).sum(1)

    @staticmethod
    def integral(x):
        """Integrate the distribution function of the normal up to x."""
        return x * torch.special.ndtr(x) + (-x.square() / 2).exp() / math.sqrt(2 * math.pi)


def test_the_mean_of_uniform_data_below_their_noise():
    sigma, y = 0.2, torch.linspace(-0.3, 1.3, 9, dtype=torch.float64)[:, None]
    flow = Flow(OfUniform(sigma), (1,)).double()
    x = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    weights = (-((y - x) / sigma).square() / 2).exp()
    expected = (weights * x).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    torch.testing.assert_close(denoise(flow, y, sigma), expected, rtol=1e-6, atol=1e-6)


def test_a_condition_is_heard_and_many_inputs_go_at_once():
    torch.manual_seed(0)
    flow = Flow(ActNorm(3, MLPConditioner(2, 6)), (3,)).double()
    perturb(flow, 0.5)
    y, context = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    # Of a normal of mean m and deviation s the mean of the data is y + sigma ** 2 * (m - y) / s ** 2.
    zero, _ = flow.transform.inverse(torch.zeros_like(y), context)
    one, _ = flow.transform.inverse(torch.ones_like(y), context)
    torch.testing.assert_close(denoise(flow, y, 0.3, context), y + 0.09 * (zero - y) / (one - zero).square())


def test_images_given_labels():
    flow, x = pyramid_flow(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    x.requires_grad_()
    (score,) = torch.autograd.grad(flow.log_prob(x, LABELS).sum(), x)
    found = denoise(flow, x, 0.1, LABELS)
    torch.testing.assert_close(found, (x + 0.01 * score).detach())
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in flow.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_samples_are_denoised_where_no_gradients_are_kept(mode):
    torch.manual_seed(0)
    flow = perturb(Flow(Chain([ActNorm(4), LUConv1x1(4)]), (4, 2, 2)))
    with mode():
        y = flow.sample(3)
        found = denoise(flow, y, 0.1)
    torch.testing.assert_close(found, denoise(flow, y.clone(), 0.1))


def test_the_target_of_two_flows():
    torch.manual_seed(0)
    flow = PairedFlow(Flow(ActNorm(2), (2,)), Flow(ActNorm(2), (2,)))
    torch.testing.assert_close(denoise(flow, torch.ones(3, 2), 0.5, torch.zeros(3, 2)), torch.full((3, 2), 0.75))


def test_a_density_that_is_flat_leaves_the_data_as_they_are():
    uniform = torch.distributions.Independent(torch.distributions.Uniform(torch.zeros(2), torch.ones(2)), 1)
    y = torch.rand(3, 2)
    for transform in (LUConv1x1(2), ActNorm(2, MLPConditioner(1, 4))):
        torch.testing.assert_close(denoise(Flow(transform, (2,), base=uniform), y, 0.1, torch.zeros(3, 1)), y)
    frozen = Flow(LUConv1x1(2), (2,), base=uniform).requires_grad_(False)
    torch.testing.assert_close(denoise(frozen, y, 0.1), y)
