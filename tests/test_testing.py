"""The checks of a bijector, each on a planted bug that it must reject."""

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from condflows import ActNorm, AffineCoupling, Bijector, Chain, LUConv1x1, Trace
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner, MLPConditioner
from condflows.testing import batches, check_bijector, perturb


class MissingPositions(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet / inputs.shape[2:].numel()

    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs, logabsdet / inputs.shape[2:].numel()


class BatchAveraged(AffineCoupling):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet.mean().expand(len(inputs))

    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs, logabsdet.mean().expand(len(inputs))


class ScalarLogabsdet(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet[0]


class WrongInverse(ActNorm):
    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs + 1e-6, logabsdet


class WrongInverseLogabsdet(ActNorm):
    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs, -logabsdet


class DetachedContext(AffineCoupling):
    def forward(self, inputs, context=None):
        return super().forward(inputs, context.detach())


class DetachedInInverse(AffineCoupling):
    def inverse(self, inputs, context=None):
        return super().inverse(inputs, context.detach())


class AveragedActNorm(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet.mean().expand(len(inputs))


class PartlyDetached(Bijector):
    """A bijector whose gradient is right for the shift and wrong for the scale."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(3))
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, inputs, context=None):
        log_scale = self.log_scale + 0.1 * (self.log_scale - self.log_scale.detach())
        return inputs * log_scale.exp() + self.shift, log_scale.sum().expand(len(inputs))

    def inverse(self, inputs, context=None):
        return (inputs - self.shift) * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(inputs))


class Unused(ActNorm):
    def __init__(self, num_channels):
        super().__init__(num_channels)
        self.forgotten = nn.Parameter(torch.zeros(1))


class SideEffect(ActNorm):
    def forward(self, inputs, context=None):
        with torch.no_grad():
            self.shift += 1
        return super().forward(inputs, context)


class InPlace(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        with torch.no_grad():
            inputs += 1
        return outputs, logabsdet


class HiddenState(LUConv1x1):
    def __init__(self, num_channels):
        super().__init__(num_channels)
        self.cached = torch.zeros(3)


class LostState(ActNorm):
    def __init__(self, num_channels):
        super().__init__(num_channels)
        self.register_buffer("gain", torch.tensor(2.0))

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        state[kwargs.get("prefix", "") + "gain"] = torch.ones(())
        return state

    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs * self.gain, context)
        return outputs, logabsdet + inputs.shape[1:].numel() * self.gain.log()

    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs / self.gain, logabsdet - inputs.shape[1:].numel() * self.gain.log()


class BatchNorm(ActNorm):
    def forward(self, inputs, context=None):
        return super().forward(inputs - inputs.mean(0), context)


class Infinite(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet + float("inf")


class Dropped(ActNorm):
    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs[:, 1:], logabsdet


IMAGE = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(1))
CONTEXT = torch.randn(2, 2, 2, 3, generator=torch.Generator().manual_seed(2))

BUGS = {
    "missing H*W factor": (lambda: MissingPositions(3), None, "autograd Jacobian"),
    "batch-averaged": (lambda: BatchAveraged(3, ConvConditioner(3)), None, "batch independence: logabsdet"),
    "scalar logabsdet": (lambda: ScalarLogabsdet(3), None, "one value a sample"),
    "wrong inverse": (lambda: WrongInverse(3), None, "round trip"),
    "wrong logabsdet of the inverse": (lambda: WrongInverseLogabsdet(3), None, "do not cancel"),
    "detached context": (
        lambda: DetachedContext(3, CouplingConditioner(3, 8, 2)), CONTEXT, "context of forward"),
    "context detached in the inverse": (
        lambda: DetachedInInverse(3, CouplingConditioner(3, 8, 2)), CONTEXT, "context of inverse"),
    "unused parameter": (lambda: Unused(3), None, "parameter forgotten"),
    "side effect": (lambda: SideEffect(3), None, "no side effects"),
    "input changed in place": (lambda: InPlace(3), None, "no side effects"),
    "tensor outside the state_dict": (lambda: HiddenState(3), None, "tensor cached"),
    "state_dict without the state": (lambda: LostState(3), None, "state_dict: a bijector loaded"),
    "samples that see each other": (lambda: BatchNorm(3), None, "batch independence"),
    "infinite": (lambda: Infinite(3), None, "finite results"),
    "dimensions lost": (lambda: Dropped(3), None, "dimension"),
    "inside a chain": (lambda: Chain([LUConv1x1(3), WrongInverse(3)]), None, "round trip"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_caught(bug):
    build, context, law = BUGS[bug]
    with pytest.raises(AssertionError, match=law):
        check_bijector(build(), IMAGE, context)


def test_a_partly_detached_parameter_is_caught():
    with pytest.raises(AssertionError, match="gradients: with respect to the parameters of forward"):
        check_bijector(PartlyDetached(), torch.randn(2, 3))


def test_a_bug_that_only_shows_away_from_zero_output_is_caught():
    class Lopsided(AffineCoupling):
        def forward(self, inputs, context=None):
            outputs, logabsdet = super().forward(inputs, context)
            return outputs, 2 * logabsdet

    with pytest.raises(AssertionError, match=r"do not cancel|Jacobian"):
        check_bijector(Lopsided(3, ConvConditioner(3)), IMAGE)


def test_what_is_right_passes_and_is_left_as_it_was():
    bijector = Chain([ActNorm(3, GlobalConditioner(2, 6)), LUConv1x1(3, GlobalConditioner(2, 21))])
    before = {name: value.clone() for name, value in bijector.state_dict().items()}
    check_bijector(bijector, IMAGE, CONTEXT)
    assert all(torch.equal(before[name], value) for name, value in bijector.state_dict().items())
    assert bijector.bijectors[0].log_scale.dtype == torch.float32


def test_batch_averaging_shows_with_one_sample():
    with pytest.raises(AssertionError, match="batch independence: logabsdet"):
        check_bijector(AveragedActNorm(3, nn.Linear(2, 6)), torch.randn(1, 3, 4), torch.randn(1, 2))


def test_one_sample_is_enough():
    check_bijector(AffineCoupling(3, MLPConditioner(2, 2, 4, hidden=(8,))), torch.randn(1, 3), torch.randn(1, 4))


def test_a_trace_is_a_context():
    chain = Chain([ActNorm(2), ActNorm(2, MLPConditioner(3, 4))])
    check_bijector(chain, torch.randn(2, 2), Trace([torch.randn(2, 1), torch.randn(2, 3)]))


def test_perturb_changes_a_copy():
    bijector = ActNorm(3)
    moved = perturb(bijector, 0.5, seed=3)
    assert not bijector.shift.any()
    assert moved.shift.abs().min() > 0
    assert torch.equal(perturb(bijector, 0.5, seed=3).shift, moved.shift)


def test_perturb_leaves_what_is_not_learned():
    class Permuted(ActNorm):
        def __init__(self):
            super().__init__(3)
            self.order = torch.nn.Parameter(torch.tensor([2, 0, 1]), requires_grad=False)
            self.scale = torch.nn.Parameter(torch.tensor([1.0, 2.0, 4.0]), requires_grad=False)

        def forward(self, inputs, context=None):
            outputs, logabsdet = super().forward(inputs)
            return outputs[:, self.order] * self.scale, logabsdet + self.scale.log().sum()

        def inverse(self, inputs, context=None):
            inputs = (inputs / self.scale)[:, self.order.argsort()]
            outputs, logabsdet = super().inverse(inputs)
            return outputs, logabsdet - self.scale.log().sum()

    moved = perturb(Permuted())
    assert moved.order.tolist() == [2, 0, 1]
    assert moved.scale.tolist() == [1, 2, 4]
    check_bijector(Permuted(), torch.randn(2, 3))


@settings(max_examples=50)
@given(batches(3, (2, 4), min_batch=2, max_batch=4, multiples=3))
def test_batches(inputs):
    assert inputs.dtype == torch.float64
    assert 2 <= len(inputs) <= 4
    assert inputs.shape[1] == 3
    assert inputs.shape[2] in (2, 4, 6)
    assert inputs.shape[3] in (4, 8, 12)
    assert torch.isfinite(inputs).all()
