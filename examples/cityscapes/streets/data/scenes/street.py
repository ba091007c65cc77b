"""Layout of a street, from the ground to its traffic."""

import numpy as np

from streets.data.scenes.buildings import fence, house, sign
from streets.data.scenes.canvas import (
    BUILDING,
    CIRCLE,
    PERSON,
    POLE,
    RIDER,
    ROAD,
    SIDEWALK,
    UNLABELED,
    VEGETATION,
    Scene,
)
from streets.data.scenes.plants import hedge, leaves, tree
from streets.data.scenes.traffic import car, person

DISTANCES = (1 / np.linspace(1 / 0.8, 1 / 250, 40)).tolist()
"""Distances in metres at which the edges of the road have points, about evenly spaced in the picture."""


def ground(scene: Scene) -> None:
    """Paint the farthest houses or trees, the sidewalks, the road with its markings, and the shadow of the houses."""
    scene.begin(np.inf)
    background(scene)
    sidewalks(scene)
    road(scene)
    markings(scene)
    if scene.rng.random() < 0.75:
        shadow(scene)


def background(scene: Scene) -> None:
    """Paint a row of houses or trees in the distance, down to the lower edge of the picture."""
    rng, horizon = scene.rng, scene.vanishing[1]
    steps, has_roofs = np.linspace(0, 2, 25), rng.random() < 0.5
    tops = horizon - rng.uniform(0.01, 0.08) * (1 + rng.uniform(-0.8, 0.8, 25))
    if has_roofs:  # level, with steps between them
        steps, tops = np.repeat(steps, 2)[1:], np.repeat(tops, 2)[:-1]
    skyline = [(u * scene.width / 2, v * scene.height) for u, v in zip(steps, tops, strict=True)]
    outline = [*skyline, (scene.width, scene.height), (0, scene.height)]
    color = scene.color(0.45, 0.1) if has_roofs else leaves(scene)
    scene.fill(outline, color, 80, BUILDING if has_roofs else VEGETATION)


def sidewalks(scene: Scene) -> None:
    """Pave everything below the horizon, and mark the joints of the slabs on both sides of the road."""
    rng, top = scene.rng, (scene.vanishing[1] + 0.004) * scene.height
    pavement = scene.color(0.52, 0.07, rng.uniform(0, 0.12), rng.uniform(0, 0.2))
    box = [(0, top), (scene.width, top), (scene.width, scene.height), (0, scene.height)]
    scene.fill(box, pavement, 12, SIDEWALK)
    for side, edge in scene.edges.items():
        joint, slab = pavement * rng.uniform(0.75, 0.95), rng.uniform(1.0, 2.5)
        for z in np.arange(2.5, 16, slab).tolist():
            scene.strip(edge, edge + side * scene.walks[side], (z, z + 0.08), joint)


def road(scene: Scene) -> None:
    """Paint the asphalt, its kerbs, and patches of repaired asphalt."""
    rng, (left, right) = scene.rng, scene.edges.values()
    asphalt, kerb = scene.color(0.36, 0.07, 0.03, rng.random()), scene.color(0.7, 0.08)
    scene.strip(left, right, DISTANCES, asphalt, ROAD)
    for edge in (left, right):
        scene.strip(edge - 0.12, edge + 0.12, DISTANCES, kerb, SIDEWALK)
    for _ in range(rng.poisson(2.5)):
        x, z, length = rng.uniform(left, right - 1), rng.uniform(3, 20), rng.uniform(1, 9)
        patch = asphalt * rng.uniform(0.7, 1.2)
        scene.strip(x, min(x + rng.uniform(0.5, 2.5), right), (z, z + length), patch)


def markings(scene: Scene) -> None:
    """Paint the lines in the middle and at the edges of the road, and a zebra crossing."""
    rng, (left, right) = scene.rng, scene.edges.values()
    white, middle = scene.color(0.85, 0.07), (left + right) / 2 + rng.normal(0, 0.4)
    style, start, period = rng.random(), rng.uniform(1, 5), rng.uniform(5, 10)
    if style < 0.55:
        for z in np.arange(start, 60, period).tolist():
            scene.strip(middle - 0.1, middle + 0.1, (z, z + period / 4, z + period / 2), white)
    elif style < 0.75:
        scene.strip(middle - 0.1, middle + 0.1, DISTANCES, white)
    if rng.random() < 0.3:
        for x in (left + 0.4, right - 0.4):
            scene.strip(x - 0.08, x + 0.08, DISTANCES, white)
    if rng.random() < 0.25:  # a zebra crossing
        z = rng.uniform(5, 16)
        for x in np.arange(left + 0.3, right - 0.5, 1.0).tolist():
            scene.strip(x, x + 0.5, (z, z + 3), white)


def shadow(scene: Scene) -> None:
    """Darken a stretch of the ground along the houses on the side of the sun."""
    rng, (left, right), edge = scene.rng, scene.edges.values(), scene.edges[scene.sun_side]
    near, reach = rng.uniform(0.8, 12), rng.uniform(0.1, 0.9) * (right - left)
    stretch = (1 / np.linspace(1 / near, 1 / rng.uniform(20, 120), 16)).tolist()
    scene.cast(edge + scene.sun_side * 6, edge - scene.sun_side * reach, stretch, rng.uniform(0.25, 0.6))


def frontage(scene: Scene, side: int) -> None:
    """Paint what stands behind the sidewalk of one side: houses, trees, fences, hedges and gaps."""
    rng, front = scene.rng, scene.edges[side] + side * scene.walks[side]
    z, setback = rng.uniform(1.0, 4.0), 0.0
    while z < 75:
        length = rng.uniform(5, 16)
        if rng.random() < scene.urban:
            setback = setback if rng.random() < 0.6 else rng.uniform(0, 4)
            floors = int(rng.integers(1, 7) if rng.random() < 0.85 else rng.integers(6, 14))
            house(scene, side, front + side * setback, z, length, floors)
            if setback > 1.5 and rng.random() < 0.6:
                fence(scene, front, z, length)
        else:
            if rng.random() < 0.75:
                for depth in np.arange(z + rng.uniform(0, 3), z + length, rng.uniform(2.5, 7)).tolist():
                    tree(scene, front + side * rng.uniform(0.5, 6), depth, behind=z + length)
            if (draw := rng.random()) < 0.8:
                (fence if draw < 0.5 else hedge)(scene, front, z, length)
        z += length + (rng.uniform(1, 8) if rng.random() < 0.2 else 0)


def furniture(scene: Scene, side: int) -> None:
    """Paint what stands on the sidewalk of one side: lamps, signs, trees, people and bins."""
    rng, walk, edge = scene.rng, scene.walks[side], scene.edges[side]
    kerb = edge + side * 0.4

    def distance() -> float:  # most are near
        return 3.5 + rng.exponential(11)

    if rng.random() < 0.75:
        height, half, arm = rng.uniform(5, 9), rng.uniform(0.05, 0.11), rng.random() < 0.5
        color = scene.color(0.35, 0.15, 0.05, 0.3)
        for z in np.arange(rng.uniform(3, 16), 60, rng.uniform(10, 28)).tolist():
            scene.begin(z)
            scene.front(kerb - half, kerb + half, 0, height, z, color, POLE)
            if arm:
                scene.front(kerb, kerb - side * 1.8, height - 0.15, height, z, color, POLE)
                scene.front(kerb - side * 1.1, kerb - side * 1.8, height - 0.3, height, z, color * 1.6, POLE)
    for _ in range(rng.poisson(1.3)):
        sign(scene, kerb + side * rng.uniform(0, 0.5), distance())
    if walk > 2 and rng.random() < 0.4:
        for z in np.arange(rng.uniform(5, 14), 50, rng.uniform(7, 14)).tolist():
            tree(scene, kerb + side * 0.5, z)
    for _ in range(rng.poisson(3.0)):
        person(scene, edge + side * rng.uniform(0.3, walk), distance(), PERSON)
    for _ in range(rng.poisson(1.5)):  # bins, boxes, posters
        x, z = edge + side * rng.uniform(0.6, walk), distance()
        width, height = rng.uniform(0.5, 1.6), rng.uniform(0.7, 1.8)
        scene.begin(z)
        color = scene.color(0.4, 0.15, rng.uniform(0, 0.3), rng.random())
        scene.front(x - width / 2, x + width / 2, 0, height, z, color, UNLABELED)
        scene.front(x - width / 2, x + width / 2, height * 0.85, height, z, color * rng.uniform(0.5, 1.5))


def traffic(scene: Scene) -> None:
    """Paint cars, riders and people on the road, and sometimes the bonnet of the camera's own car."""
    rng, (left, right) = scene.rng, scene.edges.values()
    for side, edge in scene.edges.items():
        if right - left > 6 and rng.random() < 0.6:  # parked along the kerb
            z = rng.uniform(3.5, 20)
            while z < 60:
                car(scene, edge - side * rng.uniform(1.0, 1.3), z)
                z += rng.uniform(5.2, 8) if rng.random() < 0.7 else rng.uniform(10, 30)
        if rng.random() < 0.35:
            person(scene, edge - side * rng.uniform(0.5, 1.5), 4 + rng.exponential(9), RIDER)
    for lane in (left / 2, right / 2, 0.0):
        if rng.random() < 0.4:
            car(scene, lane + rng.normal(0, 0.3), 6 + rng.exponential(14))
    if rng.random() < 0.3:
        x, z = rng.uniform(left, right), 5 + rng.exponential(10)
        person(scene, x, z, RIDER if rng.random() < 0.5 else PERSON)
    if rng.random() < 0.12:  # crossing in front
        car(scene, rng.uniform(-4, 4), rng.uniform(8, 20), across=True)
    if rng.random() < 0.15:  # the bonnet of the camera's own car
        scene.begin(0)
        u, v, reach = rng.uniform(0.7, 1.3), 1.2, rng.uniform(0.23, 0.3)
        ring = [((u + 1.5 * c) * scene.width / 2, (v + reach * s) * scene.height) for c, s in CIRCLE]
        scene.fill(ring, scene.color(rng.uniform(0.05, 0.6), 0.03), 0, UNLABELED)
