"""Paint a label map in the browser, and see photos of it at once: a page of this machine alone.

    python examples/cityscapes/app.py                          a small model, trained at the first start in minutes
    python examples/cityscapes/app.py RUN OTHER --data ROOT    your runs, and scenes of your data to begin with

The page is at http://127.0.0.1:7860, and no other machine sees it. It has three tabs: paint a label map and sample
photos of it, put the content of one scene on the structure of another, and look at a run. Without a run a small model
of generated scenes is trained beside the page, which shows how far it is; it is kept in a cache and used from then on.
It needs `pip install 'condflows[demo]'` and no network. Ctrl-C ends it; a training goes on at the next start.
"""

import sys

from streets.config.app import Config
from streets.system import command_line, stopping


def main(arguments: list[str]) -> None:
    """Serve the page as the command line says; a user's mistake ends in one line of text and exit status 2."""
    with stopping.requests() as stop:  # first, so that no signal is lost
        config = command_line.parse("app.py", Config, arguments, description=__doc__)
        command_line.run("app.py", lambda: work(config, stop))


def work(config: Config, stop: stopping.Stop) -> None:
    """Serve the page; torch and gradio are imported here, since that takes seconds that --help must not wait for."""
    from streets.demo.serving import serve

    serve(config, stop)


if __name__ == "__main__":
    main(sys.argv[1:])
