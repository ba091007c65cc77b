"""The losses of pix2pix (arXiv 1611.07004)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condflows.trace import Context
from streets.config.training import Config
from streets.training.descent import Batch, descend, finite, parallel, snapshot


class Adversarial:
    """The discriminator's step, then the generator's, whose loss adds 100 times the L1 distance to the photo."""

    figure = "l1"
    """Figure that validation looks at, the lower the better."""

    def __init__(self, model: Any, config: Config):
        if config.source_weight is not None:
            raise ValueError(f"--source-weight: {config.model} does not model the given image; leave it out")
        for option, wanted in (("accumulate", 1), ("precision", "float32"), ("compile", False)):
            if getattr(config, option) != wanted:
                raise ValueError(f"--{option}: pix2pix has no steps of a flow, and normalizes over its batch; "
                                 "leave it out")
        self.model, self.clip_norm, self.finite = model, config.clip_norm, finite
        self.generate = parallel(Call(model.generator, model.generate))
        self.judge = parallel(Call(model.discriminator, model.discriminator_loss))
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(0.5, 0.999), fused=True)
                           for net in (model.discriminator, model.generator)]

    def update(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Make a step of both optimizers; FloatingPointError, with everything as it was, if a figure is not finite."""
        optimizer = self.optimizers[0]
        begun = bool(optimizer.state)
        moments = [value for state in optimizer.state.values() for value in state.values()]
        restore = snapshot([*self.model.discriminator.parameters(), *self.model.buffers(), *moments])
        try:
            return self._update(*batches[0])
        except FloatingPointError:  # perhaps of the generator, after the discriminator's step
            restore()
            if not begun:
                optimizer.state.clear()
            raise

    def _update(self, x_a: Context, x_b: Tensor) -> dict[str, Tensor]:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        fake = self.generate(x_a)
        judged = self.judge(x_a, x_b, fake)
        judged.backward()
        judged = descend(self.optimizers[0], {"loss": judged.detach()}, self.model.discriminator, self.clip_norm,
                         self.finite)
        self.model.discriminator.requires_grad_(False)
        try:
            adversarial, l1 = self.model.generator_losses(x_a, x_b, fake)
            figures = {"loss": adversarial + self.model.l1_weight * l1, "adversarial": adversarial, "l1": l1}
            figures["loss"].backward()
        finally:
            self.model.discriminator.requires_grad_(True)
        figures = {name: value.detach() for name, value in figures.items()}
        figures = descend(self.optimizers[1], figures, self.model.generator, self.clip_norm, self.finite)
        return figures | {"discriminator": judged["loss"]}

    def figures(self, context: Context, x_b: Tensor) -> dict[str, Tensor]:
        """Compute the losses of generator and discriminator, both on images of the generator."""
        fake = self.model.generate(context)
        judged = self.model.discriminator_loss(context, x_b, fake)
        return {"loss": judged, "l1": self.model.generator_losses(context, x_b, fake)[1]}

    def validate(self, x_a: Context, x_b: Tensor, model: Any) -> Tensor:
        """Return ``figure`` of every pair, each with the same noise."""
        samples = [model.sample(1, x[None], generator=torch.Generator(x.device).manual_seed(0))[0] for x in x_a]
        return 2 * (torch.cat(samples) - x_b).abs().flatten(1).mean(1)


class Call(nn.Module):
    """A method as the forward of a module that holds the net it trains, which is what DDP wraps."""

    def __init__(self, net: nn.Module, method: Callable[..., Tensor]):
        super().__init__()
        self.net, self.method = net, method

    def forward(self, *args: Any) -> Tensor:
        return self.method(*args)
