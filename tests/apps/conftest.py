"""What the tests of the apps share: the golden folder, and the programs that the apps need."""

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
    said = subprocess.run([node, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout
    return tuple(map(int, said.strip().removeprefix("v").split(".")[:2]))


def require(found, what: str, command: str = "make consumers") -> None:
    """Go on where a program is there; fail where CI is set and it is missing, skip elsewhere."""
    if not found:
        message = f"{what} is missing: run `{command}`"
        _ = pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


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
    require(program, "chromium", "apt-get install chromium")
    for package in ("onnxruntime-web", "playwright-core"):
        require((EXPORT / "browser/node_modules" / package).is_dir(), package)
    return program
