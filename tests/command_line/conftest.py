"""Run commands in this process."""

import json

import pytest

from cifarnet.backends import choose
from cifarnet.config import ModelConfig, TrainConfig
from tests.records import RUNNING

BACKEND = choose()
"""Backend of this process."""
MODEL, TRAIN = ModelConfig(), TrainConfig()
DATA = RUNNING["data"]


@pytest.fixture(autouse=True)
def clean_folder(monkeypatch, tmp_path):
    """Work in an empty folder with the running backend, and undo what a command sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", BACKEND)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(typed):
    """Return a function that runs ``cifarnet`` with arguments and returns exit code, stdout and stderr's lines."""

    def run(*arguments):
        code, stdout, stderr = typed(*arguments)
        return code, stdout, stderr.splitlines()

    return run


@pytest.fixture
def fails(run):
    """Return a function that runs ``cifarnet``, expects one error line, and returns what follows ``error:``."""

    def fails(*arguments):
        code, stdout, lines = run(*arguments)
        assert (code, stdout, len(lines)) == (1, "", 1), lines
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return fails


def fails_after_messages(run, *arguments):
    """Like ``fails`` after other messages: the error is one line, and the last."""
    code, stdout, lines = run(*arguments)
    assert (code, stdout) == (1, "")
    assert [line.startswith("error: ") for line in lines] == [*[False] * (len(lines) - 1), True], lines
    assert not any("Traceback" in line for line in lines)
    return lines[-1].removeprefix("error: ")


def write_run(tmp_path, name="stored", *, has_weights=False, **changes):
    """Write the record of a run, finished and with an empty weights file if ``has_weights``; return its name."""
    record = RUNNING | {
        "status": "finished" if has_weights else "interrupted",
        "backend": BACKEND,
        "model": MODEL.to_json(),
        "train": TRAIN.to_json(),
        "data": DATA,
    }
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record | changes))
    if has_weights:
        (folder / "best.weights.h5").touch()
    return name
