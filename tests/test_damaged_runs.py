"""Readers of damaged files in a run folder understand them or raise one of our errors, in one line."""

import json
import math
import random
import shutil

import pytest

from cifarnet.backends import choose

BACKEND = choose()

from cifarnet.config import ModelConfig  # noqa: E402  # after the backend is chosen
from cifarnet.errors import CifarnetError, ModelError, RunError  # noqa: E402
from cifarnet.evaluation.reproduce import compare_runs, planned_epochs  # noqa: E402
from cifarnet.evaluation.target import run_target  # noqa: E402
from cifarnet.export.export_run import export_run  # noqa: E402
from cifarnet.model.network import build_model  # noqa: E402
from cifarnet.model.weights import load_weights  # noqa: E402
from cifarnet.report.evidence import read_evidence  # noqa: E402
from cifarnet.run.find import find_run  # noqa: E402
from cifarnet.run.folder import (  # noqa: E402
    RECORD,
    Run,
    require_weights,
)
from cifarnet.run.state import best_epoch_of, require_resumable  # noqa: E402
from cifarnet.training.seen import digests, write_seen  # noqa: E402
from cifarnet.training.train import resume  # noqa: E402
from cifarnet.training.warm_start import warm_start_from, warm_start_of  # noqa: E402
from tests.records import document, put  # noqa: E402
from tests.report_runs import dataset_of, run_of  # noqa: E402
from tests.runtime.fuzzing import places, replaced  # noqa: E402

VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    10**400,
    math.nan,
    math.inf,
    "",
    "x",
    "\0",
    "\ud800",
    [],
    {},
    [1],
    {"a": 1},
    [[]],
)
"""Values of a wrong type that replace a value; ``...`` removes it."""
DAMAGES_PER_FILE = 10
WARM_START = {
    "run": "earlier",
    "weights_sha256": "0" * 64,
    "seen": [{"source": "s", "data": "d", "hold_out": "h", "seed": 0, "validation_fraction": 0.1}],
}
RESULTS = ("best_epoch", "metrics", "why_stopped", "epochs", "calibration")
DATASET = dataset_of()
OTHER = dataset_of(images=60)
"""Not those of the run, so that nothing is trained however sound its record."""
READERS = {
    "find_run": lambda run: find_run(run.path.parent),
    "best_epoch_of": best_epoch_of,
    "require_weights": require_weights,
    "require_resumable": require_resumable,
    "planned_epochs": lambda run: planned_epochs(run, None),
    "compare_runs": lambda run: compare_runs(run, Run(run.path.parent / "sound")),
    "warm_start_from": warm_start_from,
    "warm_start_of": warm_start_of,
    "read_evidence of the file": lambda run: read_evidence(run, "onnxruntime"),
    "read_evidence of the weights": lambda run: read_evidence(run, "torch"),
    "evaluate": lambda run: run_target(run, BACKEND).origin,
    "export_run": lambda run: export_run(run, DATASET),
    "resume": lambda run: resume(run, OTHER),
}


@pytest.fixture
def run(tmp_path):
    """A run with everything in it, and beside it a sound one to compare with; their weights hold nothing."""
    run = run_of(tmp_path / "damaged", DATASET, backend=BACKEND)
    run.best_weights.touch()
    write_seen(run, digests(DATASET.train.images))
    shutil.copytree(run.path, tmp_path / "sound")
    put(Run(tmp_path / "sound"), document(run) | {"best_epoch": 3})
    return run


def read_all(run, what):
    for name, read in READERS.items():
        try:
            read(run)
            message = ""
        except CifarnetError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{name} of a run with {what} raises {error!r}") from error
        assert "\n" not in message, (name, what)


def damaged(content, rng):
    """Return content cut short, with bytes replaced, repeated or put in."""
    kind, at = rng.randrange(5), rng.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return (
            content[:at] + rng.choice((b"\0", b"\xff", b"9" * 5000, b'"', b"[" * 3000, b",", b"\n")) + content[at + 1 :]
        )
    if kind == 2:
        return content[:at] + content[at : at + 200] + content[at:]
    if kind == 3:
        return content[:at] + content[at + rng.randrange(1, 200) :]
    return bytes(rng.randrange(256) for _ in range(rng.randrange(300)))


@pytest.mark.parametrize("state", ["finished", "running"])
def test_a_value_of_another_kind_anywhere_in_the_record(run, state):
    record = document(run) | {"warm_start": WARM_START}
    if state == "running":
        record = {name: value for name, value in record.items() if name not in RESULTS} | {"status": "running"}
    for place in places(record):
        value = random.Random(f"{state} {place}").choice((*VALUES, ...))
        (run.path / RECORD).write_text(json.dumps(replaced(json.loads(json.dumps(record)), place, value)))
        read_all(run, (place, value))


@pytest.mark.parametrize(
    "name", [RECORD, "history.csv", "model.parity.json", "robustness.json", "model.onnx", "best.weights.h5", "seen.npy"]
)
def test_damaged_bytes_in_a_file_and_a_folder_in_its_place(run, name):
    path, rng = run.path / name, random.Random(name)
    sound = path.read_bytes() or b"no weights"
    for number in range(DAMAGES_PER_FILE):
        path.write_bytes(damaged(sound, rng))
        read_all(run, (name, number))
    path.unlink()
    path.mkdir()
    read_all(run, f"a folder {name}")


@pytest.mark.parametrize("machine", [None, [], "x", 5])
def test_a_machine_of_another_kind_in_the_record_of_a_run_with_the_same_images(run, machine):
    put(run, document(run) | {"status": "interrupted", "machine": machine})
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        resume(run, DATASET)


@pytest.mark.parametrize(("name", "reason"), [(".", "Is a directory"), ("none", "No such file or directory")])
def test_weights_that_cannot_be_read_are_told_in_the_words_of_the_system(tmp_path, name, reason):
    with pytest.raises(ModelError, match=rf"could not be read \({reason}\); expected Keras weights"):
        load_weights(build_model(ModelConfig(filters=(4,), dense_units=(8,))), tmp_path / name)
