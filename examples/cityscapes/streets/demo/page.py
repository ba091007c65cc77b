"""The page: tabs under a line that says how far the model of the first start is."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from streets.data.label_sets import CITYSCAPES
from streets.demo.handlers import Handlers
from streets.demo.tabs import given_tab, paint_tab, run_tab, transfer_tab


def page(handlers: Handlers, training: Callable[[], str]) -> gr.Blocks:
    """Make the page; ``training`` says how far the model of the first start is, and nothing once it is finished."""
    of_images = handlers.shelf.of_images
    title, text = ("Paint a street", "Paint a label map, and a conditional flow samples photos of it.")
    if handlers.shelf.labels != CITYSCAPES:
        title = "Paint a label map"
    if of_images:
        title, text = ("Sample images", "Give an image, and a conditional flow samples the other of its pair.")
    with gr.Blocks(title=title, analytics_enabled=False) as blocks:
        gr.Markdown(f"# {title}\n{text}")
        if training():
            banner = gr.Markdown(training, elem_id="training")
            clock = gr.Timer(2)
            clock.tick(lambda: tick(training()), outputs=[banner, clock], show_progress="hidden", queue=False)
        if of_images:
            with gr.Tab("Sample"):
                given_tab(handlers)
        else:
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
