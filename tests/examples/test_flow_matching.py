"""Flow matching: its loss and its sampler against paths and minima that are known, its training and its options."""

import pytest
import torch
from run_helpers import make_run, rows
from torch import nn

import train
from condflows.testing import perturb
from models import MODELS
from streets.runs.run import Run
from streets.runs.weights import load_model
from streets.training.objectives import make_objective

SIZE = (8, 16)
OPTIONS = ["--model", "flow_matching", "--width", "4", "--image-size", "8", "16", "--batch-size", "4", "--generated",
           "16", "--validate-every", "1", "--device", "cpu", "--warmup-steps", "0", "--no-linear-decay", "--ema", "0.5"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def labels(count=2):
    return torch.randint(34, (count, 1, *SIZE), generator=generator(), dtype=torch.uint8)


def tiny(**options):
    return perturb(MODELS["flow_matching"](width=4, **{"classes": 34} | options), 0.1).double()


class Known(nn.Module):
    """A velocity that is a function of the points and the time."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, points, time, maps):
        return self.function(points, time[:, None, None, None])


def with_velocity(function):
    model = tiny()
    model.velocity = Known(function)
    return model


MEAN, DEVIATION = 0.25, 0.4


def of_normal(points, time):
    """Compute the velocity of paths to normal data: its mean at a point and a time."""
    slope = (time * DEVIATION**2 - (1 - time)) / ((1 - time)**2 + (time * DEVIATION)**2)
    return MEAN + slope * (points - time * MEAN)


def test_the_velocity_of_one_point_leads_to_it():
    point = torch.rand(3, *SIZE, dtype=torch.float64)
    model = with_velocity(lambda points, time: (2 * point - 1 - points) / (1 - time))
    samples = model.sample(3, labels())
    torch.testing.assert_close(samples, point.expand(2, 3, 3, *SIZE), rtol=0, atol=1e-12)
    times = torch.tensor([0.1, 0.9], dtype=torch.float64)
    errors = model(point.expand(2, 3, *SIZE), labels(), torch.randn(2, 3, *SIZE, dtype=torch.float64), times)
    torch.testing.assert_close(errors, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-20)


def test_the_least_loss_of_normal_data():
    """Compare with the variance of photo - noise given their mixture, from the covariance of the two."""
    count = 4000
    photos = MEAN + DEVIATION * torch.randn(count, 3, *SIZE, dtype=torch.float64, generator=generator())
    noise = torch.randn(count, 3, *SIZE, dtype=torch.float64, generator=generator(1))
    for time in (0.1, 0.5, 0.9):
        of_points = (1 - time)**2 + (time * DEVIATION)**2
        shared = time * DEVIATION**2 - (1 - time)
        least = DEVIATION**2 + 1 - shared**2 / of_points
        times = torch.full((count,), time, dtype=torch.float64)
        given = (photos + 1) / 2, labels(1).expand(count, -1, -1, -1), noise, times
        found = with_velocity(of_normal)(*given)
        assert found.shape == (count,)
        assert float(found.mean()) == pytest.approx(least, rel=5e-3)
        shifted = with_velocity(lambda points, time: of_normal(points, time) + 0.3)(*given)
        assert float((shifted - found).mean()) == pytest.approx(0.3**2, abs=5e-3)


def test_samples_of_normal_data_are_normal():
    """The paths are mean + deviation * noise then; the temperature scales the noise."""
    model = with_velocity(of_normal)
    noise = torch.randn(2, 4, 3, *SIZE, dtype=torch.float64, generator=generator())

    def error(temperature):
        expected = (MEAN + temperature * DEVIATION * noise + 1) / 2
        return float((model.sample(4, labels(), temperature, generator()) - expected.clamp(0, 1)).abs().max())

    coarse = [error(temperature) for temperature in (1.0, 0.3, 0.0)]
    assert max(coarse) < 2e-3
    model.solver_steps = 40
    assert error(0.3) < 0.3 * coarse[1]  # the midpoint method is of second order


def test_samples():
    model, given = tiny(), labels()
    state = torch.random.get_rng_state()
    samples = model.sample(3, given, generator=generator())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert samples.shape == (2, 3, 3, *SIZE)
    assert 0 <= samples.min() < samples.max() <= 1
    assert torch.equal(samples, model.sample(3, given, generator=generator()))
    assert not torch.equal(samples, model.sample(3, given, generator=generator(1)))
    torch.testing.assert_close(samples[:1], model.sample(3, given[:1], generator=generator()))
    cold = model.sample(3, given, 0.0)
    assert torch.equal(cold, cold[:, :1].expand_as(cold))
    assert not torch.allclose(cold[0], cold[1])


def test_guidance_leads_away_from_samples_without_labels():
    model, given = tiny(), labels()
    plain, none, off, on = (model.sample(2, *of, generator=generator()) for of in (
        [given], [torch.full_like(given, 255)], [given, 1.0], [given]))
    assert torch.equal(plain, off)
    assert torch.equal(plain, on)
    guided = {weight: model.sample(2, given, generator=generator(), guidance=weight) for weight in (0.0, -1.0, 1.0)}
    assert torch.equal(guided[0.0], plain)
    torch.testing.assert_close(guided[-1.0], none)
    away = [(guided[1.0] - plain).flatten(), (plain - none).flatten()]
    assert torch.nn.functional.cosine_similarity(*away, dim=0) > 0.9


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match="multiples of 8, got \\(8, 12\\)"):
        tiny().sample(1, torch.zeros(1, 1, 8, 12, dtype=torch.uint8))
    images = tiny(classes=None)
    assert images.sample(1, torch.rand(1, 3, *SIZE, dtype=torch.float64)).shape == (1, 1, 3, *SIZE)
    with pytest.raises(ValueError, match="guidance only where it is given labels, got 1"):
        images.sample(1, torch.rand(1, 3, *SIZE, dtype=torch.float64), guidance=1.0)
    with pytest.raises(ValueError, match="expects features for 5 levels"):
        MODELS["flow_matching"](depth=5)


def test_a_validation_is_the_same_for_any_batches():
    model = tiny()
    objective = make_objective(model, train.parse(["--model", "flow_matching"]))
    x_b, given = torch.rand(4, 3, *SIZE, dtype=torch.float64), labels(4)
    whole = objective.validate(given, x_b, model)
    assert whole.shape == (4,)
    torch.testing.assert_close(whole, torch.cat([objective.validate(given[i:i + 1], x_b[i:i + 1], model)
                                                 for i in range(4)]))


def test_a_step_is_random_but_for_the_seed():
    model = tiny().float()
    objective = make_objective(model, train.parse(["--model", "flow_matching"]))
    x_b, given = torch.rand(4, 3, *SIZE), labels(4)
    torch.manual_seed(0)
    losses = [objective.figures(given, x_b)["loss"].item() for _ in range(2)]
    torch.manual_seed(0)
    assert objective.figures(given, x_b)["loss"].item() == losses[0] != losses[1]
    objective.bf16 = True
    torch.manual_seed(0)
    assert 0 < abs(objective.figures(given, x_b)["loss"].item() - losses[0]) < 0.02


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.main([*OPTIONS, "--epochs", "2", "--nets", "bfloat16", "--out", str(whole)])
    train.main([*OPTIONS, "--epochs", "1", "--nets", "bfloat16", "--out", str(parts)])
    train.main(["--out", str(parts), "--resume", "--epochs", "2"])
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    errors = [[row["velocity_error"] for row in rows(out, "val")] for out in (parts, whole)]
    assert errors[0] == errors[1] != ["", ""]
    model = Run(whole).model
    assert model.velocity.in_bfloat16
    assert model.encoder.in_bfloat16


def test_settings_of_its_own():
    config = train.parse(["--model", "flow_matching"])
    assert (config.steps, config.temperature, config.label_dropout, config.guidance) == (None, 0.9, 0.1, 1.0)
    assert config.given_labels
    of_photos = train.parse(["--model", "flow_matching", "--direction", "photo2label"])
    assert (of_photos.given_labels, of_photos.label_dropout, of_photos.guidance) == (False, 0.0, 0.0)


def test_a_run_guides_its_samples(tmp_path):
    run = Run(make_run(tmp_path / "run", "flow_matching", label_dropout=0.1, guidance=1.0))
    given = torch.randint(34, (1, 1, *run.image_size), dtype=torch.uint8)
    plain, guided = (run.sample(1, given, 1.0, generator(), weight) for weight in (0.0, 1.0))
    assert not torch.equal(plain, guided)
    assert torch.equal(guided, load_model(run.path, "best.safetensors").sample(1, given, 1.0, generator(), 1.0))
