"""Files of instance ids: 1000 * id + number for single objects, else the plain id of the label."""

from pathlib import Path

import numpy as np

from streets.data.labels import OtherLabels


def check_instances(path: Path, instances: np.ndarray, label: np.ndarray) -> None:
    """Refuse a map of instances that is of the labels of its label map if read as 256 * id + number, as KITTI's is.

    Any other numbers pass, since of instances only the edges count.
    """
    instances = instances.astype(np.int64)
    official = np.where(instances >= 1000, instances // 1000, instances) == label
    other = instances // 256 == label
    # At two labels or more, for a single one may agree by chance.
    if max(official.mean(), 0.5) < other.mean() and len(np.unique(label[other])) > 1:
        raise OtherLabels(
            f"expected instance ids 1000 * id + number, or plain ids, in {path}, got 256 * id + number, as KITTI has: "
            "convert v to 1000 * (v // 256) + v % 256 where v % 256 is above 0 and else to v // 256, or remove all "
            "*_instanceIds.png"
        )
