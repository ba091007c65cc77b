"""Plants of a street: hedges and trees."""

from streets.data.scenes.canvas import VEGETATION, Color, Scene


def leaves(scene: Scene) -> Color:
    """Choose a colour of leaves: mostly green, sometimes that of autumn."""
    hue = scene.rng.uniform(0.2, 0.34) if scene.rng.random() < 0.85 else scene.rng.uniform(0.02, 0.14)
    return scene.color(scene.rng.uniform(0.2, 0.42), 0.03, scene.rng.uniform(0.1, 0.3), hue)


def hedge(scene: Scene, x: float, z: float, length: float) -> None:
    """Paint a hedge of uneven height along the road, from z on."""
    tops = scene.rng.uniform(0.8, 2.2) * (1 + scene.rng.normal(0, 0.08, 9))
    upper = [(x, top, z + length * i / 8) for i, top in enumerate(tops.tolist())]
    scene.begin(z + length - 0.05)
    scene.polygon([*upper, (x, 0, z + length), (x, 0, z)], leaves(scene), VEGETATION)


def tree(scene: Scene, x: float, z: float, behind: float = 0) -> None:
    """Paint a tree and its shadow; if ``behind`` is given, the tree is painted before all that is nearer than that."""
    rng, leaf = scene.rng, leaves(scene)
    height, spread, trunk = rng.uniform(4, 10), rng.uniform(1.0, 2.6), rng.uniform(0.1, 0.25)
    scene.begin(behind + z / 1000 if behind else z)
    scene.front(x - trunk, x + trunk, 0, height * 0.6, z, scene.color(0.25, 0.05, 0.1, 0.07), VEGETATION)
    count = 7 if z < 20 else 4
    crown = rng.normal(0, 1, (count, 3)) * [0.4 * spread, 0.12 * height, 0.12] + [x, height * 0.7, 1.0]
    sizes = (rng.uniform(0.45, 0.8, count) * spread).tolist()
    for (px, py, glow), size in zip(crown.tolist(), sizes, strict=True):
        scene.disc(px, py, z, (size, size * 0.9), leaf * glow, VEGETATION, rough=0.16)
    for (px, py, _), size in zip(crown[: count // 2].tolist(), sizes, strict=False):  # lit on the side of the sun
        px, py = px + scene.sun_side * 0.3 * size, py + 0.3 * size
        scene.disc(px, py, z, (size * 0.5, size * 0.4), leaf * (1.35 - 0.3 * scene.clouds), rough=0.2)
    shift = scene.sun_side * height * 0.4
    scene.cast(x - shift - spread, x - shift + spread, (z - spread, z + spread), 0.4)
