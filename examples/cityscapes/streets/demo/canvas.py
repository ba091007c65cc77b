"""The canvas to paint on, a component of gradio: a palette with names, brush, eraser, fill and undo.

It paints whole pixels in the colours of the classes, without mixing. Its value is the picture as a data URL, which the
page receives after every stroke, and which it can set to begin anew.
"""

from html import escape
from pathlib import Path

import gradio as gr

from streets.data.labels import IGNORED, Label
from streets.demo.painting import Palette, css

FOLDER = Path(__file__).parent


def canvas(value: str, width: int, height: int, palette: Palette) -> gr.HTML:
    """Make the component, for pictures of ``width`` x ``height`` pixels."""
    template = (FOLDER / "canvas.html").read_text()
    usual, rare = ("".join(button(label) for label in palette.labels if (label.train_id == IGNORED) == ignored)
                   for ignored in (False, True))
    for name, text in {"USUAL": usual, "RARE": rare, "WIDTH": str(width), "HEIGHT": str(height),
                       "HIDDEN": "" if rare else " hidden"}.items():
        template = template.replace(f"@{name}@", text)
    return gr.HTML(value, html_template=template, css_template=(FOLDER / "canvas.css").read_text(),
                   js_on_load=(FOLDER / "canvas.js").read_text(), elem_id="canvas", apply_default_css=False)


def button(label: Label) -> str:
    """Make the button that chooses a class to paint."""
    name = escape(label.name)
    return (f'<button type="button" class="class" data-color="{css(label.color)}" aria-pressed="false" title="{name}">'
            f'<i style="background:{css(label.color)}"></i>{name}</button>')
