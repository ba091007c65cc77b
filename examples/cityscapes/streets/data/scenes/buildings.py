"""Houses, fences and signs along a street."""

import numpy as np

from streets.data.scenes.canvas import BUILDING, FENCE, POLE, SIGN, Scene


def house(scene: Scene, side: int, x: float, z: float, length: float, floors: int) -> None:
    """Paint a house along the road: the gable end, the facade, its roof, and windows if it is near."""
    rng, end, storey = scene.rng, z + length, scene.storey
    height, wide, high = floors * storey + 0.8, rng.uniform(0.35, 0.8), rng.uniform(0.4, 0.7)
    tint, hue = (rng.uniform(0.03, 0.3), rng.uniform(-0.02, 0.16)) if rng.random() < 0.75 else (0.1, rng.random())
    color, roof = scene.color(rng.uniform(0.25, 0.8), 0.03, tint, hue), scene.color(0.3, 0.1, 0.1)
    sun = (1 - scene.clouds) * 0.3
    facade, gable = color * (1 - sun * (side == scene.sun_side)), color * (1 - sun * rng.uniform(0, 1.2))
    scene.begin(end)
    if rng.random() < 0.4:
        ridge, middle = height + rng.uniform(1, 3), x + side * 4
        scene.polygon([(x, height, z), (x, height, end), (middle, ridge, end), (middle, ridge, z)], roof, BUILDING)
        scene.polygon([(x, height, z), (middle, ridge, z), (x + side * 8, height, z)], gable, BUILDING)
    scene.front(x, x + side * 12, 0, height, z, gable, BUILDING)
    scene.wall(x, 0, height, z, end, facade, BUILDING)
    scene.wall(x, height - 0.35, height, z, end, roof)
    if rng.random() < 0.4 and z < 14:  # courses of stone
        for y in np.arange(0.4, min(height, 8), 0.8).tolist():
            scene.wall(x, y, y + 0.16, z, end, facade * 0.82)
    if rng.random() < 0.4:  # a shop
        scene.wall(x, storey * 0.8, storey, z, end, scene.color(0.35, 0.15, rng.uniform(0, 0.4), rng.random()))
    glass = scene.color(0.15 + 0.25 * rng.random(), 0.04, 0.08, 0.6)
    lamp = scene.color(1.3, 0, 0.25, 0.1) / scene.light
    columns = max(1, int(length / rng.uniform(1.8, 3.5)))
    is_lit = rng.random((floors, columns)) < 0.3 - 0.5 * scene.day
    glint = rng.uniform(0.7, 1.4, (floors, columns))
    if z > 35:
        return
    pitch = length / columns
    for row in range(floors):
        y = row * storey + storey * (1 - high) * 0.6
        for column in range(columns):
            near = z + (column + (1 - wide) / 2) * pitch
            pane = lamp if is_lit[row, column] else glass * glint[row, column]
            scene.wall(x, y, y + storey * high, near, near + wide * pitch, pane)


def fence(scene: Scene, x: float, z: float, length: float) -> None:
    """Paint a fence along the road, with bars where it is near."""
    rng, height = scene.rng, scene.rng.uniform(0.8, 2.0)
    color = scene.color(rng.uniform(0.2, 0.7), 0.05, rng.uniform(0, 0.15), rng.uniform(0, 0.4))
    bars, gap = color * rng.uniform(0.5, 1.4), rng.uniform(0.3, 1.2)
    scene.begin(z + length - 0.05)
    scene.wall(x, 0, height, z, z + length, color, FENCE)
    scene.wall(x, height * 0.85, height, z, z + length, bars)
    for depth in np.arange(z, min(z + length, 18), gap).tolist():
        scene.wall(x, 0, height, depth, depth + gap * 0.3, bars)


def sign(scene: Scene, x: float, z: float) -> None:
    """Paint a traffic sign on its pole: a disc, a triangle, a plate or a square, with a rim."""
    rng = scene.rng
    height, size, shape = rng.uniform(2.2, 3.4), rng.uniform(0.35, 0.6), rng.integers(4)
    rim = scene.color(0.55, 0.05, 0.5, rng.choice([0.0, 0.62, 0.13]))
    inner = scene.color(0.85, 0.05) if rng.random() < 0.6 else rim * 0.9
    scene.begin(z)
    scene.front(x - 0.06, x + 0.06, 0, height + size * 0.8, z, scene.color(0.5, 0.1), POLE)
    for r, color, tag in ((size, rim, SIGN), (size * 0.65, inner, None)):
        if shape == 0:
            scene.disc(x, height, z, (r, r), color, tag)
        elif shape == 1:
            triangle = [(x - r, height - 0.8 * r, z), (x + r, height - 0.8 * r, z), (x, height + r, z)]
            scene.polygon(triangle, color, tag)
        else:
            wide, high = (1.6 * r, 0.7 * r) if shape == 2 else (r, r)
            scene.front(x - wide, x + wide, height - high, height + high, z, color, tag)
