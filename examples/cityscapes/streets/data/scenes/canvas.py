"""Canvas of a scene: a pinhole camera, light, and shapes given in metres, kept in the order of painting."""

from collections.abc import Iterable, Sequence
from math import cos, exp, pi, sin

import numpy as np
from PIL import Image, ImageDraw

UNLABELED, ROAD, SIDEWALK, BUILDING, FENCE, POLE = 0, 7, 8, 11, 13, 17
SIGN, VEGETATION, SKY, PERSON, RIDER, CAR = 20, 21, 23, 24, 25, 26
"""Official label ids of the objects that are drawn."""

SUPERSAMPLING = 3  # odd, so that one sample lies at the centre of each pixel and gives its label

CIRCLE = [(cos(2 * pi * i / 16), sin(2 * pi * i / 16)) for i in range(16)]

Color = np.ndarray  # red, green, blue; 1 is white in full light
Point = tuple[float, float, float]  # metres


class Scene:
    """A scene, empty at first, with a random camera, random weather and a street of random width."""

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
        high = np.array([0.3, 0.34, 0.5]) * (1 - day) + rng.uniform([0.2, 0.42, 0.75], [0.45, 0.62, 0.92]) * day
        overcast = (0.45 + 0.5 * day) * np.array([0.93, 0.97, 1.0])
        self.sky_low, self.sky_high = (s + (overcast - s) * self.clouds for s in (low, high))

    def color(self, value: float, spread: float = 0.05, tint: float = 0.0, hue: float = 0.0) -> Color:
        """Choose a colour of about this brightness, tinted from grey to `hue` (0 red, 1/3 green, 2/3 blue)."""
        value += self.rng.normal(0, spread)
        return np.array([max(value + tint * cos(2 * pi * (hue - i / 3)) * (0.3 + value), 0.01) for i in range(3)])

    def project(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        """Project points in metres to pixels of the supersampled picture."""
        wide, high, eye, curve = self.focal * self.width / 2, self.focal * self.height, self.eye, self.curve
        u, v = self.vanishing[0] * self.width / 2 + self.slope * wide, self.vanishing[1] * self.height
        return [(u + (x / z + curve * z) * wide, v + (eye - y) / z * high) for x, y, z in points]

    def begin(self, z: float) -> None:
        """Begin an object at distance z, made of the shapes that follow; farther objects are painted before it.

        Objects along the road behind the sidewalk are given the distance of their far end, so that they do not cover
        the people and poles in front of them.
        """
        self.things.append((z, []))

    def fill(self, outline: Sequence[tuple[float, float]], color: Color, z: float, tag: int | None = None) -> None:
        """Fill an outline in pixels; without a tag it changes the photo alone, as a window does in its wall."""
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
        """Fill a polygon whose corners are in metres, with the haze of its mean distance."""
        self.fill(self.project(points), color, (points[0][2] + points[len(points) // 2][2]) / 2, tag)

    def front(self, x0: float, x1: float, y0: float, y1: float, z: float, color: Color, tag: int | None = None) -> None:
        """Fill an upright rectangle that faces the camera."""
        self.polygon([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], color, tag)

    def wall(self, x: float, y0: float, y1: float, z0: float, z1: float, color: Color, tag: int | None = None) -> None:
        """Fill an upright rectangle that runs along the road."""
        self.polygon([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], color, tag)

    def strip(self, x0: float, x1: float, z: Iterable[float], color: Color, tag: int | None = None) -> None:
        """Fill a band of the road's surface that follows its bend."""
        z = list(z)
        self.polygon([(x0, 0, d) for d in z] + [(x1, 0, d) for d in reversed(z)], color, tag)

    def disc(self, x: float, y: float, z: float, radii: Sequence[float], color: Color, tag: int | None = None,
             rough: float = 0) -> None:
        """Fill an ellipse that faces the camera; `rough` is how far its outline varies, as a share of the radius."""
        bumps = self.rng.uniform(1 - rough, 1 + rough, len(CIRCLE)).tolist() if rough else [1.0] * len(CIRCLE)
        ring = zip(CIRCLE, bumps, strict=True)
        self.polygon([(x + radii[0] * r * c, y + radii[1] * r * s, z) for (c, s), r in ring], color, tag)

    def cast(self, x0: float, x1: float, z: Iterable[float], strength: float) -> None:
        """Darken a band of the ground by `strength`, less so under clouds."""
        z = [max(d, 0.8) for d in z]
        outline = self.project([(x0, 0, d) for d in z] + [(x1, 0, d) for d in reversed(z)])
        self.shade.polygon(outline, fill=int(255 * (1 - strength * (1 - 0.75 * self.clouds))))

    def instance(self, label: int) -> int:
        """Return the tag of the next object of a label: 1000 * label + number, counted from 0."""
        self.counts[label] += 1
        return 1000 * label + self.counts[label] - 1
