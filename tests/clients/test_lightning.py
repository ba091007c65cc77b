"""A flow in a LightningModule: trained, logged, saved and restored, to the last bit of a loop of one's own."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import condflows as cf
from condflows.conditioners import MLPConditioner

lightning = pytest.importorskip("lightning", reason="Lightning is not installed: pip install lightning")


class DensityModel(lightning.LightningModule):
    """p(x | context), trained by maximum likelihood."""

    def __init__(self, features, context_features, depth=2, learning_rate=1e-2):
        super().__init__()
        self.save_hyperparameters()
        first, second = features - features // 2, features // 2
        nets = [MLPConditioner(first, 2 * second, context_features, hidden=(32,)) for _ in range(depth)]
        self.flow = cf.Flow(cf.Chain([cf.glow_step(features, net) for net in nets]), shape=(features,))

    def training_step(self, batch, _):
        loss = -self.flow.log_prob(*batch).mean()
        self.log("nats", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("validation_nats", -self.flow.log_prob(*batch).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Run in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trainer(**options):
    return lightning.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
                             enable_model_summary=False, **{"enable_checkpointing": False, **options})


@pytest.fixture
def data():
    context = torch.randn(512, 3)
    return torch.stack([context[:, 0], context[:, 1] * context[:, 2]], 1) + 0.2 * torch.randn(512, 2), context


def initialized(x, context, **options):
    torch.manual_seed(0)
    model = DensityModel(2, 3, **options)
    cf.initialize(model.flow, x, context)
    return model


def test_the_trainer_is_a_loop_of_ones_own(data, directory):
    model = initialized(*data)
    batches = DataLoader(TensorDataset(*data), batch_size=100)
    trainer(max_epochs=2).fit(model, batches)
    assert not list(directory.iterdir())
    flow = initialized(*data).flow
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for batch in [*batches, *batches]:
        optimizer.zero_grad()
        (-flow.log_prob(*batch).mean()).backward()
        optimizer.step()
    assert torch.equal(model.flow.log_prob(*data), flow.log_prob(*data))


def test_training_improves_what_is_validated(data):
    model = initialized(*data)
    training, validation = (DataLoader(TensorDataset(*(part[rows] for part in data)), batch_size=64)
                            for rows in (slice(384), slice(384, None)))
    run = trainer(max_epochs=10)
    (before,) = run.validate(model, validation, verbose=False)
    run.fit(model, training, validation)
    after = run.callback_metrics
    assert float(after["validation_nats"]) < before["validation_nats"] - 0.5
    want = -model.flow.log_prob(*(part[384:] for part in data)).mean()
    assert float(after["validation_nats"]) == pytest.approx(want.item(), abs=1e-4)


def test_a_checkpoint_restores_hyperparameters_and_densities(data, directory):
    model = initialized(*data, depth=3, learning_rate=5e-3)
    batches = DataLoader(TensorDataset(*data), batch_size=256)
    saved = lightning.pytorch.callbacks.ModelCheckpoint(directory / "saved", "last")
    trainer(max_epochs=1, enable_checkpointing=True, callbacks=[saved]).fit(model, batches)
    assert [path.name for path in directory.rglob("*.*")] == ["last.ckpt"]
    loaded = DensityModel.load_from_checkpoint(directory / "saved" / "last.ckpt", weights_only=True)
    assert dict(loaded.hparams) == {"features": 2, "context_features": 3, "depth": 3, "learning_rate": 5e-3}
    assert torch.equal(loaded.flow.log_prob(*data), model.flow.log_prob(*data))
    torch.manual_seed(0)
    samples = loaded.flow.sample(2, data[1][:3])
    torch.manual_seed(0)
    assert torch.equal(samples, model.flow.sample(2, data[1][:3]))
    more = trainer(max_epochs=2)
    more.fit(loaded, batches, ckpt_path=directory / "saved" / "last.ckpt")
    again = initialized(*data, depth=3, learning_rate=5e-3)
    trainer(max_epochs=2).fit(again, batches)
    assert torch.equal(loaded.flow.log_prob(*data), again.flow.log_prob(*data))
