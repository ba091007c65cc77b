"""Conditioners of a part of a context, of several parts, or of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from condflows.checks import check_count
from condflows.pyramid import by_size, call_conditioner, level_of
from condflows.rows import context_for, shares_context
from condflows.trace import Context, context_rows, resize

__all__ = ["ChangedContext", "Embed", "Select", "WrappedConditioner"]


class WrappedConditioner(nn.Module):
    """A conditioner, or a coupling's net, behind something that calls it."""

    def __init__(self, conditioner: nn.Module):
        super().__init__()
        self.conditioner = conditioner

    @property
    def reads_context(self) -> bool:
        """True if the conditioner reads its context."""
        return getattr(self.conditioner, "reads_context", True)

    def call(self, first: Sequence[Tensor], context: Context, size: Sequence[int] | None) -> Tensor:
        """Call the conditioner, with a row of context for each input unless it follows the row rule."""
        rows = first[0].shape[0] if first else context_rows(context)
        return call_conditioner(self.conditioner, first, context_for(self.conditioner.forward, context, rows), size)


class ChangedContext(WrappedConditioner):
    """A conditioner, or a coupling's net, behind a change of its context."""

    def change(self, context: Context, size: Sequence[int] | None = None) -> Context:
        """Return the context that the conditioner reads, for inputs of a spatial size, if it is known."""
        raise NotImplementedError(f"{type(self).__name__} does not define change")

    @by_size
    @shares_context
    def forward(self, *arguments: Any, size: Sequence[int] | None = None) -> Tensor:
        *first, context = arguments
        size = first[0].shape[2:] if first else size
        context = None if context is None else self.change(context, size)
        return self.call(first, context, size)


class Select(ChangedContext):
    r"""A conditioner, or a coupling's net, that reads one part of a context, or several joined to one tensor.

    :math:`\mathrm{net}(c_k)` for a key k, :math:`\mathrm{net}([c_{k_1}, c_{k_2}, \ldots])` for a list of keys. The
    context is a mapping, or a tuple or list, whose keys are indices. The parts of a list are concatenated: images are
    resized to the largest of them (averaged down, repeated up), and vectors are repeated at every position.

    Shapes: those of the conditioner; of parts ``(batch, channels_i, *spatial_i)`` it reads
    ``(batch, sum of channels_i, *largest spatial)``. Paper: none.

    Args:
        key: a key or index, or a list of them.
        conditioner: reads the part.

    Raises:
        ValueError: a context without such a part.
        TypeError: a context that is a tensor, or no context.

    >>> context = {"map": torch.rand(5, 1, 16, 16), "pose": torch.randn(5, 3)}
    >>> actnorm = ActNorm(4, conditioners.Select("pose", conditioners.MLPConditioner(3, 2 * 4)))
    >>> actnorm(torch.randn(5, 4, 8, 8), context)[0].shape
    torch.Size([5, 4, 8, 8])

    An image and a vector for one coupling:

    >>> net = conditioners.Select(["map", "pose"], conditioners.CouplingConditioner(4, 8, context_channels=1 + 3))
    >>> AffineCoupling(4, net)(torch.randn(5, 4, 8, 8), context)[0].shape
    torch.Size([5, 4, 8, 8])
    """

    def __init__(self, key: Any, conditioner: nn.Module):
        super().__init__(conditioner)
        self.key = key

    def change(self, context: Context, size: Sequence[int] | None = None) -> Context:
        """Return the part, or the parts joined to one tensor."""
        if not isinstance(self.key, list):
            return self._part(context, self.key)
        parts = [level_of(self._part(context, key), size) for key in self.key]
        largest = parts[0]
        for part in parts[1:]:  # torch.compile knows no max with a key
            if (part.ndim, part.shape[2:].numel()) > (largest.ndim, largest.shape[2:].numel()):
                largest = part
        dtype = reduce(torch.promote_types, [part.dtype for part in parts])
        return torch.cat([resize(part.to(dtype), largest) for part in parts], dim=1)

    def _part(self, context: Context, key: Any) -> Any:
        if isinstance(context, Tensor) or not hasattr(context, "__getitem__"):
            raise TypeError(f"Select({key!r}) expects a mapping, tuple or list as context, got "
                            f"{type(context).__name__}; pass the context in one")
        try:
            return context[key]
        except (KeyError, IndexError, TypeError) as error:
            have = list(context) if isinstance(context, Mapping) else f"{len(context)} parts"
            raise ValueError(f"Select expects a context with {key!r}, got {have}; pass that part, or select "
                             "another") from error


class Embed(nn.Module):
    r"""Vectors for integer labels, learned; ``embed.before(net)`` lets a net read the vectors of its context.

    :math:`l \mapsto e_l`, a row of a table, and :math:`\mathrm{net}(e_l)` behind it.

    Shapes: labels ``(batch,)`` or ``(batch, 1)`` to ``(batch, features)``; maps of labels ``(batch, *spatial)``, or
    ``(batch, 1, *spatial)``, to ``(batch, features, *spatial)``. A second dimension of size 1 is never a spatial one.
    Paper: none.

    Args:
        classes: the number of labels, 0 to ``classes - 1``.
        features: the size of a vector.

    Raises:
        ValueError: labels outside of their range, on the CPU; fewer than one class or feature.
        TypeError: labels that are no integers.

    >>> embed = conditioners.Embed(10, 16)  # shared by all nets
    >>> step = glow_step(4, embed.before(conditioners.MLPConditioner(2, 4, context_features=16)),
    ...                  actnorm=embed.before(conditioners.MLPConditioner(16, 2 * 4)))
    >>> step(torch.randn(5, 4), context=torch.tensor([3, 1, 4, 1, 5]))[0].shape
    torch.Size([5, 4])
    """

    def __init__(self, classes: int, features: int):
        super().__init__()
        check_count(classes, 1, "Embed expects at least 1 class")
        check_count(features, 1, "Embed expects at least 1 feature")
        self.vectors = nn.Embedding(classes, features)

    def forward(self, labels: Tensor) -> Tensor:
        """Return the vector of each label, features in dimension 1."""
        classes = self.vectors.num_embeddings
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex() or labels.ndim == 0:
            came = f"{labels.dtype}, {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"Embed expects a batch of integer labels, 0 to {classes - 1}, got {came}; convert them "
                            "with labels.long()")
        labels = labels.squeeze(1) if labels.ndim > 1 and labels.shape[1] == 1 else labels
        try:
            return self.vectors(labels.long()).movedim(-1, 1)
        except IndexError as error:
            raise ValueError(f"Embed expects labels from 0 to {classes - 1}, got {int(labels.min())} to "
                             f"{int(labels.max())}; build it for more classes, or number the labels from 0") from error

    def before(self, conditioner: nn.Module) -> nn.Module:
        """Return the conditioner behind this embedding of its context; several may share one."""
        return EmbeddedContext(self, conditioner)


class EmbeddedContext(ChangedContext):
    """A conditioner, or a coupling's net, whose context is embedded first."""

    def __init__(self, embed: Embed, conditioner: nn.Module):
        super().__init__(conditioner)
        self.embed = embed

    def change(self, context: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Return the vectors of the labels."""
        return self.embed(context)
