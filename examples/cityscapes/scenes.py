"""Street scenes drawn from random numbers: a photo and the exact map of its objects.

A scene is laid out in metres on a flat ground, x to the right, y up and z ahead of a pinhole camera, and
painted from far to near, every shape once into the photo and once into the map. What the map does not tell
varies in the photo: time of day, haze, shadows, the colour and material of every object. So there is a
distribution to learn.
"""

from collections.abc import Iterable, Sequence
from math import cos, exp, pi, sin

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

UNLABELED, ROAD, SIDEWALK, BUILDING, FENCE, POLE = 0, 7, 8, 11, 13, 17
SIGN, VEGETATION, SKY, PERSON, RIDER, CAR = 20, 21, 23, 24, 25, 26

SUPERSAMPLING = 3  # odd, so that one sample lies at the centre of each pixel and gives its label

# How far grain, fine blotches, coarse blotches and broad patches change the brightness of each label.
TEXTURE = np.zeros((256, 4), dtype=np.float32)
TEXTURE[ROAD] = 0.02, 0.03, 0.03, 0.10
TEXTURE[SIDEWALK] = 0.02, 0.04, 0.04, 0.08
TEXTURE[BUILDING] = 0.02, 0.03, 0.04, 0.10
TEXTURE[FENCE] = 0.03, 0.06, 0.04, 0.05
TEXTURE[VEGETATION] = 0.10, 0.22, 0.16, 0.10
TEXTURE[[PERSON, RIDER, UNLABELED]] = 0.02, 0.03, 0.03, 0.05
TEXTURE[[POLE, SIGN, CAR]] = 0.01, 0.02, 0.02, 0.04

CIRCLE = [(cos(2 * pi * i / 16), sin(2 * pi * i / 16)) for i in range(16)]

Color = np.ndarray  # red, green, blue; 1 is white in full light
Point = tuple[float, float, float]  # metres


def draw(rng: np.random.Generator, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A photo, uint8 (H, W, 3), and its map, int32 (H, W): 1000 * id + number of people, cars; else id."""
    return _Scene(rng, image_size).develop()


class _Scene:
    def __init__(self, rng: np.random.Generator, image_size: tuple[int, int]) -> None:
        self.rng, self.size = rng, image_size
        self.height, self.width = (side * SUPERSAMPLING for side in image_size)
        self.things: list[tuple[float, list]] = []  # distance, and shapes in the order of painting
        self.shadow = Image.new("L", (self.width, self.height), 255)
        self.shade = ImageDraw.Draw(self.shadow)
        self.counts = {PERSON: 0, RIDER: 0, CAR: 0}

        # The picture is two units wide and one high, whatever the size of the image.
        self.focal, self.eye = rng.uniform(0.9, 1.7), rng.uniform(1.2, 2.2)
        self.vanishing = rng.uniform(0.65, 1.35), rng.uniform(0.34, 0.54)
        self.curve = rng.normal(0, 0.0015 if rng.random() < 0.7 else 0.005)
        self.slope = -8 * self.curve  # look into the bend, so that the road stays in view
        self.edges = {-1: -rng.uniform(2.2, 8.5), 1: rng.uniform(2.2, 6.5)}
        self.walks = {-1: rng.uniform(1.0, 5.0), 1: rng.uniform(1.0, 5.0)}
        self.urban, self.storey = rng.beta(2.2, 1.2), rng.uniform(2.8, 3.8)

        # From dusk to noon, from clear to overcast.
        day, self.clouds = rng.beta(1.6, 0.8), rng.beta(0.8, 0.8)
        self.day, self.sun_side, self.visibility = day, 1 if rng.random() < 0.5 else -1, rng.uniform(60, 400)
        sun = np.array([1.12, 0.94, 0.70]) * (1 - day) + np.array([1.0, 0.99, 0.95]) * day
        self.light = (0.45 + 0.7 * day) * (sun + (np.array([0.92, 0.97, 1.04]) - sun) * self.clouds)
        low = rng.uniform([0.75, 0.5, 0.35], [1.0, 0.7, 0.6]) * (1 - day) + np.array([0.78, 0.87, 0.95]) * day
        high = (
            np.array([0.3, 0.34, 0.5]) * (1 - day) + rng.uniform([0.2, 0.42, 0.75], [0.45, 0.62, 0.92]) * day
        )
        overcast = (0.45 + 0.5 * day) * np.array([0.93, 0.97, 1.0])
        self.sky_low, self.sky_high = (s + (overcast - s) * self.clouds for s in (low, high))

        self.ground()
        for side in (-1, 1):
            self.frontage(side)
            self.furniture(side)
        self.traffic()

    # Drawing

    def color(self, value: float, spread: float = 0.05, tint: float = 0.0, hue: float = 0.0) -> Color:
        """About this bright, turned by `tint` from grey to `hue` (0 red, 1/3 green, 2/3 blue)."""
        value += self.rng.normal(0, spread)
        return np.array(
            [max(value + tint * cos(2 * pi * (hue - i / 3)) * (0.3 + value), 0.01) for i in range(3)]
        )

    def project(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        """Metres to pixels of the supersampled picture."""
        wide, high, eye, curve = self.focal * self.width / 2, self.focal * self.height, self.eye, self.curve
        u, v = self.vanishing[0] * self.width / 2 + self.slope * wide, self.vanishing[1] * self.height
        return [(u + (x / z + curve * z) * wide, v + (eye - y) / z * high) for x, y, z in points]

    def begin(self, z: float) -> None:
        """The shapes that follow belong to an object at distance z; farther ones are painted before it.

        What runs along the road behind the sidewalk counts from its far end, so as not to cover the people
        and poles in front of it.
        """
        self.things.append((z, []))

    def fill(
        self, outline: Sequence[tuple[float, float]], color: Color, z: float, tag: int | None = None
    ) -> None:
        """Fill pixels; without a tag the map keeps what is there, as for a window in its wall."""
        across, down = [p[0] for p in outline], [p[1] for p in outline]
        left, right, top, bottom = min(across), max(across), min(down), max(down)
        if right < 0 or left > self.width or bottom < 0 or top > self.height:
            return
        if tag is None and (right - left < 0.7 or bottom - top < 0.7):
            return  # Pillow would paint it one sample wide
        clear = exp(-z / self.visibility)
        seen = color * self.light * clear + self.sky_low * (0.9 * (1 - clear))
        ink = tuple([min(int(255 * level), 255) for level in seen.tolist()])
        self.things[-1][1].append((outline, ink, tag))

    def polygon(self, points: Sequence[Point], color: Color, tag: int | None = None) -> None:
        self.fill(self.project(points), color, (points[0][2] + points[len(points) // 2][2]) / 2, tag)

    def front(
        self, x0: float, x1: float, y0: float, y1: float, z: float, color: Color, tag: int | None = None
    ) -> None:
        """An upright rectangle that faces the camera."""
        self.polygon([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], color, tag)

    def wall(
        self, x: float, y0: float, y1: float, z0: float, z1: float, color: Color, tag: int | None = None
    ) -> None:
        """An upright rectangle that runs along the road."""
        self.polygon([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], color, tag)

    def strip(self, x0: float, x1: float, z: Iterable[float], color: Color, tag: int | None = None) -> None:
        """A band of the road's surface that follows its bend."""
        z = list(z)
        self.polygon([(x0, 0, d) for d in z] + [(x1, 0, d) for d in reversed(z)], color, tag)

    def disc(
        self,
        x: float,
        y: float,
        z: float,
        radii: Sequence[float],
        color: Color,
        tag: int | None = None,
        rough: float = 0,
    ) -> None:
        bumps = self.rng.uniform(1 - rough, 1 + rough, len(CIRCLE)).tolist() if rough else [1.0] * len(CIRCLE)
        ring = zip(CIRCLE, bumps, strict=True)
        self.polygon([(x + radii[0] * r * c, y + radii[1] * r * s, z) for (c, s), r in ring], color, tag)

    def cast(self, x0: float, x1: float, z: Iterable[float], strength: float) -> None:
        """Darken a band of the ground, less so under clouds."""
        z = [max(d, 0.8) for d in z]
        outline = self.project([(x0, 0, d) for d in z] + [(x1, 0, d) for d in reversed(z)])
        self.shade.polygon(outline, fill=int(255 * (1 - strength * (1 - 0.75 * self.clouds))))

    def instance(self, label: int) -> int:
        self.counts[label] += 1
        return 1000 * label + self.counts[label] - 1

    # The street

    def ground(self) -> None:
        rng, (left, right), horizon = self.rng, self.edges.values(), self.vanishing[1]
        far = (1 / np.linspace(1 / 0.8, 1 / 250, 40)).tolist()
        self.begin(np.inf)
        steps, built = np.linspace(0, 2, 25), rng.random() < 0.5
        tops = horizon - rng.uniform(0.01, 0.08) * (1 + rng.uniform(-0.8, 0.8, 25))
        if built:  # roofs rather than treetops
            steps, tops = np.repeat(steps, 2)[1:], np.repeat(tops, 2)[:-1]
        skyline = [(u * self.width / 2, v * self.height) for u, v in zip(steps, tops, strict=True)]
        color = self.color(0.45, 0.1) if built else self.leaves()
        self.fill(
            [*skyline, (self.width, self.height), (0, self.height)],
            color,
            80,
            BUILDING if built else VEGETATION,
        )

        pavement, top = (
            self.color(0.52, 0.07, rng.uniform(0, 0.12), rng.uniform(0, 0.2)),
            (horizon + 0.004) * self.height,
        )
        box = [(0, top), (self.width, top), (self.width, self.height), (0, self.height)]
        self.fill(box, pavement, 12, SIDEWALK)
        for side, edge in self.edges.items():
            joint, slab = pavement * rng.uniform(0.75, 0.95), rng.uniform(1.0, 2.5)
            for z in np.arange(2.5, 16, slab).tolist():
                self.strip(edge, edge + side * self.walks[side], (z, z + 0.08), joint)
        asphalt, kerb = self.color(0.36, 0.07, 0.03, rng.random()), self.color(0.7, 0.08)
        self.strip(left, right, far, asphalt, ROAD)
        for edge in (left, right):
            self.strip(edge - 0.12, edge + 0.12, far, kerb, SIDEWALK)
        for _ in range(rng.poisson(2.5)):  # mended asphalt
            x, z, length = rng.uniform(left, right - 1), rng.uniform(3, 20), rng.uniform(1, 9)
            mended = asphalt * rng.uniform(0.7, 1.2)
            self.strip(x, min(x + rng.uniform(0.5, 2.5), right), (z, z + length), mended)

        paint, middle = self.color(0.85, 0.07), (left + right) / 2 + rng.normal(0, 0.4)
        style, start, period = rng.random(), rng.uniform(1, 5), rng.uniform(5, 10)
        if style < 0.55:
            for z in np.arange(start, 60, period).tolist():
                self.strip(middle - 0.1, middle + 0.1, (z, z + period / 4, z + period / 2), paint)
        elif style < 0.75:
            self.strip(middle - 0.1, middle + 0.1, far, paint)
        if rng.random() < 0.3:
            for x in (left + 0.4, right - 0.4):
                self.strip(x - 0.08, x + 0.08, far, paint)
        if rng.random() < 0.25:  # a zebra crossing
            z = rng.uniform(5, 16)
            for x in np.arange(left + 0.3, right - 0.5, 1.0).tolist():
                self.strip(x, x + 0.5, (z, z + 3), paint)
        if rng.random() < 0.75:  # the houses on the side of the sun shade the ground
            near, reach, edge = (
                rng.uniform(0.8, 12),
                rng.uniform(0.1, 0.9) * (right - left),
                self.edges[self.sun_side],
            )
            band = (1 / np.linspace(1 / near, 1 / rng.uniform(20, 120), 16)).tolist()
            self.cast(edge + self.sun_side * 6, edge - self.sun_side * reach, band, rng.uniform(0.25, 0.6))

    def frontage(self, side: int) -> None:
        """What stands behind the sidewalk: houses, trees, fences, hedges and gaps."""
        rng, front = self.rng, self.edges[side] + side * self.walks[side]
        z, setback = rng.uniform(1.0, 4.0), 0.0
        while z < 75:
            length = rng.uniform(5, 16)
            if rng.random() < self.urban:
                setback = setback if rng.random() < 0.6 else rng.uniform(0, 4)
                floors = int(rng.integers(1, 7) if rng.random() < 0.85 else rng.integers(6, 14))
                self.house(side, front + side * setback, z, length, floors)
                if setback > 1.5 and rng.random() < 0.6:
                    self.fence(front, z, length)
            else:
                if rng.random() < 0.75:
                    for depth in np.arange(z + rng.uniform(0, 3), z + length, rng.uniform(2.5, 7)).tolist():
                        self.tree(front + side * rng.uniform(0.5, 6), depth, behind=z + length)
                if (low := rng.random()) < 0.8:
                    (self.fence if low < 0.5 else self.hedge)(front, z, length)
            z += length + (rng.uniform(1, 8) if rng.random() < 0.2 else 0)

    def furniture(self, side: int) -> None:
        """What stands on the sidewalk: lamps, signs, trees, bins and people."""
        rng, walk, edge = self.rng, self.walks[side], self.edges[side]
        kerb, near = edge + side * 0.4, lambda: 3.5 + rng.exponential(11)
        if rng.random() < 0.75:
            height, half, arm = rng.uniform(5, 9), rng.uniform(0.05, 0.11), rng.random() < 0.5
            color = self.color(0.35, 0.15, 0.05, 0.3)
            for z in np.arange(rng.uniform(3, 16), 60, rng.uniform(10, 28)).tolist():
                self.begin(z)
                self.front(kerb - half, kerb + half, 0, height, z, color, POLE)
                if arm:
                    self.front(kerb, kerb - side * 1.8, height - 0.15, height, z, color, POLE)
                    self.front(
                        kerb - side * 1.1, kerb - side * 1.8, height - 0.3, height, z, color * 1.6, POLE
                    )
        for _ in range(rng.poisson(1.3)):
            self.sign(kerb + side * rng.uniform(0, 0.5), near())
        if walk > 2 and rng.random() < 0.4:
            for z in np.arange(rng.uniform(5, 14), 50, rng.uniform(7, 14)).tolist():
                self.tree(kerb + side * 0.5, z)
        for _ in range(rng.poisson(3.0)):
            self.person(edge + side * rng.uniform(0.3, walk), near(), PERSON)
        for _ in range(rng.poisson(1.5)):  # bins, boxes, posters
            x, z, width, height = (
                edge + side * rng.uniform(0.6, walk),
                near(),
                rng.uniform(0.5, 1.6),
                rng.uniform(0.7, 1.8),
            )
            self.begin(z)
            color = self.color(0.4, 0.15, rng.uniform(0, 0.3), rng.random())
            self.front(x - width / 2, x + width / 2, 0, height, z, color, UNLABELED)
            self.front(x - width / 2, x + width / 2, height * 0.85, height, z, color * rng.uniform(0.5, 1.5))

    def traffic(self) -> None:
        rng, (left, right) = self.rng, self.edges.values()
        for side, edge in self.edges.items():
            if right - left > 6 and rng.random() < 0.6:  # parked along the kerb
                z = rng.uniform(3.5, 20)
                while z < 60:
                    self.car(edge - side * rng.uniform(1.0, 1.3), z)
                    z += rng.uniform(5.2, 8) if rng.random() < 0.7 else rng.uniform(10, 30)
            if rng.random() < 0.35:
                self.person(edge - side * rng.uniform(0.5, 1.5), 4 + rng.exponential(9), RIDER)
        for lane in (left / 2, right / 2, 0.0):
            if rng.random() < 0.4:
                self.car(lane + rng.normal(0, 0.3), 6 + rng.exponential(14))
        if rng.random() < 0.3:
            self.person(
                rng.uniform(left, right), 5 + rng.exponential(10), RIDER if rng.random() < 0.5 else PERSON
            )
        if rng.random() < 0.12:  # crossing in front
            self.car(rng.uniform(-4, 4), rng.uniform(8, 20), across=True)
        if rng.random() < 0.15:  # the bonnet of the camera's own car
            self.begin(0)
            u, v, reach = rng.uniform(0.7, 1.3), 1.2, rng.uniform(0.23, 0.3)
            ring = [((u + 1.5 * c) * self.width / 2, (v + reach * s) * self.height) for c, s in CIRCLE]
            self.fill(ring, self.color(rng.uniform(0.05, 0.6), 0.03), 0, UNLABELED)

    # Its objects

    def house(self, side: int, x: float, z: float, length: float, floors: int) -> None:
        rng, end, storey = self.rng, z + length, self.storey
        height, wide, high = floors * storey + 0.8, rng.uniform(0.35, 0.8), rng.uniform(0.4, 0.7)
        tint, hue = (
            (rng.uniform(0.03, 0.3), rng.uniform(-0.02, 0.16)) if rng.random() < 0.75 else (0.1, rng.random())
        )
        color, roof = self.color(rng.uniform(0.25, 0.8), 0.03, tint, hue), self.color(0.3, 0.1, 0.1)
        sun = (1 - self.clouds) * 0.3
        facade, gable = color * (1 - sun * (side == self.sun_side)), color * (1 - sun * rng.uniform(0, 1.2))
        self.begin(end)
        if rng.random() < 0.4:
            ridge, middle = height + rng.uniform(1, 3), x + side * 4
            self.polygon(
                [(x, height, z), (x, height, end), (middle, ridge, end), (middle, ridge, z)], roof, BUILDING
            )
            self.polygon([(x, height, z), (middle, ridge, z), (x + side * 8, height, z)], gable, BUILDING)
        self.front(x, x + side * 12, 0, height, z, gable, BUILDING)
        self.wall(x, 0, height, z, end, facade, BUILDING)
        self.wall(x, height - 0.35, height, z, end, roof)
        if rng.random() < 0.4 and z < 14:  # courses of stone
            for y in np.arange(0.4, min(height, 8), 0.8).tolist():
                self.wall(x, y, y + 0.16, z, end, facade * 0.82)
        if rng.random() < 0.4:  # a shop
            self.wall(
                x, storey * 0.8, storey, z, end, self.color(0.35, 0.15, rng.uniform(0, 0.4), rng.random())
            )
        glass, lamp = (
            self.color(0.15 + 0.25 * rng.random(), 0.04, 0.08, 0.6),
            self.color(1.3, 0, 0.25, 0.1) / self.light,
        )
        columns = max(1, int(length / rng.uniform(1.8, 3.5)))
        is_lit, glint = (
            rng.random((floors, columns)) < 0.3 - 0.5 * self.day,
            rng.uniform(0.7, 1.4, (floors, columns)),
        )
        if z > 35:
            return
        pitch = length / columns
        for row in range(floors):
            y = row * storey + storey * (1 - high) * 0.6
            for column in range(columns):
                near = z + (column + (1 - wide) / 2) * pitch
                pane = lamp if is_lit[row, column] else glass * glint[row, column]
                self.wall(x, y, y + storey * high, near, near + wide * pitch, pane)

    def fence(self, x: float, z: float, length: float) -> None:
        rng, height = self.rng, self.rng.uniform(0.8, 2.0)
        color = self.color(rng.uniform(0.2, 0.7), 0.05, rng.uniform(0, 0.15), rng.uniform(0, 0.4))
        bars, gap = color * rng.uniform(0.5, 1.4), rng.uniform(0.3, 1.2)
        self.begin(z + length - 0.05)
        self.wall(x, 0, height, z, z + length, color, FENCE)
        self.wall(x, height * 0.85, height, z, z + length, bars)
        for depth in np.arange(z, min(z + length, 18), gap).tolist():
            self.wall(x, 0, height, depth, depth + gap * 0.3, bars)

    def leaves(self) -> Color:
        hue = self.rng.uniform(0.2, 0.34) if self.rng.random() < 0.85 else self.rng.uniform(0.02, 0.14)
        return self.color(self.rng.uniform(0.2, 0.42), 0.03, self.rng.uniform(0.1, 0.3), hue)

    def hedge(self, x: float, z: float, length: float) -> None:
        tops = self.rng.uniform(0.8, 2.2) * (1 + self.rng.normal(0, 0.08, 9))
        upper = [(x, top, z + length * i / 8) for i, top in enumerate(tops.tolist())]
        self.begin(z + length - 0.05)
        self.polygon([*upper, (x, 0, z + length), (x, 0, z)], self.leaves(), VEGETATION)

    def tree(self, x: float, z: float, behind: float = 0) -> None:
        rng, leaf = self.rng, self.leaves()
        height, spread, trunk = rng.uniform(4, 10), rng.uniform(1.0, 2.6), rng.uniform(0.1, 0.25)
        self.begin(behind + z / 1000 if behind else z)
        self.front(x - trunk, x + trunk, 0, height * 0.6, z, self.color(0.25, 0.05, 0.1, 0.07), VEGETATION)
        count = 7 if z < 20 else 4
        puffs = rng.normal(0, 1, (count, 3)) * [0.4 * spread, 0.12 * height, 0.12] + [x, height * 0.7, 1.0]
        sizes = (rng.uniform(0.45, 0.8, count) * spread).tolist()
        for (px, py, glow), size in zip(puffs.tolist(), sizes, strict=True):
            self.disc(px, py, z, (size, size * 0.9), leaf * glow, VEGETATION, rough=0.16)
        for (px, py, _), size in zip(
            puffs[: count // 2].tolist(), sizes, strict=False
        ):  # lit from the side of the sun
            px, py = px + self.sun_side * 0.3 * size, py + 0.3 * size
            self.disc(px, py, z, (size * 0.5, size * 0.4), leaf * (1.35 - 0.3 * self.clouds), rough=0.2)
        shift = self.sun_side * height * 0.4
        self.cast(x - shift - spread, x - shift + spread, (z - spread, z + spread), 0.4)

    def sign(self, x: float, z: float) -> None:
        rng = self.rng
        height, size, shape = rng.uniform(2.2, 3.4), rng.uniform(0.35, 0.6), rng.integers(4)
        rim = self.color(0.55, 0.05, 0.5, rng.choice([0.0, 0.62, 0.13]))
        inner = self.color(0.85, 0.05) if rng.random() < 0.6 else rim * 0.9
        self.begin(z)
        self.front(x - 0.06, x + 0.06, 0, height + size * 0.8, z, self.color(0.5, 0.1), POLE)
        for r, color, tag in ((size, rim, SIGN), (size * 0.65, inner, None)):
            if shape == 0:
                self.disc(x, height, z, (r, r), color, tag)
            elif shape == 1:
                self.polygon(
                    [(x - r, height - 0.8 * r, z), (x + r, height - 0.8 * r, z), (x, height + r, z)],
                    color,
                    tag,
                )
            else:
                wide, high = (1.6 * r, 0.7 * r) if shape == 2 else (r, r)
                self.front(x - wide, x + wide, height - high, height + high, z, color, tag)

    def person(self, x: float, z: float, label: int) -> None:
        rng, tag = self.rng, self.instance(label)
        height, stride, lift = rng.uniform(1.5, 1.95), rng.uniform(0.02, 0.22), 0.0
        coat = self.color(rng.uniform(0.08, 0.8), 0.05, rng.uniform(0, 0.4), rng.random())
        legs, hair = self.color(rng.uniform(0.08, 0.4), 0.04, 0.1, 0.62), self.color(0.15, 0.08, 0.05, 0.08)
        self.begin(z)
        if label == RIDER:  # on a bicycle that is seen from behind, or turned
            lift, turn = 0.25, rng.beta(1, 2)
            frame, gap = self.color(0.3, 0.15, rng.uniform(0, 0.4), rng.random()), 0.55 * turn
            for wheel in (x - gap, x + gap):
                self.disc(wheel, 0.33, z, (0.06 + 0.26 * turn, 0.33), frame * 0.5, tag)
            bars = [(x - gap, 0.33), (x + gap, 0.33), (x + gap * 0.8 + 0.1, 1.0), (x - gap * 0.4 - 0.1, 0.95)]
            self.polygon([(u, v, z) for u, v in bars], frame, tag)
        hip, neck = height * 0.48 + lift, height * 0.84 + lift
        for foot in (x - stride, x + stride):
            leg = [(x - 0.14, hip), (x + 0.14, hip), (foot + 0.08, lift), (foot - 0.08, lift)]
            self.polygon([(u, v, z) for u, v in leg], legs, tag)
        torso = [
            (-0.2, hip - 0.1),
            (-0.25, neck - 0.12),
            (-0.1, neck),
            (0.1, neck),
            (0.25, neck - 0.12),
            (0.2, hip - 0.1),
        ]
        self.polygon([(x + u, v, z) for u, v in torso], coat, tag)
        self.disc(x, neck + 0.12, z, (0.11, 0.15), self.color(rng.uniform(0.3, 0.75), 0.03, 0.2, 0.06), tag)
        self.disc(x, neck + 0.19, z, (0.11, 0.09), hair, tag)
        self.cast(x - 0.35, x + 0.35, (z - 0.3, z + 0.3), 0.5)

    def car(self, x: float, z: float, across: bool = False) -> None:
        """A body and the narrower cabin on it: the near side, the roof and the flank turned to the camera."""
        rng, tag, van = self.rng, self.instance(CAR), self.rng.random() < 0.15
        long, wide, high = rng.uniform([3.6, 1.65, 1.35], [4.9, 1.9, 1.75]).tolist()
        if van:
            long, wide, high = rng.uniform([5, 1.9, 2.1], [8, 2.4, 3.2]).tolist()
        half, deep = (long / 2, wide) if across else (wide / 2, long)
        tint = rng.uniform(0, 0.5) if rng.random() < 0.45 else 0.02
        body = self.color(rng.choice([0.1, 0.25, 0.5, 0.8]), 0.06, tint, rng.choice([0.0, 0.05, 0.33, 0.62]))
        glass, rubber = self.color(0.15 + 0.2 * rng.random(), 0.03, 0.06, 0.6), self.color(0.07, 0.02)
        lamps = self.color(0.5, 0.05, 0.5) if rng.random() < 0.6 else self.color(0.95, 0.03)
        belt, inset, back = high * rng.uniform(0.52, 0.62), 0.06 if van else 0.25, z + deep
        near, far = z + deep * 0.18, z + deep * (0.97 if van else 0.75)

        self.begin(z)
        seen = -1 if self.project([(x, 0, z + deep / 2)])[0][0] > self.vanishing[0] * self.width / 2 else 1
        flank, roof = x + seen * half, half - inset
        self.wall(flank, 0.25, belt, z, back, body * 0.75, tag)
        side = [
            (flank, belt, z),
            (flank, belt, back),
            (x + seen * roof, high, far),
            (x + seen * roof, high, near),
        ]
        self.polygon(side, glass * 0.9, tag)
        if not across:
            for start in (z + deep * 0.12, z + deep * 0.68):
                self.wall(flank, 0, 0.6, start, start + deep * 0.18, rubber, tag)
        top = [(x - roof, high, near), (x + roof, high, near), (x + roof, high, far), (x - roof, high, far)]
        if self.eye > high:
            self.polygon(top, body * 1.1, tag)
        tyre = 0.3 if across else 0.14
        for wheel in (x - 0.75 * half, x + 0.75 * half):
            self.front(wheel - tyre, wheel + tyre, 0, 0.5, z, rubber, tag)
        self.front(x - half, x + half, 0.25, belt, z, body, tag)
        self.polygon([(x - half, belt, z), (x + half, belt, z), top[1], top[0]], body, tag)
        pane, sill = 0.85 * roof, high - (high - belt) * 0.2
        window = [
            (x - 0.85 * half, belt, z),
            (x + 0.85 * half, belt, z),
            (x + pane, sill, near),
            (x - pane, sill, near),
        ]
        self.polygon(window, glass)
        for start in (x - 0.94 * half, x + 0.64 * half):
            self.front(start, start + 0.3 * half, belt * 0.68, belt * 0.9, z, lamps)
        self.front(x - half, x + half, 0.25, 0.38, z, body * 0.45)
        self.front(x - 0.26, x + 0.26, 0.45, 0.56, z, self.light + 0.2)
        self.cast(x - half - 0.2, x + half + 0.2, (z - 0.3, z + deep), 0.65)

    # From paint to photo

    def field(self, rows: int, size: tuple[int, int]) -> np.ndarray:
        """Smooth noise of about unit variance, (height, width); `rows` sets how fine it is."""
        noise = Image.fromarray(self.rng.normal(0, 1.25, (rows, 2 * rows)).astype(np.float32))
        return np.asarray(noise.resize((size[1], size[0]), Image.Resampling.BICUBIC))

    def heaven(self) -> Image.Image:
        """The sky, brighter towards horizon and sun, and clouds. Smooth, hence painted small and enlarged."""
        rows, columns = 64, 128
        x, y = np.linspace(-1, 1, columns), np.linspace(0, 1, rows)[:, None]
        rise = np.clip(1 - y / self.vanishing[1], 0, 1)[..., None] ** self.rng.uniform(0.5, 1.2)
        sky = self.sky_low + (self.sky_high - self.sky_low) * rise
        billows = self.field(5, (rows, columns)) + 0.6 * self.field(12, (rows, columns))
        cover = np.clip(0.5 * billows + 2.4 * (self.clouds - 0.5), 0, 1)[..., None]
        sky = sky + ((0.35 + 0.62 * self.day) * (1 - 0.2 * self.clouds) - sky) * cover * 0.8
        sky += 0.35 * (1 - self.clouds) * np.exp(-2 * (x - self.sun_side * 0.7) ** 2 - 8 * y**2)[..., None]
        small = Image.fromarray((sky.clip(0, 1) * 255).astype(np.uint8))
        return small.resize((self.width, self.height), Image.Resampling.BILINEAR)

    def develop(self) -> tuple[np.ndarray, np.ndarray]:
        photo, objects = self.heaven(), Image.new("I", (self.width, self.height), SKY)
        ground, *things = sorted(self.things, key=lambda thing: -thing[0])
        self.paint(photo, objects, [ground])
        shadow = self.shadow.filter(ImageFilter.BoxBlur(self.height / 128))
        photo = ImageChops.multiply(photo, Image.merge("RGB", [shadow] * 3))
        self.paint(photo, objects, things)
        middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
        tags = np.asarray(objects)[middle, middle].astype(np.int32)
        label = np.where(tags >= 1000, tags // 1000, tags)
        image = np.asarray(photo.reduce(SUPERSAMPLING)).astype(np.float32) / 255

        # Light falls off across the picture and to its corners; exposure, white balance and contrast vary.
        rng, (height, width) = self.rng, self.size
        fields = [self.field(rows, self.size) for rows in (70, 28, 5)]
        x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
        tilt, fall, exposure = rng.normal(0, 0.1, 2), rng.uniform(0, 0.22), np.exp(rng.normal(0.03, 0.12))
        balance, gamma, noise = (
            np.exp(rng.normal(0, 0.04, 3)),
            np.exp(rng.normal(-0.08, 0.12)),
            rng.uniform(0.004, 0.015),
        )
        gain = exposure * (1 + tilt[0] * x + tilt[1] * y / 2) * (1 - fall * (x**2 + y**2) / 2)
        # Grain comes last: it takes a number per pixel, and nothing else may depend on the image size.
        texture = [rng.standard_normal(self.size, dtype=np.float32), *fields]
        gain *= 1 + np.einsum("hwk,khw->hw", TEXTURE[label], np.stack(texture))
        image = np.clip(image * gain[..., None] * balance, 0, 1) ** gamma
        image += noise * rng.standard_normal(image.shape, dtype=np.float32)
        return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8), tags

    def paint(self, photo: Image.Image, objects: Image.Image, things: list[tuple[float, list]]) -> None:
        brush, mark = ImageDraw.Draw(photo), ImageDraw.Draw(objects)
        for _, shapes in things:
            for outline, ink, tag in shapes:
                brush.polygon(outline, fill=ink)
                if tag is not None:
                    mark.polygon(outline, fill=tag)
