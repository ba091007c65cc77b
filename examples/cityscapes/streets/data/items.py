"""Items of a data set: a label map, and the images that belong to it, as tensors of one size.

    photo      uint8 (3, H, W)   red, green, blue in 0..255
    condition  uint8 (3, H, W)   the label map in the colours of its label set
    label      uint8 (H, W)      ids of the label set, official ones of Cityscapes by default; 255 stands for -1
    instances  int32 (H, W)      1000 * id + number for single objects, else the plain id; all items of a
                                 data set have it, or none
    name       str               for example aachen_000000_000019
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from streets.data import png
from streets.data.label_sets import CITYSCAPES
from streets.data.labels import LabelSet

Item = dict[str, Any]


def make_item(name: str, label: np.ndarray, instances: np.ndarray | None, labels: LabelSet = CITYSCAPES) -> Item:
    """Make an item without a photo from a map of label ids, and of instances where there is one."""
    item = {"condition": channels_first(labels.colorize(label)), "label": torch.from_numpy(label), "name": name}
    return item if instances is None else item | {"instances": torch.from_numpy(instances)}


def channels_first(image: np.ndarray) -> torch.Tensor:
    """Turn an image (H, W, channels) into a tensor (channels, H, W)."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def boundaries(item: Item) -> torch.Tensor:
    """Draw the edges of objects: float (1, H, W), 1 where one of the four neighbours is of another object, else 0.

    Objects are instances where the item has them, labels elsewhere. A collated batch gives (batch, 1, H, W).
    """
    objects = item["instances"] if "instances" in item else item["label"]
    edges = torch.zeros_like(objects, dtype=torch.bool)
    across, down = objects[..., :, 1:] != objects[..., :, :-1], objects[..., 1:, :] != objects[..., :-1, :]
    edges[..., :, 1:] |= across
    edges[..., :, :-1] |= across
    edges[..., 1:, :] |= down
    edges[..., :-1, :] |= down
    return edges.float().unsqueeze(-3)


def checked_size(image_size: Sequence[int]) -> tuple[int, int]:
    """Return an image size as (height, width); ValueError if it is not whole, or beyond the limits of png.py."""
    most = png.MOST_SIDE
    if len(image_size) != 2 or not all(1 <= side <= most and int(side) == side for side in image_size):
        raise ValueError(
            f"expected image_size as (height, width) in whole pixels, both from 1 to {most}, got {image_size}"
        )
    height, width = int(image_size[0]), int(image_size[1])
    if height * width > png.MOST_PIXELS:
        raise ValueError(
            f"expected an image_size of at most {png.MOST_PIXELS} pixels, got {height}x{width}: choose a smaller"
        )
    return height, width


def smooth(photo: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """Resize a photo to (height, width), without aliasing, and return a tensor (3, H, W)."""
    return channels_first(np.array(_resized(photo, size)))


def smooth_values(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resize an image of any channels (height, width, channels), as ``smooth`` does; int32 where it has 16 bits."""
    if image.shape[:2] != size:
        # Pillow resizes 16 bits as numbers of 32 bits, between which values may also fall below 0 or above 65535.
        channels = [image[..., i] if image.dtype == np.uint8 else image[..., i].astype(np.float32)
                    for i in range(image.shape[2])]
        resized = np.stack([np.asarray(_resized(Image.fromarray(channel), size)) for channel in channels], axis=2)
        image = resized if image.dtype == np.uint8 else resized.round().clip(0, 2**16 - 1)
    return channels_first(image if image.dtype == np.uint8 else image.astype(np.int32))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to (height, width) by Lanczos' filter."""
    height, width = size
    if image.size == (width, height):
        return image
    # Lanczos widens its support when it shrinks an image, which is what prevents aliasing.
    if image.height * width > png.MOST_PIXELS:  # Pillow would change the width first, which takes more pixels
        image = image.resize((image.width, height), Image.Resampling.LANCZOS)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map of ids to (height, width): every new pixel takes the id under its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(ids.shape, size, strict=True)
    )
    return ids[rows[:, None], columns]
