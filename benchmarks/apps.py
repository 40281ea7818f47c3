"""One model file in three apps: ``python -m benchmarks.apps MODEL.onnx`` (after `make consumers`).

The first test images go as PNG files through the apps under ``export/`` (Python without cifarnet, Node, and the page in
Chromium) and through ``cifarnet.runtime.Classifier``; how far each app's answers are from the latter's is stored in
``results/apps/``, one file per framework that trained the model.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cifarnet.apps.demo import open_demo
from cifarnet.data import open_dataset
from cifarnet.runtime import Classifier
from cifarnet.system import processor, versions

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks" / "results" / "apps"
IMAGES = 500
"""Test images that go through each app."""
Answers = Mapping[str, Sequence[float]]
"""Logits by file name."""


def answers_of_python(model: Path, images: Sequence[Path]) -> Answers:
    """Return what the app for Python says."""
    return _logits(_said([sys.executable, PROJECT / "export/python/classify.py", model, *images, "--json"]))


def answers_of_node(model: Path, images: Sequence[Path]) -> Answers:
    """Return what the app for Node says."""
    return _logits(_said(["node", PROJECT / "export/node/classify.js", model, *images, "--json"]))


def answers_of_browser(model: Path, images: Sequence[Path]) -> Answers:
    """Return what the page says in Chromium."""
    chromium = shutil.which("chromium") or sys.exit("error: chromium is missing; expected it: run `make consumers`")
    with open_demo(model, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            answers: Answers = _said(["node", PROJECT / "benchmarks/browser.mjs", chromium, server.url, *images])
            return answers
        finally:
            server.shutdown()
            thread.join()


def _logits(answers: Mapping[str, Any]) -> Answers:
    return {name: numbers["logits"] for name, numbers in answers.items()}


def _said(command: Sequence[Any]) -> Any:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {command[1]} failed: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(model: Path) -> dict[str, Any]:
    """Return how far each app's answers are from those of ``Classifier``."""
    classifier, images = Classifier(model), open_dataset("cifar10").test.images[:IMAGES]
    expected = classifier.logits(images)
    apps = {"Python": answers_of_python, "Node": answers_of_node, "browser": answers_of_browser}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index:04}.png" for index in range(len(images))]
        for file, pixels in zip(files, images, strict=True):
            Image.fromarray(pixels).save(file)
        found = {name: _difference(expected, app(model, files), files) for name, app in apps.items()}
    return {
        "trained_on": classifier.contract["training"]["backend"],
        "images": len(images),
        "apps": found,
        "versions": versions() | _programs(),
        "processor": processor(),
    }


def _programs() -> dict[str, str]:
    """Return the versions of what is no Python package."""
    commands = {"node": ["node", "--version"], "chromium": ["chromium", "--version", "--no-sandbox"]}
    said = {
        name: subprocess.run(command, capture_output=True, text=True, check=True) for name, command in commands.items()
    }
    packages = {
        name: json.loads((PROJECT / "export" / folder / "package.json").read_text())["dependencies"][name]
        for folder, name in (("node", "onnxruntime-node"), ("browser", "onnxruntime-web"))
    }
    return {name: done.stdout.strip() for name, done in said.items()} | packages


def _difference(expected: np.ndarray, answers: Answers, files: Sequence[Path]) -> dict[str, Any]:
    logits = np.array([answers[file.name] for file in files], np.float32)
    return {
        "logit_difference": float(abs(logits - expected).max()),
        "same_class": int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum()),
    }


def table() -> str:
    """Return the stored differences as a Markdown table, one row per framework that trained a model."""
    lines = ["| trained on | Python | Node | browser |", "|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        each = json.loads(path.read_text())
        cells = [_cell(app, each["images"]) for app in each["apps"].values()]  # stored in the order of the head
        lines.append(f"| {each['trained_on']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(app: Mapping[str, Any], images: int) -> str:
    logits = f"logits within {app['logit_difference']:.0e}" if app["logit_difference"] else "logits equal"
    return f"{app['same_class']} of {images} the same class, {logits}"


def main() -> None:
    """Measure and store."""
    measured = compare(Path(sys.argv[1]).absolute())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{measured['trained_on']}.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
