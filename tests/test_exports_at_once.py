"""Two exports to one name at the same time leave the files of one of them."""

import errno
import fcntl
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from cifarnet.backends import choose

choose()

from cifarnet.errors import RunError  # noqa: E402  # after the backend is chosen
from cifarnet.export import export_run as exporting  # noqa: E402
from cifarnet.export.parity import Parity  # noqa: E402
from cifarnet.export.publish import Exported, write_export  # noqa: E402
from cifarnet.run.folder import Run  # noqa: E402
from cifarnet.runtime import read_model  # noqa: E402
from tests.records import FINISHED, put  # noqa: E402
from tests.runtime import models  # noqa: E402


def write(path, **changes):
    contract = models.contract(outputs=["logits"], **changes)
    content = models.content(contract=contract)
    digest = hashlib.sha256(content).hexdigest()
    parity = Parity(images=1, trained_accuracy=1.0, accuracy=1.0, checks=())
    write_export(Exported(path, len(content), digest, "float32", parity, ()), *read_model(content))


@pytest.mark.parametrize("after", ["model.parity.json", "model.onnx"])
def test_an_export_that_begins_between_two_renames_of_another_waits(tmp_path, monkeypatch, after):
    path, replace, is_named = tmp_path / "model.onnx", Path.replace, threading.Event()
    other = threading.Thread(target=lambda: (write(path, flip=True), is_named.set()))

    def interleaved(source, target):
        replace(source, target)
        if target.name == after and threading.current_thread() is not other and not other.ident:
            other.start()
            is_named.wait(0.5)  # the other one has all the time it needs, if nothing holds it up

    monkeypatch.setattr(Path, "replace", interleaved)
    write(path)
    other.join(30)
    content, contract = read_model(path)
    assert is_named.is_set()
    assert contract.views == 2
    assert json.loads((tmp_path / "model.json").read_text()) == contract.document
    assert json.loads((tmp_path / "model.parity.json").read_text())["sha256"] == hashlib.sha256(content).hexdigest()


def test_where_files_cannot_be_locked_that_is_told_before_anything_is_proven(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    put(Run(tmp_path), FINISHED)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunError, match=r"\.export\.lock could not be locked .*: write to a local disk$"):
        exporting.writable_path(Run(tmp_path), "float32")
