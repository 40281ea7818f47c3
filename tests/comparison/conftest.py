"""One comparison of the three backends on a few images, and one run that is trained and reproduced."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.photos import make_photos

from cifarnet.backends import NAMES, installed


def cifarnet(*arguments, folder):
    """Run ``cifarnet`` in a subprocess in ``folder``, without a backend in the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, "-m", "cifarnet", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of class folders with a test split."""
    return make_photos(tmp_path_factory.mktemp("photos"), train=12, test=6)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A recipe file of a small network that is trained as `seed` is."""
    path = tmp_path_factory.mktemp("recipe") / "small.json"
    path.write_text(json.dumps({"recipe": "seed", "settings": {"filters": [8, 8, 8], "dense_units": [16]}}))
    return path


@dataclass(frozen=True)
class Compared:
    """Folder and document of a comparison, and the messages of the command."""

    folder: Path
    document: dict[str, Any]
    stderr: str

    def run(self, backend: str, seed: int = 0) -> Path:
        """Return the folder of one of its runs."""
        (found,) = (each for each in self.document["trainings"] if (each["backend"], each["seed"]) == (backend, seed))
        return self.folder.parent / found["run"]


@pytest.fixture(scope="session")
def compared(photos, small, tmp_path_factory):
    assert installed() == NAMES, "this test compares all three frameworks: install cifarnet[dev]"
    folder = tmp_path_factory.mktemp("person")
    options = ("--data", photos, "--recipe", small, "--epochs", "1", "--output", "found", "--json")
    done = cifarnet("compare", *options, folder=folder)
    assert done.returncode == 0, done.stderr
    return Compared(folder / "found", json.loads(done.stdout), done.stderr)


STORY = """
import contextlib, io, json, sys
from pathlib import Path
from cifarnet.cli import main

outputs = []
def cifarnet(*arguments):
    sys.argv = ["cifarnet", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as done:
            outputs.append([done.code or 0, out.getvalue(), err.getvalue()])
        else:
            outputs.append([0, out.getvalue(), err.getvalue()])

cifarnet("train", "--data", {photos!r}, "--recipe", {small!r}, "--epochs", "2", "--track", "tensorboard")
cifarnet("reproduce", "--json")
(history,) = Path("runs").glob("2*/history.csv")
whole = history.read_text()
loss = whole.splitlines()[1].split(",")[2]
history.write_text(whole.replace(loss, str(float(loss) + 1e-9)))
cifarnet("reproduce", "--epochs", "1")
history.write_text(whole)
cifarnet("reproduce", "--data", "synthetic", "--output", "refused")
print(json.dumps(outputs))
"""
"""Several commands in one process, so that the framework is imported once."""


@dataclass(frozen=True)
class Story:
    """A folder in which a run was trained, tracked and repeated, and the output of each command."""

    folder: Path
    run: Path
    trained: list[Any]
    """Exit code, stdout and stderr, like the following fields."""
    repeated: list[Any]
    changed: list[Any]
    """Repetition of one of two epochs, after its recorded training loss was changed by 1e-9."""
    refused: list[Any]
    """Repetition with other images."""


@pytest.fixture(scope="session")
def story(photos, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("story")
    done = subprocess.run(
        [sys.executable, "-c", STORY.format(photos=str(photos), small=str(small))],
        cwd=folder,
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/2*")
    return Story(folder, run, *json.loads(done.stdout.splitlines()[-1]))
