"""A description of every page for search engines: its first paragraph."""

from __future__ import annotations

from html import escape

from docutils import nodes

LONGEST = 300  # characters; what lies beyond is not shown


def describe(app, pagename, templatename, context, doctree) -> None:
    """Add the first paragraph of a page to its metadata, cut at a word; one in a note does not count."""
    if doctree is None:
        return
    paragraphs = (node.astext().replace("\n", " ") for node in doctree.findall(nodes.paragraph)
                  if not isinstance(node.parent, nodes.Admonition))
    text = next((text for text in paragraphs if len(text) > 40), "")
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(" ", 1)[0] + " ..."
    if text:
        context["metatags"] += f'<meta name="description" content="{escape(text)}" />'


def setup(app) -> dict[str, bool]:
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
