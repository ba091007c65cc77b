"""The models of the paper and our own: which operation reads what, their sizes, and pix2pix.

Flow matching has a file of its own, test_flow_matching.py.
"""

import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

import condflows
import models
import train
from condflows import ActNorm, AffineCoupling, LUConv1x1
from condflows.conditioners import CouplingConditioner, GlobalConditioner
from condflows.testing import perturb
from models import MODELS
from models.dual_glow import OfLatents
from streets.config.kinds import WITHOUT_LIKELIHOOD
from streets.training.adversarial import Adversarial

FLOWS = [name for name in MODELS if name not in WITHOUT_LIKELIHOOD]
PAIRED = ["full_glow", "dual_glow", "c_flow"]


def tiny(name, **options):
    if name in FLOWS:
        return perturb(MODELS[name](steps=(2, 1), width=8, **options))
    return MODELS[name](depth=5, width=4) if name == "pix2pix" else perturb(MODELS[name](width=4))


def test_names_and_signatures():
    assert list(MODELS) == ["full_glow", "c_glow_v1", "c_glow_v2", "dual_glow", "c_flow", "glow", "pix2pix",
                            "encoded_glow", "flow_matching"]
    for name in FLOWS:
        parameters = inspect.signature(MODELS[name]).parameters
        assert list(parameters)[:3] == ["channels", "steps", "width"]
        expected = {"c_glow_v1": ((8, 8, 8), 104), "encoded_glow": ((8, 8, 8), 256)}.get(name, ((16,) * 4, 512))
        assert (parameters["steps"].default, parameters["width"].default) == expected
        assert parameters["channels"].default == 3


@pytest.mark.parametrize("name", ["full_glow", "c_glow", "dual_glow", "c_flow", "glow", "pix2pix", "encoded_glow",
                                  "flow_matching"])
def test_a_model_is_one_short_file_in_the_same_order(name):
    text = (Path(models.__file__).parent / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 131
    if name not in WITHOUT_LIKELIHOOD:
        head = text.split('"""')[1]
        operations = [line.split()[0] for line in head.splitlines() if line.startswith("    ")]
        assert operations == [*(["encoder"] if name == "encoded_glow" else []), "actnorm", "1x1", "coupling", "priors"]


def conditional(flow):
    """List the kinds of the target's operations that read a context."""
    kinds = set()
    for module in flow.modules():
        if isinstance(module, (ActNorm, LUConv1x1)) and module.conditioner is not None:
            kinds.add(type(module).__name__ + (" map" if not isinstance(module.conditioner, GlobalConditioner) else ""))
        if isinstance(module, AffineCoupling):
            net = module.conditioner
            if isinstance(net, OfLatents) or (isinstance(net, CouplingConditioner) and net.context_channels):
                kinds.add(type(net).__name__)
    return kinds


def test_which_operation_reads_what():
    every = {"ActNorm", "LUConv1x1", "CouplingConditioner"}
    expected = {"full_glow": every, "c_glow_v1": every, "c_glow_v2": every, "dual_glow": {"OfLatents", "ActNorm map"},
                "c_flow": {"CouplingConditioner"}, "glow": set(),
                "encoded_glow": {"CouplingConditioner", "ActNorm map"}}
    for name in FLOWS:
        model = tiny(name)
        assert conditional(model.target if name in PAIRED else model) == expected[name], name
        if name in PAIRED:
            assert conditional(model.source) == set()


@pytest.mark.parametrize("name", MODELS)
def test_the_condition_matters_except_to_glow(name):
    model, x_a = tiny(name).eval(), torch.rand(2, 3, 32, 32)
    one, same, other = (model.sample(2, context, 1.0, torch.Generator().manual_seed(0)) for context in
                        (x_a, x_a, x_a.flip(1)))
    assert one.shape == (2, 2, 3, 32, 32)
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (name == "glow")
    assert not torch.equal(one[:, 0], one[:, 1])


@pytest.mark.parametrize("name", FLOWS)
def test_flows_are_flows_at_any_size(name):
    model = tiny(name).double()
    condflows.initialize(model, torch.rand(4, 3, 8, 16, dtype=torch.float64),
                         context=torch.rand(4, 3, 8, 16, dtype=torch.float64))
    for size in ((8, 16), (16, 12)):
        x_a, x_b = torch.rand(2, 2, 3, *size, dtype=torch.float64)
        noise = model.transform_to_noise(x_b, x_a)
        assert noise.shape == x_b.shape
        torch.testing.assert_close(model.transform_from_noise(noise, x_a), x_b, rtol=0, atol=1e-9)
        torch.testing.assert_close(model.log_prob(x_b, x_a)[1:], model.log_prob(x_b[1:], x_a[1:]))


def test_dual_glows_priors_are_gaussians_of_the_sources_latents():
    """Build one level and no steps: the photo's log-density is that of a Gaussian with parameters of its nets."""
    model = perturb(MODELS["dual_glow"](steps=(0, 0), width=8)).double()
    x_a, x_b = torch.rand(2, 3, 3, 8, 8, dtype=torch.float64)
    squeezed_a, squeezed_b = (nn.functional.pixel_unshuffle(x, 2) for x in (x_a, x_b))
    split = model.target.transform.parts[1]
    top = split.inner.parts[1]
    raw = split.prior.conditioner.net(squeezed_a[:, 6:])
    log_scale, shift = split.prior.affine(*raw.chunk(2, dim=1))
    expected = (torch.distributions.Normal(-shift / log_scale.exp(), (-log_scale).exp())
                .log_prob(squeezed_b[:, 6:]).flatten(1).sum(1))
    inner_a, inner_b = (nn.functional.pixel_unshuffle(x[:, :6], 2) for x in (squeezed_a, squeezed_b))
    latents = model.source.transform.parts[1].inner.parts[1](inner_a)[0]
    noise, logabsdet = top(inner_b, latents)
    expected = expected + torch.distributions.Normal(0, 1).log_prob(noise).flatten(1).sum(1) + logabsdet
    torch.testing.assert_close(model.log_prob(x_b, x_a), expected)


def test_c_glows_nets_have_the_papers_sizes():
    for name, features, context_width, width in (("c_glow_v1", 26, 52, 104), ("c_glow_v2", 10, 20, 512)):
        model = MODELS[name](steps=(1, 1))
        nets = [m for m in model.modules() if isinstance(m, GlobalConditioner)]
        assert {net.net[0].out_channels for net in nets} == {context_width}
        assert {next(m for m in net.net if isinstance(m, nn.Linear)).out_features for net in nets} == {features}
        couplings = [m for m in model.modules() if isinstance(m, CouplingConditioner)]
        assert {net.net[0].out_channels for net in couplings} == {width}
        assert {net.encoder[0].in_channels for net in couplings} == {3}


def test_pix2pix_has_the_papers_sizes():
    model = MODELS["pix2pix"]()
    sizes = [sum(p.numel() for p in net.parameters()) for net in (model.generator, model.discriminator)]
    assert [round(size / 1e6, 2) for size in sizes] == [54.41, 2.77]  # 54.414 and 2.769 million in the authors' code
    # The first output of the discriminator sees 70x70 pixels, less what the padding takes.
    pixels = torch.rand(1, 6, 256, 256, requires_grad=True)
    judged = model.discriminator.eval()(2 * pixels - 1)
    assert judged.shape == (1, 1, 30, 30)
    judged[0, 0, 15, 15].backward()
    seen = pixels.grad.abs().sum(1)[0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [70, 70]


def test_pix2pix_losses_are_the_papers():
    model = MODELS["pix2pix"](depth=5, width=4).eval()
    x_a, x_b, fake = torch.rand(3, 2, 3, 32, 32)
    real, made = (torch.sigmoid(model.discriminator(2 * torch.cat([x_a, x], 1) - 1)) for x in (x_b, fake))
    expected = -(real.log().mean() + (1 - made).log().mean()) / 2
    torch.testing.assert_close(model.discriminator_loss(x_a, x_b, fake), expected)
    adversarial, l1 = model.generator_losses(x_a, x_b, fake)
    torch.testing.assert_close(adversarial, -made.log().mean())
    torch.testing.assert_close(l1, 2 * (fake - x_b).abs().mean())
    assert model.l1_weight == 100


def test_a_step_of_pix2pix_moves_each_net_by_its_own_loss():
    config = train.parse(["--model", "pix2pix"])
    model = MODELS["pix2pix"](depth=5, width=4)
    objective = Adversarial(model, config)
    assert [o.defaults["betas"] for o in objective.optimizers] == [(0.5, 0.999)] * 2
    assert [o.defaults["lr"] for o in objective.optimizers] == [2e-4] * 2
    x_a, x_b = torch.rand(2, 2, 3, 32, 32)
    fake = model.generate(x_a)
    model.discriminator_loss(x_a, x_b, fake).backward()
    assert all(p.grad is None for p in model.generator.parameters())
    model.zero_grad()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    figures = {name: float(value) for name, value in objective.update([(x_a, x_b)]).items()}
    assert figures["loss"] == pytest.approx(figures["adversarial"] + 100 * figures["l1"], rel=1e-5)
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_pix2pix_samples():
    model, x_a = tiny("pix2pix").eval(), torch.rand(2, 3, 32, 64)
    state = torch.random.get_rng_state()
    samples = model.sample(3, x_a, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), state)  # a sample's dropout leaves the global noise alone
    assert samples.shape == (2, 3, 3, 32, 64)
    assert 0 <= samples.min() <= samples.max() <= 1
    with pytest.raises(ValueError, match="no temperature"):
        model.sample(1, x_a, temperature=0.5)
    with pytest.raises(ValueError, match="multiples of 32"):
        model.sample(1, torch.rand(1, 3, 32, 48))


def test_encoded_glow_reads_labels():
    model = perturb(MODELS["encoded_glow"](steps=(1, 1), width=8, classes=34), 0.05).double()
    labels = torch.randint(34, (2, 1, 16, 32), dtype=torch.uint8)
    x_b = torch.rand(2, 3, 16, 32, dtype=torch.float64)
    condflows.initialize(model, x_b, context=labels)
    noise = model.transform_to_noise(x_b, labels)
    torch.testing.assert_close(model.transform_from_noise(noise, labels), x_b, rtol=0, atol=1e-9)
    unknown = torch.full_like(labels, 255)
    assert not torch.allclose(model.log_prob(x_b, unknown), model.log_prob(x_b, labels))
    # A class that is swapped with another is another condition, however alike their colours are.
    swapped = torch.where(labels == 13, 17, torch.where(labels == 17, 13, labels))
    assert not torch.allclose(model.log_prob(x_b, swapped), model.log_prob(x_b, labels))
    # Every prior and actnorm reads the map of its own level.
    encoder = model._embedding_net
    assert [tuple(level.shape[1:]) for level in encoder(labels)] == [(32, 8, 16), (48, 4, 8)]
    with pytest.raises(ValueError, match="expects features for 5 levels"):
        MODELS["encoded_glow"](steps=(1,) * 5)
