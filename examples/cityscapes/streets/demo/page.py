"""The page: three tabs under a line that says how far the model of the first start is."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from streets.demo.handlers import Handlers
from streets.demo.tabs import paint_tab, run_tab, transfer_tab


def page(handlers: Handlers, training: Callable[[], str]) -> gr.Blocks:
    """Make the page; ``training`` says how far the model of the first start is, and nothing once it is finished."""
    with gr.Blocks(title="Paint a street", analytics_enabled=False) as blocks:
        gr.Markdown("# Paint a street\nPaint a label map, and a conditional flow samples photos of it.")
        if training():
            banner = gr.Markdown(training, elem_id="training")
            clock = gr.Timer(2)
            clock.tick(lambda: tick(training()), outputs=[banner, clock], show_progress="hidden", queue=False)
        with gr.Tab("Paint"):
            painting = paint_tab(handlers)
        with gr.Tab("Transfer"):
            transfer_tab(handlers, painting)
        with gr.Tab("Run"):
            run_tab(handlers)
    return blocks


def tick(text: str) -> tuple[Any, Any]:
    """Say how far the training is; once it is finished the clock stops."""
    return gr.Markdown(text or "The small model of generated scenes is trained."), gr.Timer(active=bool(text))
