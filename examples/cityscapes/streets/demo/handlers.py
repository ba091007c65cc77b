"""Answers of the page to what is clicked: texts and pictures, as its components show them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from streets.config.kinds import WITHOUT_TEMPERATURE
from streets.data.items import Item
from streets.demo import painting, sampling
from streets.demo.progress import progress_of
from streets.demo.scenes import Scenes
from streets.demo.shelf import Shelf
from streets.runs.curves import FIGURES, plot_curves, read_curves
from streets.runs.pictures import visible
from streets.runs.run import Run
from streets.using.scenes import read_side
from streets.using.transfer import move

CANVAS = (128, 512)
"""Least and largest height of the canvas in pixels."""
Pictures = list[tuple[str, str]]
"""Pictures as data URLs, with their captions."""


class Handlers:
    """All that the page does with its runs and scenes."""

    def __init__(self, shelf: Shelf, scenes: Scenes):
        self.shelf, self.scenes, self.palette = shelf, scenes, painting.Palette(shelf.labels)

    @property
    def scene_size(self) -> tuple[int, int]:
        """Height and width of the scenes to begin with: those of the first run's images, or a whole part of these."""
        height, width = self.shelf.config(self.shelf.names[0])["image_size"]
        reduce = -(-height // CANVAS[1])
        return height // reduce, width // reduce

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of the canvas: those of the scenes, times a whole number."""
        height, width = self.scene_size
        enlarge = -(-CANVAS[0] // height)
        return height * enlarge, width * enlarge

    def has(self, name: str) -> dict[str, float | None]:
        """Return the usual temperature and guidance of a run; None for what its model has not."""
        config = self.shelf.config(name)
        return {"temperature": None if config["model"] in WITHOUT_TEMPERATURE else sampling.usual_temperature(config),
                "guidance": config.get("guidance", 0.0) if config.get("label_dropout") else None}

    def scene(self, source: str, number: float | None) -> str:
        """Return the label map of a scene, which the canvas enlarges to its own size."""
        return url(self.scenes.item(source, number, self.scene_size)["condition"])

    def any_number(self, source: str) -> int:
        """Choose the number of a scene at random."""
        return random.randrange(self.scenes.count(source, self.scene_size))

    def sample(self, painted: str, name: str, count: float, temperature: float, guidance: float,
               seed: float | None) -> Iterator[tuple[str, Pictures]]:
        """Sample photos of a painted label map: yield what is being done, and the pictures so far."""
        yield f"opening {name} ...", []
        run, drawing = self.shelf.run(name), painting.read(painted, self.palette)
        shown = (painting.encoded(drawing.shown(run.image_size)), "label map, as the model reads it")
        yield from self._drawn(run, name, drawing.item(run.image_size), shown, drawing.note, count, temperature,
                               guidance, seed)

    def sample_given(self, file: str | None, source: str | None, number: float | None, name: str, count: float,
                     temperature: float, guidance: float, seed: float | None) -> Iterator[tuple[str, Pictures]]:
        """Sample images given that of a file, or else of a pair of the data, as ``sample`` does."""
        yield f"opening {name} ...", []
        run = self.shelf.run(name)
        kind = run.pairs().source
        if file is not None:
            item = read_side(run, kind, Path(file), run.size_for(Path(file)))
        elif source:
            item = self.scenes.item(source, number, run.image_size)
        else:
            raise ValueError("there is no image yet: choose a file")
        yield from self._drawn(run, name, item, (url(item[kind], run.given.bits), "given image"), "", count,
                               temperature, guidance, seed)

    def _drawn(self, run: Run, name: str, item: Item, shown: tuple[str, str], note: str, count: float,
               temperature: float, guidance: float, seed: float | None) -> Iterator[tuple[str, Pictures]]:
        """Draw samples of an item, and yield how far they are, with what is shown before them."""
        pictures, seed, notes = [shown], int(seed or 0), paragraphs(note, self.shelf.note(name))
        yield f"drawing {count:.0f} samples ...{notes}", [*pictures]
        for number, sample in enumerate(sampling.samples(run, item, int(count), temperature, seed, guidance), 1):
            pictures.append((url(sample.image, run.wanted.bits), str(sample)))
            yield f"{number} of {count:.0f} samples are drawn ...{notes}", [*pictures]
        settings = f", temperature {temperature:g}" * run.has_temperature
        settings += f", guidance {guidance:g}" * bool(run.guidance(1))
        yield f"{count:.0f} samples of {name}, seed {seed}{settings}.{notes}", pictures

    def transfer(self, name: str, content: tuple[str, float], structure: tuple[str, float] | None, painted: str,
                 seed: float | None) -> Iterator[tuple[str, Pictures]]:
        """Put the content of a scene on the structure of another, or of the painting where that is None."""
        yield f"opening {name} ...", []
        run = self.shelf.run(name)
        photo = self.scenes.item(*content, run.image_size)
        if structure is None:
            drawing = painting.read(painted, self.palette)
            other, note = drawing.item(run.image_size), drawing.note
        else:
            other, note = self.scenes.item(*structure, run.image_size), ""
        given = [("photo", photo, "content"), ("condition", photo, "its label map"),
                 ("condition", other, "structure"), ("photo", other, "real photo of the structure")]
        pictures = [(url(item[key]), text) for key, item, text in given if key in item]
        notes = paragraphs(note, self.shelf.note(name))
        yield f"the photo becomes noise, and the noise a photo of the other label map ...{notes}", pictures
        result, error = move(run, photo, other, int(seed or 0))
        pictures.insert(3, (url(result), "content on the structure"))
        yield (f"The content of {photo['name']} on the structure of {other['name']}. On its own label map the content "
               f"is the photo again, to {error:.1e} (images are in 0 to 1).{notes}"), pictures

    def look(self, name: str) -> tuple[str, Any, Pictures, dict[str, Any]]:
        """Return what there is to see of a run: a text, the plot of the curves, pictures by epoch, configuration."""
        path, config = self.shelf.paths[name], self.shelf.config(name)
        now = progress_of(path)
        height, width = config["image_size"]
        text = f"**{config['model']}** for images of {height} x {width}, in `{path}`: " + (
            str(now) if now else "without a training that could be looked at")
        rows = read_curves(path / "metrics.csv") if now else []
        figure = next((figure for figure in FIGURES if any(row.get(figure) for row in rows)), None)
        pictures = [(painting.data_url(picture.read_bytes()), f"epoch {int(picture.stem.removeprefix('epoch_'))}")
                    for picture in sorted(path.glob("samples/epoch_*.png"), reverse=True)]
        return text, plot_curves(rows, figure) if figure else None, pictures, config


def url(image: Tensor, bits: int = 8) -> str:
    """Encode an image of so many bits ``(channels, H, W)`` as a data URL, in colours of 8 bits."""
    return painting.encoded((255 * visible(image, bits)).round().byte().permute(1, 2, 0).numpy())


def paragraphs(*notes: str) -> str:
    """Write notes as paragraphs that follow a text; empty ones are none."""
    return "".join(f"\n\n{note}" for note in notes if note)
