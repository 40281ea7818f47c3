"""``cifarnet demo``: the browser app with a run's model, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from .display import out, say
from .options import RunArgument, RunsOption


def command(
    run: RunArgument = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    runs: RunsOption = Path("runs"),
) -> None:
    """Show the exported model of a run in the browser: drop, paste or take a picture. Ctrl-C ends it.

    The page needs onnxruntime-web, which npm brings once; where it is missing, the line to type is told.
    """
    from cifarnet.apps.demo import model_of, open_demo

    from .runs import recorded_run

    model = model_of(recorded_run(runs, run))
    with open_demo(model, port) as server:
        say(f"{model}, until Ctrl-C")
        out(server.url)
        server.serve_forever()
