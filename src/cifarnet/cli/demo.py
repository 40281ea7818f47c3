"""``cifarnet demo``: serve a page that classifies images on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from .display import out, say
from .options import ModelArgument, RunsOption
from .runs import model_name, named_model


def command(
    name: ModelArgument = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.", min=0, max=65535)] = 8000,
    runs: RunsOption = Path("runs"),
) -> None:
    """Serve a web page that classifies images with an exported model.

    The page shows each image as the model sees it and the probability of each class. Press Ctrl-C to stop. The default
    model is that of the newest exported run or, if there is none, the bundled CIFAR-10 classifier.
    """
    from cifarnet.apps.demo import open_demo
    from cifarnet.preprocessing import bombs_refused

    model = named_model(runs, name)
    with bombs_refused(), open_demo(model, port) as server:
        say(f"serving {model_name(model)}; press Ctrl-C to stop")
        out(server.url)
        server.serve_forever()
