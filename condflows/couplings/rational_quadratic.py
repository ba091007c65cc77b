"""Monotone rational-quadratic splines (arXiv 1906.04032), elementwise."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from condflows.bounds import soft_bound

__all__ = ["spline", "unspline"]

LEAST_SHARE = 0.2  # of the mean width or height of a bin
LOG_SLOPE = 2.0  # bounds the logarithms of the slopes at knots
LARGEST = 1e4  # of the raw widths and heights, of which an infinite one would have no softmax


def spline(values: Tensor, raw: Tensor, bins: int, bound: float) -> tuple[Tensor, Tensor]:
    """Map values in ``[-bound, bound]`` through splines, others to themselves.

    Args:
        values: ``(batch, channels, *spatial)``.
        raw: ``(batch, (3*bins - 1) * channels, *spatial)``: raw widths of the bins, raw heights, raw slopes at the
            knots between them; of each for all channels the first one, then the second one and so on.
        bins: the number of bins.
        bound: where the splines end.

    Returns the outputs, and the logarithm of the derivative at every value.
    """
    table = _knots(raw, values, bins, bound)
    inside = values.clamp(-bound, bound)
    piece = _find(table, inside, table[:, 0])
    theta = ((inside - piece.x) / piece.width).clamp(0, 1)
    between = theta * (1 - theta)
    rise = (piece.mean * theta.square() + piece.left * between) / (piece.mean + piece.curve * between)
    return _or_identity(values, piece.y + piece.height * rise, _log_slope(piece, theta), bound)


def unspline(values: Tensor, raw: Tensor, bins: int, bound: float) -> tuple[Tensor, Tensor]:
    """Invert ``spline``; the logarithm of the derivative is that of ``spline`` at the outputs."""
    table = _knots(raw, values, bins, bound)
    inside = values.clamp(-bound, bound)
    piece = _find(table, inside, table[:, 2])
    rise = ((inside - piece.y) / piece.height).clamp(0, 1)
    # a theta^2 + b theta - c = 0, by the one of the two forms of its root that does not cancel
    b = piece.left - rise * piece.curve
    a, c = piece.mean - b, piece.mean * rise
    root = (b.square() + 4 * a * c).clamp(min=torch.finfo(b.dtype).tiny).sqrt()
    theta = (torch.where(b >= 0, 2 * c, root - b) / torch.where(b >= 0, b + root, 2 * a)).clamp(0, 1)
    return _or_identity(values, piece.x + piece.width * theta, _log_slope(piece, theta), bound)


class _Piece(NamedTuple):
    """The bin of each value: its lower corner, its size, its mean slope, and the slopes at its ends."""

    x: Tensor
    width: Tensor
    y: Tensor
    height: Tensor
    left: Tensor
    right: Tensor
    mean: Tensor

    @property
    def curve(self) -> Tensor:
        return self.left + self.right - 2 * self.mean


def _knots(raw: Tensor, values: Tensor, bins: int, bound: float) -> Tensor:
    """Return left and right ends of the bins, lower and upper ones, and slopes there, ``(batch, 6, bins, ...)``."""
    widths, heights, slopes = raw.to(values.dtype).unflatten(1, (3 * bins - 1, -1)).split([bins, bins, bins - 1], 1)
    edge = widths.new_full((), bound).expand_as(widths[:, :1])
    columns = []
    for sizes in (widths, heights):
        shares = LEAST_SHARE / bins + (1 - LEAST_SHARE) * sizes.clamp(-LARGEST, LARGEST).softmax(1)
        inner = bound * (2 * shares[:, :-1].cumsum(1) - 1)
        columns += [torch.cat([-edge, inner], 1), torch.cat([inner, edge], 1)]
    one = torch.ones_like(edge)
    slopes = soft_bound(slopes, LOG_SLOPE).exp()
    return torch.stack([*columns, torch.cat([one, slopes], 1), torch.cat([slopes, one], 1)], 1)


def _find(table: Tensor, values: Tensor, left: Tensor) -> _Piece:
    """Return the bin of each value, whose left (or lower) ends are given."""
    index = (values.unsqueeze(1) >= left[:, 1:]).sum(1, keepdim=True).unsqueeze(1)
    chosen = table.gather(2, index.expand(-1, table.shape[1], *index.shape[2:])).squeeze(2)
    x, right_x, y, upper_y, slope, right_slope = chosen.unbind(1)
    width, height = right_x - x, upper_y - y
    return _Piece(x, width, y, height, slope, right_slope, height / width)


def _log_slope(piece: _Piece, theta: Tensor) -> Tensor:
    """Return the logarithm of the derivative at the share ``theta`` of a bin's width."""
    between = theta * (1 - theta)
    numerator = piece.right * theta.square() + 2 * piece.mean * between + piece.left * (1 - theta).square()
    return 2 * piece.mean.log() + numerator.log() - 2 * (piece.mean + piece.curve * between).log()


def _or_identity(values: Tensor, moved: Tensor, log_slope: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Leave values outside of the bounds, and NaN, as they are."""
    inside = values.abs() <= bound
    return torch.where(inside, moved, values), torch.where(inside, log_slope, 0)
