"""Texts that stand in for thumbnails, which sphinx-gallery leaves empty: those of the pictures on their pages."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform

THUMBNAIL = re.compile(r"(?P<folder>\w+)/images/thumb/sphx_glr_(?P<page>\w+)_thumb\.png$")
NUMBER = re.compile(r"^# sphinx_gallery_thumbnail_number = (\d+)", re.MULTILINE)


def text_of_picture(folder: Path, page: str) -> str:
    """Return the text of the picture on a page from which its thumbnail was made; none where no picture was drawn."""
    texts = re.findall(r"^ +:alt: (\S.*)$", (folder / f"{page}.rst").read_text(), re.MULTILINE)
    number = NUMBER.search((folder / f"{page}.py").read_text())
    return "".join(texts[int(number[1]) - 1 if number else 0 :][:1])


class ThumbnailTexts(SphinxTransform):
    """Give each thumbnail the text of its picture."""

    default_priority = 400

    def apply(self, **kwargs) -> None:
        """Replace the empty texts of all thumbnails of the page."""
        for image in self.document.findall(nodes.image):
            if found := THUMBNAIL.search(image["uri"]):
                image["alt"] = text_of_picture(Path(self.env.srcdir) / found["folder"], found["page"])


def setup(app) -> dict[str, bool]:
    app.add_transform(ThumbnailTexts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
