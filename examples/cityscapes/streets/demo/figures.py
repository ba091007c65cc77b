"""Pictures side by side with their captions: at their own pixels, which the browser enlarges without mixing them."""

import gradio as gr

TEMPLATE = """<div class="figures">{{#each value}}
<figure><img src="{{this.[0]}}" alt="{{this.[1]}}"><figcaption>{{this.[1]}}</figcaption></figure>{{/each}}</div>"""
CSS = """
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(LEAST, 1fr)); gap: 12px; }
figure { margin: 0; }
img { display: block; width: 100%; max-width: none; margin: 0; image-rendering: pixelated; border-radius: 4px; }
figcaption { font-size: 13px; margin-top: 2px; }
"""


def figures(identity: str, least: str) -> gr.HTML:
    """Make the component, for pairs of an address and a caption; ``least`` is the least width of each, in CSS."""
    return gr.HTML([], html_template=TEMPLATE, css_template=CSS.replace("LEAST", least), elem_id=identity)
