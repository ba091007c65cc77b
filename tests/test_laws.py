"""Every law on the entries of the registry."""

import pytest
import torch
from helpers import make_context
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import COSTLY_LAWS, ENTRIES

from condflows import Bijector
from condflows.testing import batches, check_bijector, perturb


def strategy(entry):
    return batches(entry.channels, entry.sizes, multiples=1 if entry.heavy else 2, max_batch=2 if entry.heavy else 3)


@pytest.mark.parametrize("name", COSTLY_LAWS)
def test_laws(name):
    entry = ENTRIES[name]

    @settings(max_examples=2 if entry.heavy else 6)
    @given(inputs=strategy(entry), seed=st.integers(0, 2**16))
    def check(inputs, seed):
        torch.manual_seed(seed)
        check_bijector(entry.build(), inputs, make_context(entry, inputs, seed))

    check()


@pytest.mark.parametrize("name", ENTRIES)
def test_float32_and_autocast(name):
    """Check round trips in float32, and that under bfloat16 autocast only the conditioners lose precision."""
    entry = ENTRIES[name]
    bijector = perturb(entry.build(), 0.1)
    inputs = torch.randn(2, entry.channels, *entry.sizes)
    context = make_context(entry, inputs, 0, torch.float32)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs, logabsdet = bijector(inputs, context)
            restored, inverse_logabsdet = bijector.inverse(outputs, context)
        assert outputs.dtype == logabsdet.dtype == torch.float32
        if autocast and "nflows" in name:
            continue  # nflows' couplings multiply in bf16
        # Behind several couplings the inverse's nets see inputs that differ by a float32 rounding, and may round them
        # to another bf16 number.
        tolerance = 2e-2 if autocast and entry.heavy else 1e-4
        torch.testing.assert_close(restored, inputs, rtol=1e-3, atol=tolerance)
        torch.testing.assert_close(inverse_logabsdet, -logabsdet, rtol=1e-3, atol=10 * tolerance)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_bijector_takes_a_context_and_an_empty_batch(name):
    entry = ENTRIES[name]
    bijector = entry.build()
    inputs = torch.randn(2, entry.channels, *entry.sizes)
    if entry.context is None and isinstance(bijector, Bijector):
        plain = bijector(inputs)[0]
        assert torch.equal(bijector(inputs, torch.randn(2, 7))[0], plain)
    if "an nflows" in name:
        return  # nflows' own couplings do not take empty batches
    empty = inputs[:0]
    outputs, logabsdet = bijector(empty, make_context(entry, empty, 0, torch.float32))
    assert outputs.shape[0] == 0
    assert logabsdet.shape == (0,)


@pytest.mark.parametrize("name", [name for name in ENTRIES if "nflows composite" not in name])
def test_traces_in_both_directions(name):
    entry = ENTRIES[name]
    bijector = entry.build()
    inputs = torch.randn(2, entry.channels, *entry.sizes)
    context = make_context(entry, inputs, 0, torch.float32)
    outputs, logabsdet, trace = bijector.forward_with_trace(inputs, context)
    plain_outputs, plain_logabsdet = bijector(inputs, context)  # merged where nothing is recorded
    torch.testing.assert_close(outputs, plain_outputs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logabsdet, plain_logabsdet, rtol=1e-5, atol=1e-5)
    restored, inverse_logabsdet, inverse_trace = bijector.inverse_with_trace(outputs, context)
    torch.testing.assert_close(restored, inputs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(inverse_logabsdet, -logabsdet, rtol=1e-3, atol=1e-4)
    leaves = [list(t.leaves()) if hasattr(t, "leaves") else [t] for t in (trace, inverse_trace)]
    assert len(leaves[0]) == len(leaves[1])
