"""Fixtures of the app tests: the golden folder, and the programs that the apps need."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXPORT = Path(__file__).parents[2] / "export"


@pytest.fixture(scope="session")
def golden():
    """Return the folder of the golden images."""
    return EXPORT / "golden"


@pytest.fixture(scope="session")
def entries(golden):
    """Return what ``golden.json`` says by file name."""
    return {Path(entry["file"]).name: entry for entry in json.loads((golden / "golden.json").read_text())["images"]}


OLDEST_NODE = (20, 9)
"""As `package.json` of the app says: what sharp asks for."""


def version_of(node: str) -> tuple[int, ...]:
    stdout = subprocess.run([node, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout
    return tuple(map(int, stdout.strip().removeprefix("v").split(".")[:2]))


def require(found, what: str, command: str = "make consumers") -> None:
    """Skip the test where a program is missing."""
    if not found:
        pytest.skip(f"{what} is missing: run `{command}`")


@pytest.fixture(scope="session")
def node():
    """Return the program node, once the packages of the app for it are there."""
    program = shutil.which("node")
    require(program and version_of(program) >= OLDEST_NODE, "Node 20.9 or newer")
    require((EXPORT / "node/node_modules/onnxruntime-node").is_dir(), "onnxruntime-node")
    return program


@pytest.fixture(scope="session")
def chromium():
    """Return the program chromium, once the page's packages and what drives it are there."""
    program = shutil.which("chromium")
    if not program and os.environ.get("CI"):  # which installs it
        pytest.fail("Chromium is missing: run `apt-get install chromium`")
    require(program, "Chromium", "apt-get install chromium")
    for package in ("onnxruntime-web", "playwright-core"):
        require((EXPORT / "browser/node_modules" / package).is_dir(), package)
    return program
