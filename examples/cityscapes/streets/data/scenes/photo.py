"""Photo and map of a scene from its shapes: sky, shadows, texture, exposure and noise."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from streets.data.scenes.canvas import (
    BUILDING,
    CAR,
    FENCE,
    PERSON,
    POLE,
    RIDER,
    ROAD,
    SIDEWALK,
    SIGN,
    SKY,
    SUPERSAMPLING,
    UNLABELED,
    VEGETATION,
    Scene,
)

# How far grain, fine blotches, coarse blotches and broad patches change the brightness of each label.
TEXTURE = np.zeros((256, 4), dtype=np.float32)
TEXTURE[ROAD] = 0.02, 0.03, 0.03, 0.10
TEXTURE[SIDEWALK] = 0.02, 0.04, 0.04, 0.08
TEXTURE[BUILDING] = 0.02, 0.03, 0.04, 0.10
TEXTURE[FENCE] = 0.03, 0.06, 0.04, 0.05
TEXTURE[VEGETATION] = 0.10, 0.22, 0.16, 0.10
TEXTURE[[PERSON, RIDER, UNLABELED]] = 0.02, 0.03, 0.03, 0.05
TEXTURE[[POLE, SIGN, CAR]] = 0.01, 0.02, 0.02, 0.04


def field(scene: Scene, rows: int, size: tuple[int, int]) -> np.ndarray:
    """Draw smooth noise of about unit variance, (height, width); `rows` sets how fine it is."""
    noise = Image.fromarray(scene.rng.normal(0, 1.25, (rows, 2 * rows)).astype(np.float32))
    return np.asarray(noise.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def heaven(scene: Scene) -> Image.Image:
    """Paint the sky, brighter towards horizon and sun, and clouds: smooth, so painted small and enlarged."""
    rows, columns = 64, 128
    x, y = np.linspace(-1, 1, columns), np.linspace(0, 1, rows)[:, None]
    rise = np.clip(1 - y / scene.vanishing[1], 0, 1)[..., None] ** scene.rng.uniform(0.5, 1.2)
    sky = scene.sky_low + (scene.sky_high - scene.sky_low) * rise
    billows = field(scene, 5, (rows, columns)) + 0.6 * field(scene, 12, (rows, columns))
    cover = np.clip(0.5 * billows + 2.4 * (scene.clouds - 0.5), 0, 1)[..., None]
    sky = sky + ((0.35 + 0.62 * scene.day) * (1 - 0.2 * scene.clouds) - sky) * cover * 0.8
    sky += 0.35 * (1 - scene.clouds) * np.exp(-2 * (x - scene.sun_side * 0.7) ** 2 - 8 * y**2)[..., None]
    small = Image.fromarray((sky.clip(0, 1) * 255).astype(np.uint8))
    return small.resize((scene.width, scene.height), Image.Resampling.BILINEAR)


def develop(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Turn the shapes of a scene into its photo, uint8 (H, W, 3), and its map of objects, int32 (H, W)."""
    photo, objects = heaven(scene), Image.new("I", (scene.width, scene.height), SKY)
    ground, *things = sorted(scene.things, key=lambda thing: -thing[0])
    paint(scene, photo, objects, [ground])
    shadow = scene.shadow.filter(ImageFilter.BoxBlur(scene.height / 128))
    photo = ImageChops.multiply(photo, Image.merge("RGB", [shadow] * 3))
    paint(scene, photo, objects, things)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    tags = np.asarray(objects)[middle, middle].astype(np.int32)
    label = np.where(tags >= 1000, tags // 1000, tags)
    image = np.asarray(photo.reduce(SUPERSAMPLING)).astype(np.float32) / 255

    # Light falls off across the picture and to its corners; exposure, white balance and contrast vary.
    rng, (height, width) = scene.rng, scene.size
    fields = [field(scene, rows, scene.size) for rows in (70, 28, 5)]
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    tilt, fall, exposure = rng.normal(0, 0.1, 2), rng.uniform(0, 0.22), np.exp(rng.normal(0.03, 0.12))
    balance, gamma = np.exp(rng.normal(0, 0.04, 3)), np.exp(rng.normal(-0.08, 0.12))
    noise = rng.uniform(0.004, 0.015)
    gain = exposure * (1 + tilt[0] * x + tilt[1] * y / 2) * (1 - fall * (x**2 + y**2) / 2)
    # Grain comes last: it takes a number per pixel, and nothing else may depend on the image size.
    texture = [rng.standard_normal(scene.size, dtype=np.float32), *fields]
    gain *= 1 + np.einsum("hwk,khw->hw", TEXTURE[label], np.stack(texture))
    image = np.clip(image * gain[..., None] * balance, 0, 1) ** gamma
    image += noise * rng.standard_normal(image.shape, dtype=np.float32)
    return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8), tags


def paint(scene: Scene, photo: Image.Image, objects: Image.Image, things: list[tuple[float, list]]) -> None:
    """Paint things in the given order into the photo, and those of their shapes that have a tag into the map."""
    brush, mark = ImageDraw.Draw(photo), ImageDraw.Draw(objects)
    for _, shapes in things:
        for outline, ink, tag in shapes:
            brush.polygon(outline, fill=ink)
            if tag is not None:
                mark.polygon(outline, fill=tag)
