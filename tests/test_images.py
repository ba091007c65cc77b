import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condflows import ActNorm, Flow, bits_per_dim, dequantize


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), st.integers(0, 2**16))
def test_dequantize_stays_in_its_bin(values, seed):
    images = torch.tensor(values, dtype=torch.uint8)
    x = dequantize(images, generator=torch.Generator().manual_seed(seed))
    assert torch.equal((x * 256).floor().to(torch.uint8), images)
    assert x.dtype == torch.float32
    assert x.max() < 1


def test_dequantize_never_rounds_up_to_the_next_bin(monkeypatch):
    almost_one = torch.nextafter(torch.ones(()), torch.zeros(()))
    monkeypatch.setattr(torch, "rand", lambda shape, **kwargs: almost_one.expand(shape))
    images = torch.arange(256, dtype=torch.uint8)
    assert torch.equal((dequantize(images) * 256).floor().to(torch.uint8), images)


def test_dequantize_is_uniform_and_reproducible():
    images = torch.full((100_000,), 7, dtype=torch.int64)
    noise = dequantize(images) * 256 - 7
    assert abs(noise.mean().item() - 0.5) < 0.01
    assert abs(noise.std().item() - 1 / math.sqrt(12)) < 0.01
    draws = [dequantize(images, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_other_depths():
    x = dequantize(torch.tensor([0, 31]), bits=5)
    assert torch.equal((x * 32).floor(), torch.tensor([0.0, 31.0]))


def test_sixteen_bits():
    images = torch.tensor([0, 65535], dtype=torch.uint16)
    assert torch.equal((dequantize(images, bits=16) * 65536).floor(), torch.tensor([0.0, 65535.0]))
    with pytest.raises(ValueError, match="1 to 16 bits"):
        dequantize(torch.tensor([0]), bits=24)


@pytest.mark.parametrize(("images", "error", "message"), [
    (torch.rand(3), TypeError, "integer images, got torch.float32"),
    (torch.tensor([True]), TypeError, "got torch.bool"),
    ([1, 2], TypeError, "expects a tensor, got list"),
    (torch.tensor([256]), ValueError, r"\[0, 256\), got 256 to 256"),
    (torch.tensor([-1, 3]), ValueError, "got -1 to 3"),
])
def test_dequantize_mistakes(images, error, message):
    with pytest.raises(error, match=message):
        dequantize(images)


def test_bits_per_dim_of_known_densities():
    assert bits_per_dim(torch.tensor([0.0]), 12) == 8
    # A density of 256 on one bin of every value is certainty: 0 bits.
    assert bits_per_dim(torch.tensor([12 * math.log(256)]), (3, 2, 2)).item() == pytest.approx(0, abs=1e-6)
    flow = Flow(ActNorm(3))
    x = torch.rand(4, 3, 2, 2)
    nats = 0.5 * x.square().flatten(1).sum(1) + 6 * math.log(2 * math.pi)
    torch.testing.assert_close(bits_per_dim(flow.log_prob(x), x.shape[1:]), 8 + nats / math.log(2) / 12)
    with pytest.raises(ValueError, match="at least one dimension, got 0"):
        bits_per_dim(torch.zeros(1), 0)


def test_bits_per_dim_bounds_the_entropy_of_integers():
    """Check that a uniform density over two of the 256 values costs one bit."""
    images = torch.randint(0, 2, (50,))
    x = dequantize(images)
    log_prob = torch.where(x < 2 / 256, math.log(128), -math.inf)
    torch.testing.assert_close(bits_per_dim(log_prob, 1), torch.ones(50))
