"""The fault injection campaigns detect what they look for."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from benchmarks.campaign import calls, files
from benchmarks.campaign.processes import UNEXPECTED, UNWRITTEN, die, run

from tests.processes import printed

PROJECT = Path(__file__).parents[1]

# Python, from 3.12 on, and JAX warn of forks where there are threads, those of other tests; no child here needs them.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")


PROGRAM = """
import json, os, signal, time
from pathlib import Path
from benchmarks.campaign import fuzz
from cifarnet.errors import DataError
from hypothesis import strategies as st

def use(content):
    {use}

fuzz.HANGING_S = {hanging_s}
kind = fuzz.Kind(st.sampled_from({inputs}), use, batch=9)
print(json.dumps(fuzz.try_batch("kind", kind, 1, Path({folder!r}))))
"""


def tried(use, inputs, folder, hanging_s=20):
    """Use the inputs in a process without the threads of other tests, which a child may wait for."""
    program = PROGRAM.format(use=use, inputs=inputs, folder=str(folder), hanging_s=hanging_s)
    return json.loads(printed("-c", program, cwd=PROJECT))


@pytest.mark.parametrize(
    ("use", "expected", "hanging_s"),
    [
        ("1 / 0", "ZeroDivisionError in : division by zero", 20),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "exit code or signal -11: Fatal Python error", 20),
        ("time.sleep(60)", "hang: ", 2),  # to come to the first input takes a part of a second
        ("bytearray(2 * fuzz.MEMORY_BYTES)", "MemoryError in : ", 20),
    ],
)
def test_what_no_input_may_do_is_unexplained(use, expected, hanging_s, tmp_path):
    _, [found] = tried(use, [b"input"], tmp_path, hanging_s)
    assert found["what"].startswith(expected)
    assert (found["kind"], found["batch_seed"], found["number"], found["input"]) == ("kind", 1, 1, "aW5wdXQ=")


def test_an_error_of_ours_in_one_line_is_explained(tmp_path):
    counts, [found] = tried(r'raise DataError("one line" if content else "two\nlines")', [b"", b"x"], tmp_path)
    assert counts == {"DataError": 1, "DataError of several lines": 1}
    assert found["what"].startswith("DataError of several lines")


def test_a_child_tells_how_it_ended(tmp_path):
    log = tmp_path / "log"
    assert run(lambda: print("said") or 3, log).status == 3
    assert run(die, log).status == -signal.SIGKILL
    failed = run(lambda: 1 / 0, log)
    assert (failed.status, failed.last_line) == (UNEXPECTED, "ZeroDivisionError: division by zero")
    assert run(lambda: time.sleep(60), log, limit_s=0.2).hung
    assert run(lambda: print("said"), log, stdout=Path("/dev/full")).status == UNWRITTEN


def test_every_call_that_changes_a_folder_is_seen_and_others_are_not(tmp_path):
    folder, log = tmp_path / "watched", tmp_path / "log"

    def work():
        calls.watch(folder, print)
        folder.mkdir()
        (folder / "a").write_text("text")
        with (folder / "b").open("wb") as file:
            file.write(b"bytes")
            file.flush()
            os.fsync(file.fileno())
        (folder / "a").replace(folder / "c")
        (folder / "c").read_text()
        (folder / "c").unlink()
        (tmp_path / "elsewhere").write_text("text")

    assert run(work, log).output.splitlines() == [
        *("mkdir watched", "open a", "write a", "open b", "write b", "fsync b", "replace c", "unlink c"),
    ]


def test_a_file_that_is_not_whole_is_named_and_a_temporary_one_is_not(tmp_path):
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "run.json").write_text('{"status": ')
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n2\n")
    (tmp_path / ".run.json-1.part").write_text("{")
    assert [each.partition(" is not whole")[0] for each in files.problems(tmp_path)] == ["history.csv", "run.json"]
    assert files.temporary_files(tmp_path) == [".run.json-1.part"]


def test_half_of_a_write_can_reach_the_disk(tmp_path):
    def work():
        calls.watch(tmp_path, lambda call: call.name == "write" and (call.half(), die()))
        (tmp_path / "file").write_bytes(b"0123456789")

    assert run(work, tmp_path.with_suffix(".log")).status == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"01234"
