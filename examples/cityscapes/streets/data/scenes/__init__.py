"""Street scenes drawn from random numbers: a photo and the exact map of its objects.

A scene is laid out in metres on flat ground, x to the right, y up and z ahead of a pinhole camera. It is painted
from far to near, every shape once into the photo and once into the map. The map leaves much of the photo open: time
of day, haze, shadows, the colour and material of every object. So there is a distribution to learn.
"""

import numpy as np

from streets.data.scenes.canvas import Scene
from streets.data.scenes.photo import develop
from streets.data.scenes.street import frontage, furniture, ground, traffic


def draw(rng: np.random.Generator, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a photo, uint8 (H, W, 3), and its map, int32 (H, W): label ids, for people and cars 1000 * id + number."""
    scene = Scene(rng, image_size)
    ground(scene)
    for side in (-1, 1):
        frontage(scene, side)
        furniture(scene, side)
    traffic(scene)
    return develop(scene)
