import pytest
import torch

from condflows import ActNorm, Chain, Inverse, LUConv1x1, Split, Trace
from condflows.testing import perturb
from condflows.trace import map_context, resize


@pytest.fixture
def trace():
    return Trace([torch.randn(2, 3, 4, 4), Trace([torch.randn(2, 6, 2, 2), torch.randn(2, 1, 8, 8)])])


def test_a_trace_mirrors_its_composition():
    chain = Chain([ActNorm(4), Split(Chain([LUConv1x1(2)])), Inverse(Chain([ActNorm(4), ActNorm(4)]))])
    _, _, trace = chain.forward_with_trace(torch.randn(2, 4))
    assert repr(trace) == "Trace([*, [*, [*]], [* x2]])"
    assert [leaf.shape[1] for leaf in trace.leaves()] == [4, 4, 2, 4, 4]
    split = Split(Chain([ActNorm(2)]), prior=Chain([LUConv1x1(4)]))
    for record in (split.forward_with_trace, split.inverse_with_trace):
        assert repr(record(torch.randn(2, 4))[2]) == "Trace([[*] x2])"


def test_the_nth_part_receives_the_nth_entry_in_both_directions():
    class Read(ActNorm):
        def __init__(self):
            super().__init__(2)
            self.seen = None

        def forward(self, inputs, context=None):
            self.seen = context
            return super().forward(inputs)

        def inverse(self, inputs, context=None):
            self.seen = context
            return super().inverse(inputs)

    leaves = [Read(), Read(), Read(), Read()]
    chain = Chain([leaves[0], Split(Chain([leaves[1]]), prior=leaves[2]), Inverse(leaves[3])])
    for leaf in (leaves[1],):
        leaf.log_scale = torch.nn.Parameter(torch.zeros(1))
        leaf.shift = torch.nn.Parameter(torch.zeros(1))
        leaf.num_channels = 1
    entries = [torch.randn(3, 1) for _ in range(4)]
    trace = Trace([entries[0], Trace([entries[2], Trace([entries[1]])]), entries[3]])
    for run in (chain, chain.inverse):
        run(torch.randn(3, 2), trace)
        assert all(leaf.seen is entry for leaf, entry in zip(leaves, entries, strict=True))
        run(torch.randn(3, 2), entries[0])
        assert all(leaf.seen is entries[0] for leaf in leaves)


def test_the_nth_entry_is_the_output_of_the_nth_part_in_both_directions():
    chain = perturb(Chain([ActNorm(3), LUConv1x1(3), ActNorm(3)]))
    x = torch.randn(2, 3)
    outputs, _, trace = chain.forward_with_trace(x)
    assert torch.equal(trace[0], chain.parts[0](x)[0])
    assert trace[2] is outputs
    data, _, trace = chain.inverse_with_trace(outputs)
    assert torch.equal(trace[2], chain.parts[2].inverse(outputs)[0])
    assert trace[0] is data
    for prior in (None, LUConv1x1(3)):
        split = perturb(Split(ActNorm(2), prior))
        outputs, _, trace = split.forward_with_trace(x)
        assert torch.equal(trace[0], x if prior is None else split.prior(x)[0])
        assert torch.equal(trace[1], outputs[:, :2])
        data, _, trace = split.inverse_with_trace(outputs)
        assert torch.equal(trace[1], split.inner.inverse(outputs[:, :2])[0])
        assert trace[0] is data


def test_entries_keep_their_gradient():
    x = torch.randn(2, 3, requires_grad=True)
    _, _, trace = Chain([ActNorm(3), LUConv1x1(3)]).forward_with_trace(x)
    assert all(torch.autograd.grad(leaf.sum(), x, retain_graph=True)[0].any() for leaf in trace.leaves())


def test_map_and_leaves(trace):
    doubled = trace.map(lambda t: 2 * t)
    assert all(torch.equal(2 * a, b) for a, b in zip(trace.leaves(), doubled.leaves(), strict=True))
    assert len(trace) == 2
    assert isinstance(trace[1], Trace)
    assert len(list(trace)) == 2


def test_concat_resizes_to_every_entry(trace):
    extra = torch.rand(2, 5, 4, 4)
    joined = trace.concat(extra)
    assert [tuple(leaf.shape) for leaf in joined.leaves()] == [(2, 8, 4, 4), (2, 11, 2, 2), (2, 6, 8, 8)]
    same, coarse, fine = (leaf[:, -5:] for leaf in joined.leaves())
    assert torch.equal(same, extra)
    torch.testing.assert_close(coarse, torch.nn.functional.avg_pool2d(extra, 2))
    assert torch.equal(fine, extra.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert all(torch.equal(a[:, : b.shape[1]], b) for a, b in zip(joined.leaves(), trace.leaves(), strict=True))


def test_concat_repeats_vectors(trace):
    vector = torch.randn(2, 5)
    for leaf in trace.concat(vector).leaves():
        assert torch.equal(leaf[:, -5:, 1, 0], vector)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_resize_keeps_the_mean_of_whole_blocks(d):
    image = torch.rand(2, 3, *(6,) * d)
    small = resize(image, torch.zeros(2, 1, *(3,) * d))
    assert small.shape == (2, 3, *(3,) * d)
    torch.testing.assert_close(small.flatten(2).mean(2), image.flatten(2).mean(2))


def test_concat_mistakes(trace):
    with pytest.raises(ValueError, match="batch size 2, got 3; pass one row"):
        trace.concat(torch.randn(3, 5))
    with pytest.raises(ValueError, match="batch, channels"):
        trace.concat(torch.randn(2))
    with pytest.raises(ValueError, match=r"2 spatial dimensions or none.*\(2, 5, 4\)"):
        trace.concat(torch.randn(2, 5, 4))


def test_map_context_knows_nests():
    one = torch.ones(1)
    context = {"a": [one, (one, None)], "b": Trace([one])}
    mapped = map_context(lambda t: t + 1, context)
    assert mapped["a"][0] == mapped["a"][1][0] == mapped["b"][0] == 2
    assert mapped["a"][1][1] is None
    with pytest.raises(TypeError, match="got <class 'float'>"):
        map_context(lambda t: t, [1.0])
