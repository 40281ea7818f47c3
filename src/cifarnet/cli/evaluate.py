"""``cifarnet evaluate``: score the best weights of a run on its test images."""

import json
from pathlib import Path

from .display import download_bar, out
from .options import BackendOption, JsonOption, MovedDataOption, RunArgument, RunsOption


def command(
    run: RunArgument = None,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Score the best weights of a run on its test images, on any backend."""
    from cifarnet.backends import choose
    from cifarnet.data import open_dataset
    from cifarnet.job import job_of

    from .runs import trained_run

    found = trained_run(runs, run)
    name = choose(backend)
    from cifarnet.training import score_run  # Keras, now that its framework is chosen

    job = job_of(found.read_record())
    with download_bar() as progress:
        dataset = open_dataset(data or job.source, seed=job.train.seed, progress=progress)
    score = score_run(found, dataset)
    if as_json:
        out(json.dumps({"run": str(found), "backend": name, "test": score}, indent=2))
        return
    accuracy, loss, images = 100 * score["accuracy"], score["loss"], score["images"]
    out(f"{found} on {name}: test accuracy {accuracy:.2f} %, loss {loss:.4f}, {images:,} images")
