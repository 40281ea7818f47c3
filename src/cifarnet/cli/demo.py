"""``cifarnet demo``: serve the browser app with a run's model on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from .display import out, say
from .options import RunArgument, RunsOption


def command(
    run: RunArgument = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.", min=0, max=65535)] = 8000,
    runs: RunsOption = Path("runs"),
) -> None:
    """Serve a web page that classifies images with an exported model.

    Press Ctrl-C to stop. The page needs onnxruntime-web; if it is missing, the npm command that installs it is printed.
    """
    from cifarnet.apps.demo import open_demo
    from cifarnet.evaluation.target import names_file

    from .runs import default_model, exported_model, model_name, recorded_run

    if run is None:
        model = default_model(runs)
    else:
        model = Path(run) if names_file(run) else exported_model(recorded_run(runs, run))
    with open_demo(model, port) as server:
        say(f"serving {model_name(model)}; press Ctrl-C to stop")
        out(server.url)
        server.serve_forever()
