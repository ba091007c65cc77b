"""Denoising: the data below the noise, under a flow of noisy data."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from condflows.flow import Flow
from condflows.pairs import PairedFlow
from condflows.trace import Context, map_context

__all__ = ["denoise"]


def denoise(flow: Flow | PairedFlow, inputs: Tensor, sigma: float, context: Context = None) -> Tensor:
    r"""Return the mean of the data that noisy inputs come from, under a flow that was trained on noisy data.

    .. math:: E[x \mid y, c] = y + \sigma^2\, \nabla_y \log p(y \mid c)

    for :math:`y = x + \sigma \epsilon` with standard normal :math:`\epsilon`, where :math:`p` is the density of the
    flow; it is exact if that is the density of the noisy data. A flow of images that is trained with such noise spends
    no capacity on their last bits, and its samples, once denoised, are sharper. Their own density is not known: that of
    the flow is of noisy data, and so are its bits per dimension.

    Shapes: the result is as ``inputs``, of the device and type that the flow computes in; it carries no gradient.
    Paper: Tweedie's formula (doi 10.1198/jasa.2011.tm11181), for samples of flows in TARFlow (arXiv 2412.06329).

    Args:
        flow: the flow of noisy data; of a :class:`condflows.PairedFlow` the target.
        inputs: noisy data ``(batch, ...)``, such as samples of the flow.
        sigma: standard deviation of the noise, in units of the inputs.
        context: contexts of the inputs, as for ``log_prob``.

    Raises:
        TypeError: another model than a flow, inputs that are no tensor.
        ValueError: a sigma that is not positive and finite, inputs of integers, or what ``log_prob`` refuses.

    >>> flow = Flow(ActNorm(2), (2,))
    >>> denoise(flow, torch.tensor([[1.0, -2.0]]), sigma=0.5)  # of a standard normal (1 - 0.25) y
    tensor([[ 0.7500, -1.5000]])
    """
    if not isinstance(flow, (Flow, PairedFlow)):
        raise TypeError(f"denoise expects a condflows.Flow or PairedFlow, got {type(flow).__name__}; build one")
    if not isinstance(sigma, Real) or isinstance(sigma, bool) or not 0 < sigma < math.inf:
        raise ValueError(f"denoise expects a positive and finite sigma, got {sigma!r}; give that of the training")
    if not isinstance(inputs, Tensor):
        raise TypeError(f"denoise expects a tensor, got {type(inputs).__name__}; convert it with torch.as_tensor")
    if not inputs.is_floating_point():
        raise ValueError(f"denoise expects floating-point inputs, got {inputs.dtype}; give noisy data")
    with torch.inference_mode(False), torch.enable_grad():  # gradients also where samples are drawn without
        noisy = inputs.detach().clone().requires_grad_()
        log_prob = flow.log_prob(noisy, map_context(torch.clone, context)).sum()
        if not log_prob.requires_grad:  # a density that is the same everywhere
            return noisy.detach()
        (score,) = torch.autograd.grad(log_prob, noisy, materialize_grads=True)
        return (noisy + float(sigma)**2 * score).detach()
