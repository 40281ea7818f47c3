"""Run ``cifarnet`` commands in forked children, on a small folder of images."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cifarnet import cli
from cifarnet.backends import adapter, choose


def typed(folder: Path, arguments: tuple[str, ...], prepare: Callable[[], object] = lambda: None) -> Callable[[], int]:
    """Return the work of a child that runs ``cifarnet`` with arguments in a folder, as its entry point does."""

    def work() -> int:
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        (folder / "tmp").mkdir(exist_ok=True)
        sys.argv = ["cifarnet", *arguments]
        prepare()
        try:
            cli.main()
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
                return 1
            return int(end.code or 0)
        return 0

    return work


def write_note(note: Path, text: str) -> None:
    """Write to a file by calls that are not watched: what a process has written before it dies stays."""
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def draw_photos(folder: Path, images: int = 12) -> None:
    """Write three classes of small images that differ in their color, a third of them to test."""
    rng = np.random.default_rng(0)
    for index, label in enumerate(("a", "b", "c")):
        for number in range(images):
            part = folder / ("test" if number < images // 3 else "train") / label
            part.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 90, (32, 32, 3), np.uint8)
            pixels[..., index] += 120
            Image.fromarray(pixels).save(part / f"{number}.png")


def warm_up(folder: Path) -> None:
    """Import the modules of the commands and cache what each needs, and execute nothing on a framework."""
    import jinja2  # noqa: F401
    import yaml  # noqa: F401

    import cifarnet.evaluation.reproduce
    import cifarnet.evaluation.robustness
    import cifarnet.evaluation.target
    import cifarnet.export.export_run
    import cifarnet.report
    import cifarnet.training.train  # noqa: F401
    from cifarnet.evaluation import metrics as measures
    from cifarnet.report import draw_curves
    from cifarnet.run.folder import EpochRecord

    adapter()
    if choose() == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    measures.reliability  # noqa: B018  # with scikit-learn
    draw_curves([EpochRecord(1, 0.1, 1.0, 0.5, 1.0, 0.5)], 1, folder / "curves.png", "loss, nats")  # fonts
