"""Shapes of a flow's data, some of whose sizes may be open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from condflows.checks import check_count
from condflows.trace import Context, Trace, context_tensors

__all__ = ["checked_shape", "sample_shape"]


def checked_shape(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Return the shape of one input as a tuple, or refuse it."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if not sizes:
        raise ValueError(f"Flow expects as shape the sizes of one input without the batch, got {shape!r}; pass "
                         "shape=(C,) for vectors of C channels, shape=(C, None, None) for images of any size")
    for size in sizes:
        if size is not None:
            check_count(size, 1, "Flow expects as shape positive whole numbers, or None where a size is open")
    return sizes


def sample_shape(shape: tuple[int | None, ...] | None, context: Context,
                  size: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of one sample: the flow's, with open sizes from ``size`` or from the context's images."""
    if shape is None or None in shape[:1]:
        raise ValueError(f"Flow has the open shape {shape} and cannot tell the number of channels from its transform; "
                         "build it with shape=(C,) for vectors, or with shape=(C, None, None) for images")
    if size is not None:
        fits = isinstance(size, Sequence) and len(size) == len(shape) - 1
        if not fits or any(want not in (None, got) for want, got in zip(shape[1:], size, strict=True)):
            raise ValueError(f"Flow has shape {shape} and expects as size what that leaves open, one whole number for "
                             f"each spatial dimension, got {size!r}")
        for got in size:
            check_count(got, 1, "Flow expects a positive whole number for each spatial dimension as size")
        return shape[0], *map(int, size)  # type: ignore[return-value]
    if None not in shape:
        return shape  # type: ignore[return-value]
    return tuple(want if want is not None else got  # type: ignore[return-value]
                 for want, got in zip(shape, (0, *_image_size(shape, context)), strict=True))


def _image_size(shape: tuple[int | None, ...], context: Context) -> tuple[int, ...]:
    """Return the spatial size that all images of a context share; for a trace, that of its last entry, the data's."""
    tensors = [tensor.unsqueeze(1) if tensor.ndim == len(shape) > 2 and not tensor.is_floating_point() else tensor
               for tensor in context_tensors(context)]  # maps of labels may lack the dimension of channels
    images = [tensor for tensor in (tensors[-1:] if isinstance(context, Trace) else tensors) if tensor.ndim > 2]
    if not images:
        raise ValueError(f"Flow has the open shape {shape} and expects an image context to take the size from; "
                         "build it with Flow(transform, shape=...), or pass size=(height, width)")
    fitting = [tensor for tensor in images if tensor.ndim == 1 + len(shape)]
    if not fitting:
        raise ValueError(f"Flow has shape {shape} and got an image context of shape {tuple(images[0].shape)}; "
                         "their spatial dimensions must agree; pass size=...")
    sizes = {tuple(tensor.shape[2:]): None for tensor in fitting}
    if len(sizes) > 1:
        raise ValueError(f"Flow has the open shape {shape} and got images of the sizes {', '.join(map(str, sizes))} as "
                         "context; pass size=... to say which one samples have")
    return next(iter(sizes))
