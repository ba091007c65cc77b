"""Images in rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condflows.plots.panels import Axes, Figure, check_names, panels

__all__ = ["Rows", "grid", "images"]

Rows = list[tuple[str, Tensor]]
"""The rows of a grid: for each a name, and a batch of images."""

MOST_IMAGES = 1000


def images(batch: Tensor | Sequence[Tensor] | Mapping[str, Tensor], *, titles: Sequence[str] | None = None,
           limits: tuple[float, float] | None = None, transposed: bool = False, axes: Any = None) -> Figure:
    """Draw images in a grid: conditions, samples and real images below each other.

    ``flow.sample(n, context)`` goes in as it is and makes n rows, the samples of a condition below each other. A batch
    of many images is laid out in rows of eight by ``photos.split(8)``. Values beyond the limits, which samples of a
    flow may have, are drawn as the limits.

    Shapes: a batch ``(B, channels, height, width)`` makes a row of B images, and samples
    ``(B, n, channels, height, width)`` make n rows, of 1 or 3 channels. Units: floats from 0 to 1, or uint8.
    Paper: none.

    Args:
        batch: images; several batches for rows below each other; or a dictionary of these, whose names stand at the
            left of their rows.
        titles: of the columns.
        limits: the values that are drawn as black and as white; 0 and 1 for floats, 0 and 255 for uint8, if None.
        transposed: draw the rows as columns: names stand at the top, and titles at the left.
        axes: the axes to draw on, one for each place of the grid; new ones if None.

    Raises:
        ValueError: batches that are no images, as those of signals and volumes; images of other channels; limits,
            titles or axes that do not fit.
        TypeError: images that are neither floats nor uint8.

    >>> from condflows import plots
    >>> maps, photos = torch.rand(4, 1, 8, 8), torch.rand(4, 3, 8, 8)
    >>> net = conditioners.CouplingConditioner(12, width=8, context_channels=1)
    >>> step = Chain([Squeeze(), glow_step(12, net), Inverse(Squeeze())])
    >>> samples = Flow(step, shape=(3, 8, 8)).sample(2, context=maps)
    >>> figure = plots.images({"map": maps, "sample": samples, "photo": photos})
    >>> len(figure.axes)  # four columns of one map, two samples and one photo
    16
    """
    return grid(_rows(batch), titles, limits, transposed, axes, "images")


def grid(rows: Rows, titles: Sequence[str] | None, limits: tuple[float, float] | None, transposed: bool, axes: Any,
         caller: str) -> Figure:
    """Draw rows of images for a function of the library, as :func:`images` describes."""
    for _, row in rows:
        _check(row, caller)
    height, width = len(rows), max(len(row) for _, row in rows)
    if not 1 <= height * width <= MOST_IMAGES:
        raise ValueError(f"{caller} expects 1 to {MOST_IMAGES} images, got {height} rows of {width}; pass some of them")
    if limits is not None and (np.shape(limits) != (2,) or not limits[0] < limits[1]):
        raise ValueError(f"{caller} expects limits (low, high), drawn as black and as white, got {limits!r}; leave "
                         "them out for floats from 0 to 1 and for uint8")
    check_names(titles, width, caller, "titles, one for each column" if not transposed else
                "titles, one for each row, as it is transposed")
    size, (down, across) = _size(rows, transposed), (width, height) if transposed else (height, width)
    figure, made = panels(axes, down, across, caller, figsize=size)
    if axes is None:
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.01)  # type: ignore[union-attr]
    places = made.T if transposed else made
    for line, (name, row) in zip(places, rows, strict=True):
        (_name_above if transposed else _name_beside)(line[0], name)
        for i, ax in enumerate(line):
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(visible=i < len(row), linewidth=0.5, color="0.6")
            if i < len(row):
                _draw(ax, row[i].detach().cpu(), limits)
    for ax, title in zip(places[0], titles or (), strict=bool(titles)):
        (_name_beside if transposed else _name_above)(ax, title)
    return figure


def _rows(batch: Any) -> Rows:
    """Return the rows of a grid, each a name and a batch of images; samples make several."""
    if isinstance(batch, Mapping):
        given = list(batch.items())
    else:
        given = [("", one) for one in (batch if isinstance(batch, (tuple, list)) else [batch])]
    rows: Rows = []
    for name, one in given:
        _check(one, "images")
        parts = one.unbind(1) if one.ndim == 5 else [one]
        rows += [(str(name), part) for part in parts]
    if not rows:
        raise ValueError("images expects at least one batch of images, got none; pass a tensor, or several")
    return rows


def _check(images: Any, caller: str) -> None:
    """Refuse what is no batch of images."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{caller} expects tensors, got {type(images).__name__}; convert it with torch.as_tensor")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"{caller} expects floats from 0 to 1, or uint8, got {images.dtype}; convert them, for example "
                        "with .float()")
    shape = tuple(images.shape)
    if images.ndim not in (4, 5) or 0 in shape[1:]:
        raise ValueError(f"{caller} expects batches (B, channels, height, width), or samples (B, n, channels, height, "
                         f"width), got shape {shape}; add the batch of one image with image[None], draw signals with "
                         "matplotlib's plot")
    if shape[-3] not in (1, 3):
        of_volumes = ", a slice of volumes with volumes[:, :, i]" if images.ndim == 5 else ""
        raise ValueError(f"{caller} expects 1 or 3 channels in dimension {images.ndim - 3}, got shape {shape}; choose "
                         f"channels with images[:, :3]{of_volumes}")


def _size(rows: Rows, transposed: bool) -> tuple[float, float]:
    """Return the size of the figure in inches, at most 12 wide, with room for names at the left and at the top."""
    tall, wide = rows[0][1].shape[-2:]
    down, across = len(rows), max(len(row) for _, row in rows)
    down, across = (across, down) if transposed else (down, across)
    cell = min(1.1 if across > 4 else 1.5, 11.0 / across)
    return cell * across + 1.0, cell * down * min(max(tall / wide, 0.2), 5.0) + 0.4


def _name_beside(ax: Axes, name: str) -> None:
    ax.set_ylabel(name, rotation=0, ha="right", va="center")


def _name_above(ax: Axes, name: str) -> None:
    ax.set_title(name, fontsize="medium")


def _draw(ax: Axes, image: Tensor, limits: tuple[float, float] | None) -> None:
    low, high = limits if limits is not None else (0, 255) if image.dtype == torch.uint8 else (0, 1)
    values = ((image.double() - low) / (high - low)).clamp(0, 1)
    shown: np.ndarray = (values[0] if len(values) == 1 else values.movedim(0, -1)).numpy()
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
