"""The row rule: a context of B rows serves B * n inputs as if each row were repeated, without the repeated work."""

import collections
import functools
import time
from collections import UserDict
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from helpers import make_context
from nflows.transforms.base import CompositeTransform
from registry import ENTRIES
from torch import nn

from condflows import ActNorm, AffineCoupling, Bijector, Chain, Flow, Inverse, LUConv1x1, Split, Trace
from condflows.conditioners import CouplingConditioner, MLPConditioner
from condflows.rows import align_rows, concat_rows, context_for, repeat_rows, shares_context
from condflows.testing import perturb
from condflows.trace import context_tensors, map_context

# A composition of nflows hands its context on as it is.
CONDITIONAL = [name for name, entry in ENTRIES.items() if entry.context and "nflows composite" not in name]


@pytest.mark.parametrize("conditions", [1, 2])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_row_of_context_serves_several_inputs(name, conditions):
    entry = ENTRIES[name]
    bijector = perturb(entry.build()).double()
    inputs = torch.randn(3 * conditions, entry.channels, *entry.sizes, dtype=torch.float64, requires_grad=True)
    context = make_context(entry, inputs[:conditions], 0)
    repeated = map_context(lambda tensor: tensor.repeat_interleave(3, 0), context)
    for run in (bijector, bijector.inverse):
        got, want = run(inputs, context), run(inputs, repeated)
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
        gradients = [torch.autograd.grad(outputs.sin().sum() + logabsdet.sum(), [inputs, *bijector.parameters()],
                                         allow_unused=True) for outputs, logabsdet in (got, want)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    for record in (bijector.forward_with_trace, bijector.inverse_with_trace):
        traces = [context_tensors(record(inputs, given)[2]) for given in (context, repeated)]
        torch.testing.assert_close(*traces, rtol=1e-11, atol=1e-11)


def test_helpers():
    values, inputs = torch.randn(2, 3, 1), torch.randn(6, 4, 1)
    assert torch.equal(repeat_rows(values, 6), values.repeat_interleave(3, 0))
    assert repeat_rows(values, 2) is values
    assert repeat_rows(values[:1], 5).untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    assert torch.equal(concat_rows(inputs, values, "net"), torch.cat([inputs, values.repeat_interleave(3, 0)], 1))
    assert torch.equal(concat_rows(inputs, values[:1], "net"), torch.cat([inputs, values[:1].expand(6, -1, -1)], 1))
    grouped, aligned = align_rows(inputs, torch.randn(2, 4, 1))
    assert grouped.shape == (2, 3, 4, 1)
    assert aligned.shape == (2, 1, 4, 1)
    assert align_rows(inputs, values[:1])[0] is inputs


# --- what others receive --------------------------------------------------------------------------------------------

class Reads(Bijector):
    """A user's own bijector, which records the contexts that it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, inputs, context=None):
        self.seen.append(context)
        return inputs, inputs.new_zeros(len(inputs))

    inverse = forward


class OwnChain(Chain):
    def forward(self, inputs, context=None, record=None):
        self.rows = len(context)
        return super().forward(inputs, context, record)

    def inverse(self, inputs, context=None, record=None):
        self.rows = len(context)
        return super().inverse(inputs, context, record)


@pytest.mark.parametrize("around", [
    lambda b: Chain([ActNorm(4), b]), lambda b: Split(Chain([b])), lambda b: Split(ActNorm(2), b), Inverse,
    lambda b: Chain([b], checkpoint=True), lambda b: Inverse(Chain([Inverse(b)]))],
    ids=["chain", "split", "prior", "inverse", "checkpoint", "nested"])
def test_a_bijector_of_ones_own_receives_a_row_for_each_input(around):
    bijector = Reads()
    context = torch.randn(2, 3)
    for run in (around(bijector), around(bijector).inverse):
        run(torch.randn(6, 4), context)
        assert torch.equal(bijector.seen.pop(), context.repeat_interleave(3, 0))
        run(torch.randn(2, 4), context)
        assert bijector.seen.pop() is context


def test_what_overrides_or_wraps_our_code_receives_a_row_for_each_input():
    context = torch.randn(2, 3)

    class Own(ActNorm):
        def forward(self, inputs, context=None):
            self.rows = len(context)
            return super().forward(inputs, context)

    own, chain = Own(4, MLPConditioner(3, 8)), OwnChain([ActNorm(4, MLPConditioner(3, 8))])
    patched = ActNorm(4)
    patched.forward = lambda inputs, context: (inputs, torch.full((len(inputs),), float(len(context))))
    _, logabsdet = Chain([own, chain, patched, CompositeTransform([ActNorm(4, MLPConditioner(3, 8))])])(
        torch.randn(6, 4), context)
    assert own.rows == chain.rows == logabsdet[0] == 6
    Flow(Chain([chain]), (4,)).sample(3, context)
    assert chain.rows == 6
    assert len(chain.forward_with_trace(torch.randn(6, 4), context)[2]) == 1


class NotedConditioner(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.num_outputs, self.seen = num_outputs, []

    def forward(self, *args):
        self.seen.append(args[-1])
        return torch.zeros(len(args[0]), self.num_outputs)


@pytest.mark.parametrize("gradients", [False, True])
def test_conditioners_of_ones_own(gradients):
    """Pass each condition once to nets of actnorm and 1x1 convolution, and once for each input to a coupling's."""
    flow = Flow(Chain([ActNorm(2, NotedConditioner(4)), LUConv1x1(2, NotedConditioner(10)),
                       AffineCoupling(2, NotedConditioner(2))]), (2,))
    context = torch.randn(2, 3)
    with torch.set_grad_enabled(gradients):
        flow.sample(5, context)
    seen = [part.conditioner.seen for part in flow.transform.parts]
    assert seen[0] == [context]
    assert seen[1] == [context]
    assert torch.equal(seen[2][0], context.repeat_interleave(5, 0))


def test_a_wrapper_that_copies_the_mark_is_not_marked():
    class Wrapped(MLPConditioner):
        @functools.wraps(MLPConditioner.forward)
        def forward(self, inputs, context=None):
            assert len(context) == len(inputs)
            return super().forward(inputs, context)

    class WrappedActNorm(ActNorm):
        inverse = functools.wraps(ActNorm.inverse)(lambda self, inputs, context=None: (
            inputs, torch.full((len(inputs),), float(len(context)))))

    context = torch.randn(2, 3)
    assert Flow(AffineCoupling(2, Wrapped(1, 2, 3)), (2,)).sample(5, context).shape == (2, 5, 2)
    assert Chain([WrappedActNorm(2)]).inverse(torch.randn(10, 2), context)[1][0] == 10


def test_values_that_do_not_serve_the_inputs():
    with pytest.raises(ValueError, match=r"^MLPConditioner.* batch size 5 like its inputs, got shape \(2, 3\)"):
        MLPConditioner(1, 2, 3)(torch.randn(5, 1), torch.randn(2, 3))


def test_marks_are_of_methods():
    @shares_context
    def method(context):
        return context

    context = torch.randn(2, 3)
    assert context_for(method, context, 6) is context
    assert context_for(lambda context: context, context, 6).shape == (6, 3)
    assert context_for(None, None, 6) is None
    strange = [object()]  # nothing that the library reads
    assert context_for(lambda context: context, strange, 6) is strange


# --- types of contexts ----------------------------------------------------------------------------------------------

class Attributes(dict):
    """A dictionary whose values are attributes too."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Bunch(dict):
    def __init__(self, **kwargs):
        super().__init__(kwargs)

    def __getattr__(self, key):
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None


class Named(NamedTuple):
    x: torch.Tensor
    rest: list


X, Y = torch.randn(2, 3), torch.randn(2, 1)


@pytest.mark.parametrize("context", [
    {"x": X, "y": Y}, Attributes(x=X, y=Y), Bunch(x=X, y=Y), UserDict(x=X, y=Y), MappingProxyType({"x": X, "y": Y}),
    collections.OrderedDict(x=X, y=Y), collections.defaultdict(list, x=X, y=Y), Named(X, [Y]), (X, [Y]), Trace([X, Y]),
], ids=lambda context: type(context).__name__)
def test_contexts_keep_their_types(context):
    before = [tensor.clone() for tensor in context_tensors(context)]
    mapped = map_context(lambda tensor: tensor + 1, context)
    assert type(mapped) is type(context)
    torch.testing.assert_close(context_tensors(mapped), [tensor + 1 for tensor in before])
    torch.testing.assert_close(context_tensors(context), before)
    if isinstance(context, (Attributes, Bunch, Named)):
        assert torch.equal(mapped.x, before[0] + 1)
    if isinstance(context, collections.defaultdict):
        assert mapped["new"] == []

    class ReadsX(MLPConditioner):
        def forward(self, first, context):
            assert type(context) is type(seen)
            x = context.x if hasattr(context, "x") else context_tensors(context)[0]
            return super().forward(first, x)

    seen = context
    flow = Flow(Chain([AffineCoupling(2, perturb(ReadsX(1, 2, 3)))]), (2,))
    if not isinstance(context, Trace):
        assert flow.sample(5, context).shape == (2, 5, 2)
        assert flow.log_prob(torch.randn(2, 2), context).shape == (2,)


# --- what it costs --------------------------------------------------------------------------------------------------

def peak_of(call):
    """Measure the bytes that torch has allocated at the peak of a call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    now = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


FLOWS = {
    "1x1": lambda: Flow(LUConv1x1(128, MLPConditioner(3, 2 * 128 * 128 + 128)), (128,)),
    "1x1 without conditioner": lambda: Flow(LUConv1x1(128), (128,)),
    "actnorm": lambda: Flow(ActNorm(128, MLPConditioner(3, 256)), (128,)),
    "coupling": lambda: Flow(AffineCoupling(8, MLPConditioner(4, 8, 3)), (8,)),
    "chain": lambda: Flow(Chain([ActNorm(32, MLPConditioner(3, 64)), LUConv1x1(32, MLPConditioner(3, 2080)),
                                 AffineCoupling(32, MLPConditioner(16, 32, 3))]), (32,)),
}


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_many_samples_of_one_condition_cost_what_as_many_of_two_do(name):
    flow = perturb(FLOWS[name](), 0.01)
    one, two = torch.randn(1, 3), torch.randn(2, 3)
    assert peak_of(lambda: flow.sample(20_000, one)) <= 1.25 * peak_of(lambda: flow.sample(10_000, two))
    times = []
    for _ in range(5):
        for samples, context in ((20_000, one), (10_000, two)):
            start = time.perf_counter()
            flow.sample(samples, context)
            times.append(time.perf_counter() - start)
    assert min(times[::2]) <= 2.5 * min(times[1::2])


@torch.no_grad()
def test_an_image_coupling_encodes_a_condition_once():
    flow = perturb(Flow(AffineCoupling(4, CouplingConditioner(4, 8, 2, context_width=64)), (4, 16, 16)), 0.1)
    rows = []
    flow.transform.conditioner.encoder.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    flow.sample(6, torch.randn(2, 2, 40, 40))
    assert rows == [2]
