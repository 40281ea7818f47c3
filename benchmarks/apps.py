"""One model file in three apps: ``python -m benchmarks.apps MODEL.onnx`` (after `make consumers`).

The first test images go as PNG files through the apps under ``export/`` (Python without cifarnet, Node, and the page in
Chromium) and through ``cifarnet.Classifier``; the differences of each app from the latter are stored in
``results/apps/``, one file per framework that trained the model.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import PROJECT, RESULTS
from benchmarks.harness.images import write_images
from benchmarks.harness.records import markdown
from cifarnet.data import load_dataset
from cifarnet.runtime import Classifier
from cifarnet.system import processor, versions

FOLDER = RESULTS / "apps"
IMAGES = 500
"""Test images that go through each app."""


def compare(model: Path) -> dict[str, Any]:
    """Return the difference of each app from ``Classifier``."""
    classifier, images = Classifier(model), load_dataset("cifar10").test.images[:IMAGES]
    expected = classifier.logits(images)
    with tempfile.TemporaryDirectory() as root:
        files = sorted(write_images(Path(root) / "images", images, IMAGES).iterdir())
        answers = {
            "Python": _json_of(sys.executable, PROJECT / "export/python/classify.py", model, *files, "--json"),
            "Node": _json_of("node", PROJECT / "export/node/classify.js", model, *files, "--json"),
            "browser": _browser(model, files),
        }
    found = {}
    for app, of_file in answers.items():
        numbers = [of_file[file.name] for file in files]
        logits = np.array([each["logits"] if isinstance(each, dict) else each for each in numbers], np.float32)
        found[app] = {
            "logit_difference": float(abs(logits - expected).max()),
            "same_class": int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        }
    return {
        "trained_on": classifier.contract["training"]["backend"],
        "images": len(images),
        "apps": found,
        "versions": versions() | _programs(),
        "processor": processor(),
    }


def _browser(model: Path, images: Sequence[Path]) -> Any:
    """Return the logits of the page in Chromium by file name."""
    chromium = shutil.which("chromium") or sys.exit("error: chromium is missing; expected it: run `make consumers`")
    with page_served(model) as server:
        return _json_of("node", PROJECT / "benchmarks/browser.mjs", chromium, address_of(server), *images)


class _Files(SimpleHTTPRequestHandler):
    """A plain file server, without a log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        pass


@contextmanager
def page_served(model: Path) -> Iterator[ThreadingHTTPServer]:
    """Serve the page with a model beside it, as any web server would; ``model.json`` lies beside the model."""
    with tempfile.TemporaryDirectory() as root:
        page = Path(root) / "browser"
        page.mkdir()
        for file in (PROJECT / "export/browser").iterdir():
            if file.stem != "model":  # which the example in the README puts there
                (page / file.name).symlink_to(file)
        for suffix in (".onnx", ".json"):
            (page / f"model{suffix}").symlink_to(model.with_suffix(suffix).absolute())
        (Path(root) / "golden").symlink_to(PROJECT / "export/golden")
        with running(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=root))) as server:
            yield server


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[Any]:
    """Serve in a thread until the block is left, then close."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def address_of(server: ThreadingHTTPServer) -> str:
    """Return the address of the page."""
    return f"http://127.0.0.1:{server.server_port}/browser/"


def _json_of(*command: object) -> Any:
    return json.loads(_output_of(*command).splitlines()[-1])


def _output_of(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {command[1]} failed: {done.stderr}")
    return done.stdout.strip()


def _programs() -> dict[str, str]:
    """Return the versions of the programs that are no Python packages."""
    found = {"node": _output_of("node", "--version"), "chromium": _output_of("chromium", "--version", "--no-sandbox")}
    for folder, name in (("node", "onnxruntime-node"), ("browser", "onnxruntime-web")):
        package = json.loads((PROJECT / "export" / folder / "package.json").read_text())
        found[name] = package["dependencies"][name]
    return found


def table() -> str:
    """Return the stored differences, one row per framework that trained a model."""
    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        each = json.loads(path.read_text())
        cells = [_cell(app, each["images"]) for app in each["apps"].values()]  # stored in the order of the titles
        rows.append([each["trained_on"], *cells])
    return markdown(("trained on", "Python", "Node", "browser"), rows)


def _cell(app: dict[str, Any], images: int) -> str:
    logits = f"logits within {app['logit_difference']:.0e}" if app["logit_difference"] else "logits equal"
    return f"{app['same_class']} of {images} the same class, {logits}"


def main() -> None:
    measured = compare(Path(sys.argv[1]).absolute())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{measured['trained_on']}.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
