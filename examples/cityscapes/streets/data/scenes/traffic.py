"""People, riders and cars in a street."""

from streets.data.scenes.canvas import CAR, RIDER, Scene


def person(scene: Scene, x: float, z: float, label: int) -> None:
    """Paint a person from the feet up, on a bicycle if the label is that of a rider."""
    rng, tag = scene.rng, scene.instance(label)
    height, stride, lift = rng.uniform(1.5, 1.95), rng.uniform(0.02, 0.22), 0.0
    coat = scene.color(rng.uniform(0.08, 0.8), 0.05, rng.uniform(0, 0.4), rng.random())
    legs, hair = scene.color(rng.uniform(0.08, 0.4), 0.04, 0.1, 0.62), scene.color(0.15, 0.08, 0.05, 0.08)
    scene.begin(z)
    if label == RIDER:  # on a bicycle that is seen from behind, or turned
        lift, turn = 0.25, rng.beta(1, 2)
        frame, gap = scene.color(0.3, 0.15, rng.uniform(0, 0.4), rng.random()), 0.55 * turn
        for wheel in (x - gap, x + gap):
            scene.disc(wheel, 0.33, z, (0.06 + 0.26 * turn, 0.33), frame * 0.5, tag)
        bars = [(x - gap, 0.33), (x + gap, 0.33), (x + gap * 0.8 + 0.1, 1.0), (x - gap * 0.4 - 0.1, 0.95)]
        scene.polygon([(u, v, z) for u, v in bars], frame, tag)
    hip, neck = height * 0.48 + lift, height * 0.84 + lift
    for foot in (x - stride, x + stride):
        leg = [(x - 0.14, hip), (x + 0.14, hip), (foot + 0.08, lift), (foot - 0.08, lift)]
        scene.polygon([(u, v, z) for u, v in leg], legs, tag)
    torso = [(-0.2, hip - 0.1), (-0.25, neck - 0.12), (-0.1, neck),
             (0.1, neck), (0.25, neck - 0.12), (0.2, hip - 0.1)]
    scene.polygon([(x + u, v, z) for u, v in torso], coat, tag)
    scene.disc(x, neck + 0.12, z, (0.11, 0.15), scene.color(rng.uniform(0.3, 0.75), 0.03, 0.2, 0.06), tag)
    scene.disc(x, neck + 0.19, z, (0.11, 0.09), hair, tag)
    scene.cast(x - 0.35, x + 0.35, (z - 0.3, z + 0.3), 0.5)


def car(scene: Scene, x: float, z: float, across: bool = False) -> None:
    """Paint a car, a body with a narrower cabin on it: the near end, the roof, and the flank that the camera sees."""
    rng, tag, van = scene.rng, scene.instance(CAR), scene.rng.random() < 0.15
    long, wide, high = rng.uniform([3.6, 1.65, 1.35], [4.9, 1.9, 1.75]).tolist()
    if van:
        long, wide, high = rng.uniform([5, 1.9, 2.1], [8, 2.4, 3.2]).tolist()
    half, deep = (long / 2, wide) if across else (wide / 2, long)
    tint = rng.uniform(0, 0.5) if rng.random() < 0.45 else 0.02
    body = scene.color(rng.choice([0.1, 0.25, 0.5, 0.8]), 0.06, tint, rng.choice([0.0, 0.05, 0.33, 0.62]))
    glass, rubber = scene.color(0.15 + 0.2 * rng.random(), 0.03, 0.06, 0.6), scene.color(0.07, 0.02)
    lamps = scene.color(0.5, 0.05, 0.5) if rng.random() < 0.6 else scene.color(0.95, 0.03)
    belt, inset, back = high * rng.uniform(0.52, 0.62), 0.06 if van else 0.25, z + deep
    near, far = z + deep * 0.18, z + deep * (0.97 if van else 0.75)

    scene.begin(z)
    seen = -1 if scene.project([(x, 0, z + deep / 2)])[0][0] > scene.vanishing[0] * scene.width / 2 else 1
    flank, roof = x + seen * half, half - inset
    scene.wall(flank, 0.25, belt, z, back, body * 0.75, tag)
    side = [(flank, belt, z), (flank, belt, back), (x + seen * roof, high, far), (x + seen * roof, high, near)]
    scene.polygon(side, glass * 0.9, tag)
    if not across:
        for start in (z + deep * 0.12, z + deep * 0.68):
            scene.wall(flank, 0, 0.6, start, start + deep * 0.18, rubber, tag)
    top = [(x - roof, high, near), (x + roof, high, near), (x + roof, high, far), (x - roof, high, far)]
    if scene.eye > high:
        scene.polygon(top, body * 1.1, tag)
    tyre = 0.3 if across else 0.14
    for wheel in (x - 0.75 * half, x + 0.75 * half):
        scene.front(wheel - tyre, wheel + tyre, 0, 0.5, z, rubber, tag)
    scene.front(x - half, x + half, 0.25, belt, z, body, tag)
    scene.polygon([(x - half, belt, z), (x + half, belt, z), top[1], top[0]], body, tag)
    pane, sill = 0.85 * roof, high - (high - belt) * 0.2
    window = [(x - 0.85 * half, belt, z), (x + 0.85 * half, belt, z), (x + pane, sill, near), (x - pane, sill, near)]
    scene.polygon(window, glass)
    for start in (x - 0.94 * half, x + 0.64 * half):
        scene.front(start, start + 0.3 * half, belt * 0.68, belt * 0.9, z, lamps)
    scene.front(x - half, x + half, 0.25, 0.38, z, body * 0.45)
    scene.front(x - 0.26, x + 0.26, 0.45, 0.56, z, scene.light + 0.2)
    scene.cast(x - half - 0.2, x + half + 0.2, (z - 0.3, z + deep), 0.65)
