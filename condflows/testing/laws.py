"""The laws of a bijector, as checks for any bijector."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from condflows.trace import Context, context_tensors, map_context

__all__ = ["check_bijector", "perturb"]

ROUND_TRIP = 1e-9
LOGABSDET = 1e-8


def check_bijector(bijector: Transform, inputs: Tensor, context: Context = None) -> None:
    r"""Check every law of a bijector on a float64 copy: as it is, and with its parameters perturbed.

    The laws: the shapes of the contract; finite results; no side effects; a batch gives what its samples give alone;
    round trips in both directions, :math:`f^{-1}(f(x, c), c) = x` to 1e-9;
    :math:`\mathrm{logabsdet} = \log |\det J|` to 1e-8, with :math:`J` the Jacobian that autograd computes, cancelled by
    that of the inverse; gradients that reach inputs, context and every parameter and equal finite differences; and a
    ``state_dict`` that restores the outputs bit by bit. Paper: none, these are definitions.

    Keep the inputs small, as the Jacobian of one sample is formed whole, and let samples and contexts differ, as laws
    about batches need that. The bijector itself is not changed.

    Args:
        bijector: a condflows bijector or an nflows transform.
        inputs: ``(batch, channels, *spatial)`` in the domain of ``forward``.
        context: what ``forward`` takes with them.

    Raises:
        AssertionError: names the broken law and by how much.

    >>> testing.check_bijector(LUConv1x1(3), torch.randn(2, 3, 4))
    """
    original = copy.deepcopy(bijector).double()
    inputs = inputs.detach().double()
    context = map_context(lambda t: t.detach().double() if t.is_floating_point() else t, context)
    if len(inputs) == 1:  # laws about batches need two samples
        inputs, context = map_context(lambda t: torch.cat([t, t.flatten(1).flip(1).view_as(t)]), [inputs, context])
    for state in (original, perturb(original)):
        _check_contract(state, inputs, context)
        _check_batch_independence(state, inputs, context)
        _check_round_trips(state, inputs, context)
        _check_jacobian(state, inputs, context)
    _check_gradients(state, inputs, context, inverse=False)
    _check_gradients(state, state(inputs, context)[0].detach(), context, inverse=True)
    _check_state_dict(state, inputs, context)


def perturb(module: nn.Module, scale: float = 0.1, seed: int = 0) -> Any:
    r"""Copy a module and add noise to every parameter that is learned.

    :math:`\theta \mapsto \theta + \mathrm{scale} \cdot \epsilon`, :math:`\epsilon` standard normal. It raises nothing.

    >>> actnorm = ActNorm(3)
    >>> testing.perturb(actnorm, scale=0.1).shift.abs().max() > 0, actnorm.shift
    (tensor(True), Parameter containing:
    tensor([0., 0., 0.], requires_grad=True))
    """
    module = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for p in module.parameters() if p.requires_grad):
            parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter)
    return module


def _expect_close(got: Tensor, want: Tensor, tolerance: float, law: str) -> None:
    if got.shape != want.shape:
        raise AssertionError(f"{law}: expected shape {tuple(want.shape)}, got {tuple(got.shape)}")
    if not torch.allclose(got, want, rtol=tolerance, atol=tolerance):
        raise AssertionError(f"{law}: differs by {float((got - want).abs().max()):.3g}, tolerance {tolerance:g}")


def _run(bijector: Transform, inverse: bool) -> Callable[[Tensor, Context], tuple[Tensor, Tensor]]:
    return bijector.inverse if inverse else bijector


@torch.no_grad()
def _check_contract(bijector: Transform, inputs: Tensor, context: Context) -> None:
    before = {name: value.clone() for name, value in bijector.state_dict().items()}
    given = inputs.clone()
    outputs, logabsdet = bijector(inputs, context)
    again, logabsdet_again = bijector(inputs, context)
    if logabsdet.shape != (len(inputs),):
        raise AssertionError(f"logabsdet shape: expected one value a sample, {(len(inputs),)}, "
                             f"got {tuple(logabsdet.shape)}")
    if len(outputs) != len(inputs) or outputs.numel() != inputs.numel():
        raise AssertionError(f"dimension: {tuple(inputs.shape)} became {tuple(outputs.shape)}")
    for name, values in (("outputs", outputs), ("logabsdet", logabsdet)):
        if not torch.isfinite(values).all():
            raise AssertionError(f"finite results: {name} has NaN or infinite values")
    if not (torch.equal(outputs, again) and torch.equal(logabsdet, logabsdet_again) and torch.equal(given, inputs)):
        raise AssertionError("no side effects: a second call on the same inputs differs")
    if any(not torch.equal(before[name], value) for name, value in bijector.state_dict().items()):
        raise AssertionError("no side effects: forward changed the state_dict")


@torch.no_grad()
def _check_batch_independence(bijector: Transform, inputs: Tensor, context: Context) -> None:
    batch = inputs
    for inverse, name in ((False, "forward"), (True, "inverse")):
        results = _run(bijector, inverse)(batch, context)
        for i in range(len(batch)):
            alone = _run(bijector, inverse)(batch[i : i + 1], map_context(lambda t, i=i: t[i : i + 1], context))
            for got, want, what in zip(results, alone, ("outputs", "logabsdet"), strict=True):
                _expect_close(got[i : i + 1], want, ROUND_TRIP,
                              f"batch independence: {what} of {name} in a batch and alone")
        batch = results[0]  # in the domain of the inverse


@torch.no_grad()
def _check_round_trips(bijector: Transform, inputs: Tensor, context: Context) -> None:
    noise = bijector(inputs, context)[0].roll(1, 0)  # other values than of the inputs themselves, still in the domain
    cases = (False, inputs, "inverse(forward(x)) and x"), (True, noise, "forward(inverse(z)) and z")
    for inverse, batch, pair in cases:
        values, logabsdet = _run(bijector, inverse)(batch, context)
        restored, opposite = _run(bijector, not inverse)(values, context)
        _expect_close(restored, batch, ROUND_TRIP, f"round trip: {pair}")
        _expect_close(opposite, -logabsdet, LOGABSDET, "logabsdet of forward and inverse do not cancel")


def _check_jacobian(bijector: Transform, inputs: Tensor, context: Context) -> None:
    outputs, logabsdet = bijector(inputs, context)
    for inverse, batch, claimed in ((False, inputs, logabsdet), (True, outputs.detach(), -logabsdet)):
        for i in range(len(batch)):
            # One copy of the sample for each dimension, so that one backward pass gives every row of the Jacobian.
            d = batch[i].numel()
            copies = batch[i : i + 1].repeat_interleave(d, 0).requires_grad_()
            contexts = map_context(lambda t, i=i, d=d: t[i : i + 1].repeat_interleave(d, 0), context)
            values = _run(bijector, inverse)(copies, contexts)[0]
            (jacobian,) = torch.autograd.grad(values.reshape(d, d).diagonal().sum(), copies)
            actual = torch.linalg.slogdet(jacobian.reshape(d, d)).logabsdet
            _expect_close(claimed[i].detach(), actual, LOGABSDET,
                          f"logabsdet and the autograd Jacobian of {'inverse' if inverse else 'forward'}")


def _check_gradients(bijector: Transform, inputs: Tensor, context: Context, inverse: bool) -> None:
    """Compare autograd with central differences along random directions in inputs, context and parameters."""
    where = "inverse" if inverse else "forward"
    inputs = inputs.clone().requires_grad_()
    context = map_context(lambda t: t.clone().requires_grad_() if t.is_floating_point() else t, context)
    parameters = {name: p for name, p in bijector.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(1)

    def random_like(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)

    results = _run(bijector, inverse)(inputs, context)
    weights = [random_like(result) for result in results]
    if inverse and not any(result.requires_grad for result in results):
        return  # a numerical inverse, outside of autograd

    def scalar() -> Tensor:
        outputs, logabsdet = _run(bijector, inverse)(inputs, context)
        return (weights[0] * outputs).sum() + (weights[1] * logabsdet).sum()

    contexts = [t for t in context_tensors(context) if t.requires_grad]
    for name, tensors in {"inputs": [inputs], "context": contexts, "parameters": list(parameters.values())}.items():
        if not tensors:
            continue
        value = scalar()
        grads = torch.autograd.grad(value, tensors, allow_unused=True) if value.requires_grad else [None] * len(tensors)
        if name == "parameters" and None in grads:
            raise AssertionError(f"gradients: parameter {[*parameters][grads.index(None)]} receives none from {where}")
        errors = []
        for step in (1e-6, 1e-7, 1e-6, 1e-7, 1e-8):  # a step may cross the kink of a ReLU, but not each of them
            directions = [random_like(tensor) for tensor in tensors]
            terms = [float((g * v).sum()) for g, v in zip(grads, directions, strict=True) if g is not None]
            sides = []
            with torch.no_grad():
                for move in (step, -2 * step, step):
                    for tensor, direction in zip(tensors, directions, strict=True):
                        tensor += move * direction
                    sides.append(float(scalar()))
            actual = (sides[0] - sides[1]) / (2 * step)
            scale = 1 + abs(actual) + sum(map(abs, terms)) + 1e-3 * abs(sides[0])
            errors.append((abs(sum(terms) - actual) / scale, sum(terms), actual))
            if errors[-1][0] < 1e-5:
                break
        error, claimed, actual = min(errors)
        if error >= 1e-5:
            raise AssertionError(f"gradients: with respect to the {name} of {where}, autograd gives {claimed:.6g} "
                                 f"along a direction, finite differences {actual:.6g}; is something detached?")


@torch.no_grad()
def _check_state_dict(bijector: Transform, inputs: Tensor, context: Context) -> None:
    for prefix, module in bijector.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                raise AssertionError(f"state_dict: the tensor {'.'.join(filter(None, (prefix, name)))} is neither a "
                                     "parameter nor a buffer")
    restored = copy.deepcopy(bijector)
    for value in restored.state_dict().values():
        value.zero_()
    restored.load_state_dict(bijector.state_dict())
    if not all(map(torch.equal, restored(inputs, context), bijector(inputs, context))):
        raise AssertionError("state_dict: a bijector loaded from it gives other outputs")
