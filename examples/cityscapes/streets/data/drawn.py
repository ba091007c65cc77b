"""Data set of street scenes that are drawn when they are read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from streets.data.folders import SPLITS
from streets.data.items import Item, channels_first, checked_size, make_item
from streets.data.pixels import PairPixels
from streets.data.scenes import draw


class StreetScenes(Dataset[Item]):
    """Street scenes with exact label and instance maps, `length` of them, drawn when read: no files are needed.

    A scene depends on (seed, split, index) alone: a longer data set begins with the scenes of a shorter one, and
    train, val and test share none. `image_size` is (height, width) in pixels; the scenes are composed at 1:2 and
    squeezed into it, as the photos of Cityscapes are. The layout of a scene is the same at every size.
    """

    pixels, has_label_maps, one_size, notes = PairPixels(), True, True, ()

    def __init__(self, split: str, image_size: Sequence[int], length: int = 2000, seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
        if length < 1 or seed < 0:
            raise ValueError(f"expected length >= 1 and seed >= 0, got length {length} and seed {seed}")
        self.split, self.image_size, self.length, self.seed = split, checked_size(image_size), length, seed
        self.names = [f"{split}_{seed:06d}_{index:06d}" for index in range(length)]
        self.kept: dict[int, Item] = {}
        self.most_kept = 2**29 // (11 * self.image_size[0] * self.image_size[1])  # an item has 11 bytes a pixel

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        index = range(self.length)[index]  # negative indices, and IndexError past the end, as in a list
        item = self.kept.get(index) or self._draw(index)
        if len(self.kept) < self.most_kept:
            self.kept[index] = item
        return item

    def sides(self, index: int) -> dict[str, Path]:
        """Return the files of an item, of which a drawn scene has none."""
        return {}

    def _draw(self, index: int) -> Item:
        """Draw a scene and make its item."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        photo, instances = draw(rng, self.image_size)
        label = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
        return make_item(self.names[index], label, instances) | {"photo": channels_first(photo)}
