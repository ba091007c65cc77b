import math
import warnings
from itertools import islice

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.optim.lr_scheduler import ConstantLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import condflows as cf
from condflows.conditioners import CouplingConditioner, Embed, MLPConditioner


def affine_flow(features=1, size=1, dtype=None):
    """A flow that can be exactly x = a c + b + s noise, when its net is linear."""
    return cf.Flow(cf.ActNorm(size, torch.nn.Linear(features, 2 * size)), shape=(size,)).to(dtype)


def line(count, seed=0):
    """Return x given c with mean 2 c - 1 and deviation 0.5, in float32."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.rand(count, 1, generator=generator)
    return 2 * context - 1 + 0.5 * torch.randn(count, 1, generator=generator), context


def coupled(context=1):
    return cf.Flow(cf.Chain([cf.glow_step(2, coupling=MLPConditioner(1, 2, context, hidden=(16,)))
                             for _ in range(2)]), shape=(2,))


def plane(count):
    context = torch.rand(count, 1)
    return torch.cat([context + 0.3 * torch.randn(count, 1), torch.randn(count, 1)], 1), context


def run(flow, *data, **options):
    return cf.fit(flow, *data, **{"progress": False, "epochs": 3, **options})


def constant(optimizer, steps):
    return ConstantLR(optimizer, 1.0)


def state(flow):
    return {name: value.clone() for name, value in flow.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_maximum_likelihood_of_a_line():
    torch.manual_seed(0)
    flow = affine_flow()
    history = run(flow, *line(4000), epochs=30, learning_rate=2e-2)
    x, context = line(100_000, seed=1)
    truth = float(-Normal(2 * context - 1, 0.5).log_prob(x).mean())
    assert float(-flow.log_prob(x, context).mean()) == pytest.approx(truth, abs=5e-3)
    assert len(history.train) == len(history.held_out) == len(history.learning_rates) == 30
    assert history.train[-1] == pytest.approx(truth, abs=0.05)


LOADERS = {
    "loader": lambda x, c: DataLoader(TensorDataset(x, c), 50, shuffle=True),
    "list of batches": lambda x, c: Batches([(x[i:i + 50], c[i:i + 50]) for i in range(0, 400, 50)]),
    "arrays": lambda x, c: DataLoader(TensorDataset(x, c), 50, collate_fn=lambda rows: (
        np.stack([row[0].double() for row in rows]), np.stack([row[1].double() for row in rows]))),
}


class Batches:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


@pytest.mark.parametrize("name", LOADERS)
def test_loaders(name):
    x, context = line(400)
    history = run(flow := affine_flow(), LOADERS[name](x, context), epochs=20, learning_rate=5e-2)
    assert history.held_out == []
    assert history.best_epoch is None
    assert -flow.log_prob(x, context).mean() < 0.8  

class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from zip(*line(50), strict=True)


@pytest.mark.parametrize("source", [lambda: DataLoader(Endless(), 50), lambda: iter(lambda: line(50), None)])
def test_endless_data(source):
    history = run(affine_flow(), source(), epochs=4, steps_per_epoch=5, held_out=line(100))
    assert len(history.held_out) == 4
    with pytest.raises(ValueError, match="pass steps_per_epoch"):
        run(affine_flow(), source())


def test_an_iterator_that_ends():
    batches = iter([line(4096), *[line(50)] * 10])  # the first initializes
    with pytest.raises(ValueError, match="expects 4 batches an epoch, got 2 before the end"):
        run(affine_flow(), batches, steps_per_epoch=4, epochs=10)


def test_a_source_that_ends_starts_anew_within_an_epoch():
    assert len(run(affine_flow(), DataLoader(TensorDataset(*line(100)), 50), steps_per_epoch=5).train) == 3


def test_arrays_and_dtypes():
    x, context = (part.double().numpy() for part in line(400))
    flow = affine_flow()
    run(flow, x, context)
    assert next(flow.parameters()).dtype == torch.float32
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(flow, x[::-1], context.T.T[::-1])
    double = affine_flow(dtype=torch.float64)
    run(double, *line(400))
    assert all(torch.isfinite(value).all() for value in double.state_dict().values())


def test_classes_as_context():
    labels = torch.randint(3, (600,))
    x = labels[:, None] + 0.1 * torch.randn(600, 2)
    step = cf.glow_step(2, coupling=Embed(3, 4).before(MLPConditioner(1, 2, 4, hidden=(16,))))
    run(cf.Flow(step, shape=(2,)), x, labels)


def test_no_context_and_several_contexts():
    run(coupled(context=0), plane(300)[0])

    class Both(torch.nn.Linear):
        def forward(self, context):
            return super().forward(torch.cat([context["a"], context["b"][0]], 1))

    flow = cf.Flow(cf.ActNorm(1, Both(2, 2)), shape=(1,))
    x, context = line(300)
    run(flow, x, {"a": context, "b": (context,)})


def test_paired_flows():
    def step(c, context=0):
        return cf.glow_step(c, CouplingConditioner(c, 8, context))

    pair = cf.PairedFlow(cf.multiscale(1, (1,), step), cf.multiscale(1, (1,), lambda c: step(c, 4)))
    x_a, x_b = torch.randn(2, 40, 1, 4, 4)
    before = state(pair)
    run(pair, x_b, x_a, batch_size=10)
    after = state(pair)
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("log_scale"))

    def joint(pair, x_b, x_a):
        log_a, log_b = pair.log_probs(x_a=x_a, x_b=x_b)
        return -log_b - 0.1 * log_a

    assert run(pair, x_b, x_a, loss=joint, initialized=True).train[-1] < 100


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_flow_ends_with_the_best_weights(ema):
    torch.manual_seed(0)
    apart = plane(500)
    history = run(flow := coupled(), *plane(60), held_out=apart, epochs=30, learning_rate=3e-2, batch_size=20,
                  schedule=constant, patience=None, ema=ema, steps_per_epoch=12)
    assert history.best_epoch < 25  # so it overfits
    assert float(-flow.log_prob(*apart).mean()) == pytest.approx(min(history.held_out), abs=1e-5)


def test_patience():
    torch.manual_seed(0)
    history = run(coupled(), *plane(60), held_out=plane(500), epochs=200, learning_rate=3e-2, batch_size=10,
                  schedule=constant, patience=4)
    assert len(history.train) == history.best_epoch + 5 < 200


def test_without_a_held_out_part_the_last_weights_stay():
    seen = []

    def loss(flow, inputs, context):
        seen.append(state(flow))
        return -flow.log_prob(inputs, context)

    history = run(flow := affine_flow(), *line(100), loss=loss, held_out=0, learning_rate=0.1, batch_size=100,
                  optimizer=torch.optim.SGD, schedule=constant)
    assert not history.held_out
    assert not same(seen[-1], state(flow))


def test_the_learning_rate_rises_and_falls():
    history = run(affine_flow(), *line(1000), epochs=10, learning_rate=0.1, batch_size=9)
    assert max(history.learning_rates) == history.learning_rates[2] == pytest.approx(0.1, rel=1e-4)
    assert history.learning_rates[-1] < 1e-5
    assert run(affine_flow(), *line(1000), learning_rate=0.1, schedule=constant).learning_rates == [0.1] * 3


@pytest.mark.parametrize("limit", [1e-2, None])
def test_gradients_are_those_of_the_mean_loss_per_value_and_clipped(limit):
    x, context = torch.randn(64, 3) * 5, torch.randn(64, 1)
    flow = affine_flow(size=3)
    before = state(flow)
    (-flow.log_prob(x, context).mean() / 3).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in flow.parameters()])
    run(flow, x, context, initialized=True, held_out=0, epochs=1, batch_size=64, optimizer=torch.optim.SGD,
        learning_rate=1.0, clip_norm=limit, schedule=constant)
    moved = torch.cat([(before[name] - weight).flatten() for name, weight in flow.named_parameters()])
    expected = gradient * (1 if limit is None else limit / gradient.norm())
    assert gradient.norm() > 1e-2
    assert torch.allclose(moved, expected, rtol=1e-3, atol=1e-6)


class Recording(torch.optim.SGD):
    """Keeps the weights after each step."""

    seen: list

    def step(self, closure=None):
        super().step(closure)
        self.seen.append(torch.cat([weight.detach().flatten() for weight in self.param_groups[0]["params"]]))


def test_the_average_of_the_weights():
    Recording.seen = []
    flow = affine_flow()
    run(flow, *line(100), held_out=0, epochs=1, steps_per_epoch=6, learning_rate=0.1, schedule=constant, ema=0.7,
        optimizer=Recording)
    assert len(Recording.seen) == 6
    average = Recording.seen[0]
    for weights in Recording.seen[1:]:
        average = 0.7 * average + 0.3 * weights
    ended = torch.cat([weight.detach().flatten() for weight in flow.parameters()])
    assert torch.allclose(ended, average, atol=1e-6)
    assert not torch.allclose(ended, Recording.seen[-1], atol=1e-3)


class Stopped(Exception):
    pass


def stopping_after(count):
    calls = iter(range(count))

    def loss(flow, inputs, context):
        if torch.is_grad_enabled() and next(calls, None) is None:
            raise Stopped
        return -flow.log_prob(inputs, context)
    return loss


def noisy(inputs, context):
    return inputs + 0.1 * torch.rand_like(inputs), context


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"held_out": 0}, {"optimizer": torch.optim.AdamW}])
def test_going_on_from_a_checkpoint_is_as_if_nothing_had_happened(options, tmp_path):
    data, options = plane(200), {"prepare": noisy, "epochs": 5, "batch_size": 32, "learning_rate": 1e-2, **options}

    def attempt(**more):
        torch.manual_seed(5)
        return run(flow := coupled(), *data, **options, **more), state(flow)

    history, weights = attempt()
    file = tmp_path / "new" / "checkpoint.pt"
    with pytest.raises(Stopped):
        attempt(checkpoint=file, loss=stopping_after(14))
    torch.manual_seed(6)
    resumed = run(flow := coupled(), *data, **options, checkpoint=file)
    assert resumed == history
    assert same(weights, state(flow))
    again = run(flow := coupled(), *data, **options, checkpoint=str(file))
    assert again == history
    assert same(weights, state(flow))
    with pytest.raises(ValueError, match=r"to go on from it, epochs=5, got epochs=9"):
        run(coupled(), *data, **{**options, "epochs": 9}, checkpoint=file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "__version__", "2.5.1+cpu")
        with pytest.raises(ValueError, match=r"got torch 2\.5\.1\+cpu; pip install 'torch>=2\.6'"):
            run(coupled(), *data, **options, checkpoint=file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="a file that it has written"):
        run(coupled(), *data, **options, checkpoint=file)


def test_random_numbers_follow_from_the_global_seed_and_leave_it_alone():
    def attempt(steps):
        torch.manual_seed(1)
        run(flow := affine_flow(), *line(100), epochs=steps, prepare=noisy)
        return state(flow), torch.rand(3)

    (one, after_one), (other, after_other), (_, after_more) = attempt(2), attempt(2), attempt(4)
    assert same(one, other)
    assert torch.equal(after_one, after_other)
    assert torch.equal(after_one, after_more)


def test_held_out_noise_is_the_same_at_every_evaluation():
    history = run(affine_flow(), *line(100), prepare=noisy, learning_rate=1e-30)
    assert len(set(history.held_out)) == 1
    assert len(set(history.train)) == 3


def test_what_is_held_out_is_not_trained_on():
    seen = set()

    def loss(flow, inputs, context):
        if torch.is_grad_enabled():
            seen.update(inputs.flatten().tolist())
        return -flow.log_prob(inputs, context)

    x, context = torch.arange(100.0)[:, None], torch.rand(100, 1)
    run(affine_flow(), x, context, loss=loss, batch_size=7, epochs=20, patience=None)
    assert len(seen) == 90


def test_images_of_integers():
    images = torch.randint(256, (30, 1, 4, 4), dtype=torch.uint8)
    flow = cf.Flow(cf.multiscale(1, (1,), lambda c: cf.glow_step(c, CouplingConditioner(c, 8))))
    run(flow, images, batch_size=8, prepare=lambda images, context: (cf.dequantize(images), context))
    with pytest.raises(TypeError, match=r"condflows\.dequantize"):
        run(flow, images)


class Explodes(cf.ActNorm):
    calls = 0

    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        self.calls += 1
        return (outputs / 0 if self.calls > 9 else outputs), logabsdet


def test_a_loss_that_is_not_finite_says_where():
    flow = cf.Flow(cf.Chain([cf.ActNorm(1), Explodes(1)]), shape=(1,))
    calls = []

    def loss(flow, inputs, context):
        calls.append(state(flow))
        return -flow.log_prob(inputs)

    where = r"epoch 2, step 9 of all; .*: output of _transform\.bijectors\.1 \(Expl"
    with pytest.raises(FloatingPointError, match=where):
        run(flow, line(250)[0], loss=loss, batch_size=45, held_out=0, epochs=3)
    assert same(calls[-1], state(flow))
    x = line(100)[0]
    x[7] = math.nan
    with pytest.raises(FloatingPointError, match=r"1 of 50 losses .* step 1 of all; .* not finite: inputs"):
        run(affine_flow(features=1), DataLoader(TensorDataset(x, x.nan_to_num()), 50), initialized=True)


def test_held_out_losses_that_are_not_finite_say_where():
    flow = cf.Flow(cf.Chain([cf.Logit(0.0, 1.0), cf.ActNorm(1)]), shape=(1,))
    apart = torch.rand(50, 1)
    apart[13] = 1.5
    with pytest.raises(FloatingPointError, match="got 1 of 50 that are not after epoch 1, the first of row 13"):
        run(flow, torch.rand(100, 1), held_out=apart)


def test_gradients_that_are_not_finite_say_where():
    class Root(torch.nn.Linear):
        def forward(self, context):
            return super().forward(context) + (0 * self.bias).abs().sqrt()

    flow = cf.Flow(cf.ActNorm(1, Root(1, 2)), shape=(1,))
    with pytest.raises(FloatingPointError, match=r"0 of 90 losses .*: gradient of _transform\.conditioner"):
        run(flow, *line(100))


def test_an_interrupt_leaves_the_best_weights():
    torch.manual_seed(0)
    x, apart = line(300), line(300, seed=1)
    epochs = []

    def loss(flow, inputs, context):
        if torch.is_grad_enabled() and len(epochs) == 3:
            raise KeyboardInterrupt
        if not torch.is_grad_enabled():
            epochs.append(float(-flow.log_prob(inputs, context).mean()))
        return -flow.log_prob(inputs, context)

    with pytest.raises(KeyboardInterrupt):
        run(flow := affine_flow(), *x, loss=loss, held_out=apart, batch_size=300, learning_rate=3.0, epochs=50,
            optimizer=torch.optim.SGD, clip_norm=None)
    assert float(-flow.log_prob(*apart).mean()) == pytest.approx(min(epochs), abs=1e-6)


def test_a_target_density():
    torch.manual_seed(0)
    exact = torch.distributions.MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.6], [0.6, 0.5]]))
    flow = cf.Flow(cf.Chain([cf.LUConv1x1(2), cf.ActNorm(2)]), shape=(2,))
    history = run(flow, target=lambda x: exact.log_prob(x) + 3.0, epochs=6, batch_size=64, learning_rate=0.1)
    assert history.held_out == []
    assert history.train[-1] == pytest.approx(-3.0, abs=0.02)
    x = exact.sample((1000,))
    assert (exact.log_prob(x) - flow.log_prob(x)).mean().abs() < 0.02


def test_a_target_density_for_each_context():
    torch.manual_seed(0)
    context = torch.linspace(-1, 1, 400)[:, None]
    flow = affine_flow()

    def target(x, c):
        assert x.shape == c.shape == (50, 1)
        return Normal(3 * c + 1, 0.5).log_prob(x)[:, 0]

    run(flow, target=target, context=context, batch_size=50, epochs=100, learning_rate=5e-2)
    given = torch.tensor([[-1.0], [0.5]])
    samples = flow.sample(20_000, given)
    assert torch.allclose(samples.mean(1), 3 * given + 1, atol=0.03)
    assert torch.allclose(samples.std(1), torch.full((2, 1), 0.5), atol=0.03)


class Weighted(torch.nn.Module):
    """A base of two normals whose weight is learned: its samples have no gradients."""

    def __init__(self):
        super().__init__()
        self.logit = torch.nn.Parameter(torch.zeros(2))

    def forward(self, context):
        chosen = Categorical(logits=self.logit.expand(len(context), 2))
        normals = Normal(torch.tensor([[-2.0], [2.0]]).expand(len(context), 2, 1), 1.0)
        return MixtureSameFamily(chosen, Independent(normals, 1))


def test_a_target_for_a_base_whose_samples_have_no_gradients():
    context = torch.rand(100, 1)
    flow = cf.Flow(cf.ActNorm(1, torch.nn.Linear(1, 2)), shape=(1,), base=Weighted())
    options = {"target": lambda x, c: Normal(c, 1.0).log_prob(x)[:, 0], "context": context}
    with pytest.raises(ValueError, match="got the base Weighted, which has parameters and no rsample"):
        run(flow, **options)
    flow.base.requires_grad_(False)
    assert len(run(flow, **options).train) == 3


def test_frozen_weights_and_the_mode_stay():
    flow = cf.Flow(cf.Chain([cf.ActNorm(1), cf.ActNorm(1, torch.nn.Linear(1, 2))]), shape=(1,)).eval()
    flow.transform.bijectors[1].requires_grad_(False)
    before = state(flow.transform.bijectors[1])
    run(flow, *line(100), initialized=True)
    assert same(before, state(flow.transform.bijectors[1]))
    assert not flow.training


def test_a_flow_that_is_trained_already_goes_on():
    run(flow := coupled(), *plane(500), epochs=20, learning_rate=1e-2)
    trained = state(flow)
    run(flow, *plane(500), epochs=1, learning_rate=1e-30, initialized=True)
    assert all(torch.allclose(value, trained[name]) for name, value in state(flow).items())


def test_standardizations_are_fitted():
    x, context = line(500)
    flow = cf.Flow(cf.Chain([cf.Standardize(1), cf.ActNorm(1, cf.Standardize(1).before(MLPConditioner(1, 2)))]))
    run(flow, 1e5 + 500 * x, 300 + context)
    assert float(flow.transform.bijectors[0].mean) == pytest.approx(1e5, rel=1e-2)


def test_the_bar_shows_the_losses(capsys):
    run(affine_flow(), *line(100), progress=True)
    shown = capsys.readouterr().err
    assert "held out; best" in shown
    assert "3/3" in shown
    run(affine_flow(), *line(100))
    assert not capsys.readouterr().err


def test_batches_are_other_ones_in_every_epoch():
    rows = cf.batches.Rows(torch.arange(10.0)[:, None], None, 4)
    one, other = ([batch[0].flatten().tolist() for batch in rows] for _ in range(2))
    assert len(rows) == len(one) == 2
    assert one != other
    assert [len(batch[0]) for batch in cf.batches.Rows(torch.rand(10, 1), None, 4, shuffle=False)] == [4, 4, 2]
    assert [len(batch[0]) for batch in islice(cf.batches.Rows(torch.rand(3, 1), None, 4), 5)] == [3]
