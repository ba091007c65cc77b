"""The authors' network: their values, the laws of a bijector, and that wrong weights and sizes are named."""

import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from condflows.testing import check_bijector
from models.published import IGNORED, build, load_published

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "data" / "reference" / "full_glow_32x32"
TINY = {"image_size": (10, 12), "steps": (2,), "filters": 4}
TWO_LEVELS = {"image_size": (20, 24), "steps": (1, 2), "filters": 4}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def random_weights(image_size, steps, filters) -> dict[str, torch.Tensor]:
    """Make a state dict of the right shapes in which nothing is zero; permutations stay permutations."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, like in build(image_size, steps, filters)[1].state_dict().items():
        noise = torch.randn(like.shape, generator=generator)
        if key.endswith("w_p"):
            weights[key] = torch.eye(len(like))[torch.randperm(len(like), generator=generator)]
        elif key.endswith("s_sign"):
            weights[key] = noise.sign()
        elif key.endswith(("act_norm.scale", "linear_net.6.linear.bias")):
            weights[key] = (0.5 + 0.1 * noise.abs()) * noise.sign()  # scales of either sign, none near zero
        else:
            weights[key] = noise * like[0].numel() ** -0.5 if like.ndim > 1 and like[0].numel() > 1 else 0.1 * noise
        if "inv_conv" in key and key.endswith(("linear.bias", "linear.weight", "w_l", "w_u", "w_s")):
            weights[key] *= 0.1
    return weights


def images(image_size, batch=2, seed=1, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 3, *image_size, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.fixture
def reference():
    if not REFERENCE.is_dir():
        pytest.skip("shared data (values of the authors' implementation) is not there")
    return load_file(REFERENCE / "values.safetensors")


def load_reference(dtype=torch.float32):
    return load_published(REFERENCE / "weights.safetensors", (32, 32), (2, 2), filters=16).to(dtype)


@DTYPES
def test_log_likelihoods_are_the_authors(reference, dtype):
    flow, x_a, x_b = load_reference(dtype), reference["x_a"].to(dtype), reference["x_b"].to(dtype)
    for side, log_prob in zip(("source", "target"), flow.log_probs(x_a=x_a, x_b=x_b), strict=True):
        expected = (reference[f"{side}_log_p"] + reference[f"{side}_log_det"]).to(dtype)
        torch.testing.assert_close(log_prob, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(flow.log_prob(x_b, context=x_a), log_prob)


@DTYPES
def test_latents_of_each_level_are_the_authors(reference, dtype):
    flow = load_reference(dtype)
    trace = None
    for side, x in (("source", "x_a"), ("target", "x_b")):
        _, _, trace = getattr(flow, side).transform.forward_with_trace(reference[x].to(dtype), trace)
        # Squeeze, two steps, Split(prior, inner), Inverse; the latents are what the last coupling of a level returns.
        outer, inner = trace[2][2][:, 6:], trace[3][1][2][2]
        torch.testing.assert_close(outer, reference[f"{side}_z_0"].to(dtype), rtol=0, atol=5e-6)
        torch.testing.assert_close(inner, reference[f"{side}_z_1"].to(dtype), rtol=0, atol=5e-6)


@DTYPES
def test_samples_are_the_authors(reference, dtype):
    flow, x_a = load_reference(dtype), reference["x_a"].to(dtype)
    eps_0, eps_1 = reference["eps_0"].to(dtype), reference["eps_1"].to(dtype)
    noise = 0.7 * F.pixel_shuffle(torch.cat([F.pixel_shuffle(eps_1, 2), eps_0], dim=1), 2)
    sample = flow.transform_from_noise(noise, context=x_a)
    torch.testing.assert_close(sample, reference["sample"].to(dtype), rtol=0, atol=5e-6)
    back = flow.transform_to_noise(sample, context=x_a)
    torch.testing.assert_close(back, noise, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_sampling(reference):
    flow = load_reference()
    x_a = reference["x_a"].repeat(2, 1, 1, 1)
    samples, log_probs = flow.sample_and_log_prob(3, context=x_a, temperature=1.0)
    assert samples.shape == (2, 3, 3, 32, 32)
    again = flow.log_prob(samples.flatten(0, 1), context=x_a.repeat_interleave(3, 0))
    torch.testing.assert_close(log_probs.flatten(), again, rtol=1e-4, atol=1e-2)


def test_names_and_shapes_are_the_authors(reference):
    shapes = json.loads((REFERENCE / "config.json").read_text())["shapes"]
    own = build((32, 32), (2, 2), 16)[1].state_dict()
    # In their order too, so that the first key that differs is the first one of the network.
    assert [(key, list(value.shape)) for key, value in own.items()] == [
        (key, shape) for key, shape in shapes.items() if not key.endswith(IGNORED)
    ]


def test_source_obeys_the_laws_with_one_level():
    flow = load_published(random_weights(**TINY), **TINY).double()
    check_bijector(flow.source.transform, images(TINY["image_size"])[0])


def test_target_obeys_the_laws_with_one_level():
    flow = load_published(random_weights(**TINY), **TINY).double()
    x_a, x_b = images(TINY["image_size"])
    trace = flow.source.transform.forward_with_trace(x_a)[2]
    check_bijector(flow.target.transform, x_b, trace)


def test_two_levels_round_trip_with_cancelling_logabsdets():
    flow = load_published(random_weights(**TWO_LEVELS), **TWO_LEVELS).double()
    x_a, x_b = images(TWO_LEVELS["image_size"])
    trace = flow.source.transform.forward_with_trace(x_a)[2]
    for transform, x, context in ((flow.source.transform, x_a, None), (flow.target.transform, x_b, trace)):
        noise, logabsdet = transform(x, context)
        restored, inverse_logabsdet = transform.inverse(noise, context)
        assert noise.shape == x.shape
        assert (noise - x).abs().max() > 0.1
        torch.testing.assert_close(restored, x, rtol=0, atol=1e-9)
        torch.testing.assert_close(inverse_logabsdet, -logabsdet, rtol=1e-10, atol=0)


def test_a_batch_of_two_is_two_batches_of_one():
    flow = load_published(random_weights(**TWO_LEVELS), **TWO_LEVELS).double()
    x_a, x_b = images(TWO_LEVELS["image_size"])
    together = flow.log_probs(x_a=x_a, x_b=x_b)
    for i in range(2):
        alone = flow.log_probs(x_a[i : i + 1], x_b[i : i + 1])
        torch.testing.assert_close(tuple(value[i : i + 1] for value in together), alone, rtol=1e-12, atol=0)
    assert not torch.isclose(together[1][0], together[1][1])


def test_the_condition_reaches_the_photo():
    flow = load_published(random_weights(**TINY), **TINY).double()
    (x_a, x_b), other = images(TINY["image_size"]), images(TINY["image_size"], seed=2)[0]
    assert not torch.allclose(flow.log_prob(x_b, context=x_a), flow.log_prob(x_b, context=other))


def test_another_size_is_refused():
    flow = load_published(random_weights(**TINY), **TINY)
    x_a, x_b = images((20, 24), dtype=torch.float32)
    small_a, small_b = images(TINY["image_size"], dtype=torch.float32)
    message = re.escape("expects inputs of shape (batch, 3, 10, 12), got (2, 3, 20, 24)")
    with pytest.raises(ValueError, match=message):
        flow.sample(1, context=x_a)
    with pytest.raises(ValueError, match=message):
        flow.log_probs(x_a=x_a, x_b=x_b)
    with pytest.raises(ValueError, match=message):
        flow.log_prob(x_b, context=small_a)
    with pytest.raises(ValueError, match=message):
        flow.transform_from_noise(x_b, context=small_a)
    trace = flow.source.transform.forward_with_trace(x_a)[2]
    for context in (trace, None):
        with pytest.raises(ValueError, match=re.escape("expected a context of size (12, 5, 6), got ")):
            flow.target.log_prob(small_b, context)


@pytest.mark.parametrize("form", ["safetensors", "torch", "path as text", "checkpoint", "state_dict", "model"])
def test_files_give_what_the_state_dict_gives(tmp_path, form):
    weights = random_weights(**TINY)
    # What their files hold besides: it must neither be missed nor change anything.
    extra = {f"left_glow.blocks.0.flows.0.{name}": torch.zeros(12, 12)
             for name in ("inv_conv.u_mask", "inv_conv.l_mask", "inv_conv.l_eye")}
    extra["left_glow.blocks.0.flows.0.act_norm.initialized"] = torch.tensor(1, dtype=torch.uint8)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(weights | extra, path)
    elif form == "checkpoint":
        torch.save({"loss": 1.0, "model_state_dict": weights | extra, "optimizer_state_dict": {"state": {}}}, path)
    else:
        torch.save({form: weights | extra} if form in ("state_dict", "model") else weights | extra, path)
    flow = load_published(str(path) if form == "path as text" else path, **TINY)
    x_a, x_b = images(TINY["image_size"], dtype=torch.float32)
    assert torch.equal(flow.log_prob(x_b, x_a), load_published(weights, **TINY).log_prob(x_b, x_a))
    assert not flow.training


@pytest.mark.parametrize(("changed", "message"), [
    ({"filters": 5}, "left_glow.blocks.0.flows.0.coupling.net.0.weight: expected (5, 6, 3, 3), got (4, 6, 3, 3)"),
    ({"image_size": (20, 28)}, "right_glow.blocks.0.flows.0.act_norm.cond_net.linear_net.linear_net.0.weight: "
                               "expected (32, 120), got (32, 96)"),
    ({"steps": (2, 2)}, "left_glow.blocks.0.flows.1.act_norm.loc: expected (1, 12, 1, 1), got no such key"),
    ({"steps": (1, 1)}, "left_glow.blocks.1.flows.1.act_norm.loc: expected no such key, got (1, 24, 1, 1)"),
    ({"steps": (1,)}, "left_glow.blocks.0.gaussian.scale: expected (1, 24, 1, 1), got (1, 12, 1, 1)"),
    ({"image_size": (40, 40), "steps": (1, 2, 1)},
     "left_glow.blocks.1.gaussian.scale: expected (1, 24, 1, 1), got (1, 48, 1, 1)"),
])  # fmt: skip
def test_the_first_key_that_differs_is_named(changed, message):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        load_published(random_weights(**TWO_LEVELS), **TWO_LEVELS | changed)
    assert "pass the image_size, steps and filters" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_and_unexpected_keys_are_named():
    weights = random_weights(**TINY)
    lost = "right_glow.blocks.0.flows.1.inv_conv.w_p"
    tensor = weights.pop(lost)
    with pytest.raises(ValueError, match=re.escape(f"{lost}: expected (12, 12), got no such key; 1 keys differ")):
        load_published(weights, **TINY)
    other = f"renamed.{lost}"
    with pytest.raises(ValueError, match=re.escape(f"{lost}: expected (12, 12), got no such key; 2 keys differ")):
        load_published(weights | {other: tensor}, **TINY)
    with pytest.raises(ValueError, match=re.escape(f"{other}: expected no such key, got (12, 12); 1 keys differ")):
        load_published(weights | {lost: tensor, other: tensor}, **TINY)


def test_the_prefix_of_a_wrapper_is_left_out():
    weights = random_weights(**TINY)
    wrapped = load_published({f"module.{key}": value for key, value in weights.items()}, **TINY)
    assert all(torch.equal(value, wrapped.state_dict()[key])
               for key, value in load_published(weights, **TINY).state_dict().items())


@pytest.mark.parametrize("name", ["damaged.safetensors", "damaged.pt", "empty.safetensors", "empty.pt", "code.pt",
                                  "cut.pt"])
def test_an_unreadable_file_is_named(tmp_path, name):
    path = tmp_path / name
    if name.startswith("damaged"):
        path.write_bytes(b"not weights at all" * 10)
    elif name.startswith("empty"):
        path.touch()
    elif name == "code.pt":  # anything but tensors may run code when it is read
        torch.save({"weights": Path("x")}, path)
    elif name == "cut.pt":
        torch.save(random_weights(**TINY), path)
        path.write_bytes(path.read_bytes()[:1000])
    message = re.escape(f"expected a readable .safetensors or torch file in {path}, got ")
    with pytest.raises(ValueError, match=message) as raised:
        load_published(path, **TINY)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=re.escape(f"expected weights in {tmp_path / name}, but there is no")):
        load_published(tmp_path / name, **TINY)


@pytest.mark.parametrize("content", [{"epoch": 3, "loss": 0.1}, [torch.zeros(2)], torch.zeros(2)])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    message = re.escape(f"expected names and tensors in {path}, got a ") + r".*; pass the state dict"
    with pytest.raises(ValueError, match=message):
        load_published(path, **TINY)
    if isinstance(content, dict):
        with pytest.raises(ValueError, match="expected names and tensors in weights, got a dict"):
            load_published(content, **TINY)


@pytest.mark.parametrize(("image_size", "steps", "at_least"), [
    ((8, 8), (1,), 10), ((10, 11), (1,), 10), ((16, 32), (1, 1), 20), ((22, 24), (1, 1), 20), ((32,), (1, 1), 20),
])  # fmt: skip
def test_sizes_that_the_nets_cannot_take_are_refused(image_size, steps, at_least):
    message = f"multiples of {2 ** len(steps)} and at least {at_least} for {len(steps)} levels, got {image_size}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_published({}, image_size, steps)
