"""Fixtures of the runtime tests: a tiny model that predicts the dominant color of an image, and the command."""

import numpy as np
import pytest
from PIL import Image

from cifarnet.errors import ModelError
from cifarnet.runtime import Classifier
from tests.runtime import models

COLOURS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200)}


def refused(source) -> str:
    """Return why a file is refused, which must be said in one line."""
    with pytest.raises(ModelError) as info:
        Classifier(source)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier(models.content())


@pytest.fixture(scope="session")
def calibrated() -> Classifier:
    """A classifier whose file has a temperature."""
    return Classifier(models.calibrated())


@pytest.fixture
def calibrated_path(tmp_path):
    path = tmp_path / "calibrated.onnx"
    path.write_bytes(models.calibrated())
    return path


@pytest.fixture
def model_path(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(models.content())
    return path


@pytest.fixture(scope="session")
def painted():
    """Return a function that gives pixels, uint8 (h, w, 3), of one colour by its name."""

    def painted(name: str, height: int = 32, width: int = 32) -> np.ndarray:
        return np.full((height, width, 3), COLOURS[name], np.uint8)

    return painted


@pytest.fixture
def photos(tmp_path, painted):
    """Return a folder with five pictures, at two depths, and with what is no picture."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name, colour in {
        "a.png": "red",
        "b/1.jpg": "green",
        "b/2.JPG": "blue",
        "c.webp": "red",
        "d.gif": "green",
    }.items():
        Image.fromarray(painted(colour, 40, 50)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    (folder / "b" / "@eaDir").mkdir()
    (folder / "b" / "@eaDir" / "thumbnail.jpg").write_text("no image")
    return folder


@pytest.fixture
def run(typed):
    """Return a function that runs ``cifarnet`` and returns exit code and the lines of stdout and of stderr."""

    def run(*arguments):
        code, stdout, stderr = typed(*arguments)
        return code, stdout.splitlines(), stderr.splitlines()

    return run
