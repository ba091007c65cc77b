"""Start of the page: runs and data are checked, the first model is trained where there is none, the page is served."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from streets.config.app import Config
from streets.config.data import Side, options_of
from streets.data.label_sets import CITYSCAPES
from streets.data.layouts import side_in
from streets.data.reading import LabelMaps
from streets.demo.first_run import FirstRun
from streets.demo.handlers import Handlers
from streets.demo.scenes import Scenes
from streets.demo.shelf import Shelf
from streets.system.devices import choose_device
from streets.system.stopping import Stop

HOST = "127.0.0.1"
"""Address of this machine for itself: no other machine reaches the page."""
CSS = ".choice { align-items: end; }"
"""Style of rows in which a button stands beside what is chosen."""


def serve(config: Config, stop: Stop) -> None:
    """Serve the page until it is asked to stop; the training of the first model then waits for the next start."""
    if config.port is not None and not 1 <= config.port < 2**16:
        raise ValueError(f"--port {config.port}: expected a number from 1 to 65535; leave it out for the first free "
                         "one")
    device = choose_device(config.device)
    first = None if config.runs else FirstRun(config.cache, config.device)
    shelf = Shelf(config.runs, config.weights, device) if first is None else Shelf(
        [first.path], config.weights, device, first.config)
    shelf.check()
    handlers = Handlers(shelf, scenes_of(shelf, config))
    if handlers.scenes.sources:  # so that data that cannot be read is said at once
        handlers.scene(handlers.scenes.sources[0], 0)
    find_gradio()
    try:
        if first is not None:
            first.start()
        blocks, url = launched(handlers, first, config)
        print(f"the page is at {url} and Ctrl-C ends it", flush=True)
        if first is not None and not first.finished:
            print("a small model is being trained for it, once; the page shows how far it is", flush=True)
        while stop.status is None:
            time.sleep(0.2)
        blocks.close(verbose=False)
    finally:
        if first is not None:
            first.stop()


def scenes_of(shelf: Shelf, config: Config) -> Scenes:
    """Return the scenes to begin with: generated ones, and those of the data that are given.

    Of pairs of images and of other labels none can be generated: they are those of the first run's data.
    """
    path, of_run = next(iter(shelf.paths.values())), shelf.config(shelf.names[0])
    generated = not shelf.of_images and shelf.labels == CITYSCAPES
    data = config.data
    if data is None and not generated and of_run.get("data") and Path(of_run["data"]).exists():
        data = Path(of_run["data"])
    if data is None and not generated and not shelf.of_images:
        raise ValueError(f"{path} is a run of the labels {shelf.labels.name}, of which no scenes are generated: give "
                         "--data with some")
    maps = None if shelf.of_images else LabelMaps(shelf.labels, of_run.get("label_values"))
    return Scenes(data, config.split, generated, maps, replace(options_of(of_run), side=side_of(shelf, data)))


def side_of(shelf: Shelf, data: Path | None) -> Side | None:
    """Return the half of each picture that is A for all runs, where data are images side by side."""
    sides: list[Side | None] = [side_in(data, options_of(shelf.config(name)).side) for name in shelf.names]
    if len({*sides}) > 1:
        raise ValueError(f"{data} holds images side by side, of which not all runs take the same half as A: give runs "
                         "that were trained with the same --side")
    return sides[0]


def find_gradio() -> None:
    """Import gradio, and tell it to send nothing anywhere; refuse to go on where it is missing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ValueError(f"the page needs gradio, which is missing here ({error}): pip install "
                         "'condflows[demo]'") from error


def launched(handlers: Handlers, first: FirstRun | None, config: Config) -> tuple[Any, str]:
    """Launch the page for this machine alone, and return it with its address."""
    from gradio.themes import Soft

    from streets.demo.page import page

    blocks = page(handlers, lambda: "" if first is None or first.finished else str(first))
    # Fonts that the browser has; gradio's own would be fetched.
    theme = Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, url, _ = blocks.queue().launch(
            server_name=HOST, server_port=config.port, inbrowser=config.open, share=False, ssr_mode=False, theme=theme,
            css=CSS, footer_links=[], run_history=False, show_error=True, quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise ValueError(f"--port {config.port or 'from 7860 to 7959'}: other programs use it; give another") from error
    return blocks, url
