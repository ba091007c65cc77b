"""The tabs of the page: their components, and which of the handlers answers to them."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from streets.demo.canvas import canvas
from streets.demo.figures import figures
from streets.demo.handlers import Handlers
from streets.system.command_line import mistake

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "minimal"}
"""Options of the events that compute with a model: who clicks second waits in the queue, and sees that."""
AT_ONCE: dict[str, Any] = {"show_progress": "hidden"}
"""Options of the events that are over in a moment."""
SMALL, LARGE = "min(46%, 215px)", "min(100%, 540px)"
"""Least widths of pictures: two small ones are beside each other on a phone."""
ANOTHER, PAINTED = "another scene", "what I painted"
"""Structures on which a content can be put."""


def told(handler: Callable[..., Any], others: int | None = None) -> Callable[..., Iterator[Any]]:
    """Show a user's mistake as the scripts print it: in the first output, before so many others, or in a note."""

    def answers(*given: Any) -> Iterator[Any]:
        try:
            answer = handler(*given)
            yield from answer if isinstance(answer, Iterator) else [answer]
        except Exception as error:
            if (reason := mistake(error)) is None:
                raise
            if others is None:
                gr.Warning(reason)
            yield gr.skip() if others is None else (f"**This is not possible:** {reason}", *[gr.skip()] * others)

    return answers


def scene_choice(handlers: Handlers, title: str, number: int, identity: str, noun: str = "scene") -> list[Any]:
    """Add the choice of a scene or pair; return its components, the source and the number."""
    sources = handlers.scenes.sources
    with gr.Row(elem_classes="choice"):
        source = gr.Dropdown(sources, label=title, visible=len(sources) > 1, min_width=100,
                             elem_id=f"{identity}-source")
        chosen = gr.Number(number, label=noun if len(sources) > 1 else f"{title} {noun}", precision=0, minimum=0,
                           min_width=80, elem_id=f"{identity}-number")
        another = gr.Button("Another", min_width=80, scale=0, elem_id=f"{identity}-another")
    another.click(told(handlers.any_number), source, chosen, **AT_ONCE)
    return [source, chosen]


def run_choice(names: list[str], identity: str) -> gr.Dropdown:
    """Add the choice of a run."""
    return gr.Dropdown(names, label="run", elem_id=identity)


def paint_tab(handlers: Handlers) -> gr.HTML:
    """Fill the tab to paint in and to sample from; return its canvas."""
    height, width = handlers.canvas_size
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            scene = scene_choice(handlers, "begin with", 0, "scene")
            painting = canvas(handlers.scene(handlers.scenes.sources[0], 0), width, height,
                              handlers.palette)
        settings, button = sample_settings(handlers)
    gr.on([part.change for part in scene], told(handlers.scene), scene, painting, **AT_ONCE)
    sampled(button, handlers.sample, [painting, *settings], "Paint, then press Sample.")
    return painting


def given_tab(handlers: Handlers) -> None:
    """Fill the tab to give an image, and to sample the other of its pair."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            has_data = bool(handlers.scenes.sources)
            scene = (scene_choice(handlers, "begin with", 0, "scene", "pair") if has_data
                     else [gr.Textbox(visible=False, value=None), gr.Number(visible=False)])
            file = gr.File(label="or an image of your own" if has_data else "image", type="filepath", height=160,
                           elem_id="given")
        settings, button = sample_settings(handlers)
    sampled(button, handlers.sample_given, [file, *scene, *settings], "Choose an image, then press Sample.")


def sample_settings(handlers: Handlers) -> tuple[list[Any], gr.Button]:
    """Add the choice of a run and of what it draws; return run, count, temperature, guidance, seed and a button."""
    with gr.Column(scale=2, min_width=320):
        run = run_choice(handlers.shelf.names, "run")
        with gr.Row():
            count = gr.Slider(1, 12, 4, step=1, label="samples", min_width=120, elem_id="count")
            seed = gr.Number(0, label="seed", precision=0, minimum=0, min_width=120, elem_id="seed")
        temperature = gr.Slider(0, 1.5, step=0.05, label="temperature", elem_id="temperature",
                                info="0: the most typical image; 1: all the variety that was learned")
        guidance = gr.Slider(0, 3, step=0.1, label="guidance", elem_id="guidance",
                             info="how far the samples are moved towards the label map; 0: as it was learned")
        button = gr.Button("Sample", variant="primary", elem_id="sample")
    sliders = {"temperature": temperature, "guidance": guidance}
    for name, value in handlers.has(handlers.shelf.names[0]).items():
        sliders[name].value, sliders[name].visible = value or 0.0, value is not None
    run.change(lambda name: [gr.Slider(value=value or 0.0, visible=value is not None)
                             for value in handlers.has(name).values()], run, [*sliders.values()], **AT_ONCE)
    return [run, count, temperature, guidance, seed], button


def sampled(button: gr.Button, handler: Callable[..., Any], inputs: list[Any], advice: str) -> None:
    """Add the status and the pictures that a button answers with."""
    status = gr.Markdown(advice, elem_id="status")
    button.click(told(handler, 1), inputs, [status, figures("samples", SMALL)], **ONE_AT_A_TIME)


def transfer_tab(handlers: Handlers, painting: gr.HTML) -> None:
    """Fill the tab to put the content of a scene on the structure of another, or of the painting."""
    if not handlers.shelf.that_transfer:
        gr.Markdown("None of the runs can transfer content: that takes a conditional flow.")
        return
    gr.Markdown("The photo of a scene becomes noise, given its label map; given another label map, the noise becomes a "
                "photo of that (section 5.4 of the Full-Glow paper).")
    with gr.Row():
        with gr.Column(min_width=320):
            content = scene_choice(handlers, "content from", 1, "content")
            run = run_choice(handlers.shelf.that_transfer, "transfer-run")
        with gr.Column(min_width=320):
            kind = gr.Radio([ANOTHER, PAINTED], value=ANOTHER, label="structure", elem_id="structure-kind")
            with gr.Column() as choice:
                structure = scene_choice(handlers, "structure from", 2, "structure")
            seed = gr.Number(0, label="seed", precision=0, minimum=0, elem_id="transfer-seed")
    button = gr.Button("Transfer", variant="primary", elem_id="transfer")
    status = gr.Markdown("Choose two scenes, then press Transfer.", elem_id="transfer-status")
    pictures = figures("transferred", SMALL)

    def transfer(name: str, source: str, number: float, other: str, other_number: float, kind: str, painted: str,
                 seed: float) -> Iterator[Any]:
        scene = (other, other_number) if kind == ANOTHER else None
        return handlers.transfer(name, (source, number), scene, painted, seed)

    kind.change(lambda kind: gr.Column(visible=kind == ANOTHER), kind, choice, **AT_ONCE)
    button.click(told(transfer, 1), [run, *content, *structure, kind, painting, seed], [status, pictures],
                 **ONE_AT_A_TIME)


def run_tab(handlers: Handlers) -> None:
    """Fill the tab to look at a run."""
    with gr.Row(elem_classes="choice"):
        run = run_choice(handlers.shelf.names, "look-run")
        button = gr.Button("Look", variant="primary", scale=0, elem_id="look")
    text = gr.Markdown("Press Look; it reads the files of the run anew.", elem_id="look-text")
    curves = gr.Plot(show_label=False, elem_id="curves")
    gr.Markdown("Samples in training, the last ones first: given image, real one, three samples.")
    pictures = figures("epochs", LARGE)
    with gr.Accordion("Configuration", open=False):
        config = gr.JSON(show_label=False, elem_id="configuration")
    gr.on([button.click, run.change], told(handlers.look, 3), run, [text, curves, pictures, config], **AT_ONCE)
