"""A run folder belongs to one process, is found again, and never holds anything half-made."""

import errno
import json
import math
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from cifarnet.errors import RunError
from cifarnet.run import (
    LATEST,
    RECORD,
    EpochRecord,
    Run,
    create_run,
    find_run,
    json_text,
    point_latest,
    write_atomically,
)

NOW = datetime(2026, 3, 4, 5, 6, 7)
NAME = "20260304-050607-seed-jax"


def new_run(root: Path, second: int = 7) -> Run:
    run = create_run(root, "seed", "jax", NOW.replace(second=second))
    run.write_record({"format": 1})
    point_latest(run)
    return run


# Creating and finding


def test_a_file_of_a_run_is_not_taken_for_one(tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(RunError, match="lies in a run folder and is none; expected the folder: name "):
        find_run(tmp_path, str(run.model))


def test_a_run_is_named_for_time_recipe_and_backend(tmp_path):
    assert create_run(tmp_path / "not" / "yet", "seed", "jax", NOW).path == tmp_path / "not" / "yet" / NAME


def test_runs_of_the_same_second_get_different_folders(tmp_path):
    names = [create_run(tmp_path, "seed", "jax", NOW).path.name for _ in range(3)]
    assert names == [NAME, f"{NAME}-2", f"{NAME}-3"]


def test_threads_that_start_at_the_same_instant_get_different_folders(tmp_path):
    starting_line = threading.Barrier(8)

    def create(_) -> Path:
        starting_line.wait()
        return create_run(tmp_path, "seed", "jax", NOW).path

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(create, range(8)))
    assert len(paths) == 8
    assert all(path.is_dir() for path in paths)


CREATE = """
import sys
from datetime import datetime
from pathlib import Path
from cifarnet.run import create_run
sys.stdin.readline()
for _ in range(20):
    print(create_run(Path(sys.argv[1]), "seed", "jax", datetime(2026, 3, 4, 5, 6, 7)))
"""


def test_processes_that_start_at_the_same_instant_get_different_folders(tmp_path):
    command = [sys.executable, "-c", CREATE, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    paths = [path for process in processes for path in process.communicate(timeout=60)[0].split()]
    assert len(paths) == len(set(paths)) == 40


def test_a_thousandth_run_of_one_second_is_refused(tmp_path):
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        (tmp_path / f"{NAME}{suffix}").mkdir()
    with pytest.raises(RunError, match=f"holds 999 runs called {NAME}; expected fewer: wait a second"):
        create_run(tmp_path, "seed", "jax", NOW)


def test_latest_points_to_the_newest(tmp_path):
    for second in (7, 8, 9):
        run = new_run(tmp_path, second)
        assert (tmp_path / LATEST).resolve() == run.path
        assert find_run(tmp_path).path == run.path
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_latest_is_found_under_its_own_name_and_leads_to_the_real_folder(tmp_path):
    run = new_run(tmp_path)
    assert find_run(tmp_path, "latest").path == run.path
    assert find_run(tmp_path, str(tmp_path / "latest")).path == run.path


def test_a_run_is_found_by_name_and_by_path_wherever_latest_points(tmp_path, monkeypatch):
    wanted, other = new_run(tmp_path / "runs", 7), new_run(tmp_path / "runs", 8)
    assert find_run(tmp_path / "runs", wanted.path.name).path == wanted.path
    assert find_run(tmp_path / "elsewhere", str(wanted.path)).path == wanted.path
    monkeypatch.chdir(tmp_path / "runs")
    assert find_run(Path("elsewhere"), wanted.path.name).path.resolve() == wanted.path
    assert find_run(tmp_path / "runs").path == other.path


def test_where_links_are_not_allowed_the_newest_folder_is_the_latest(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    runs = [new_run(tmp_path, second) for second in (9, 7, 8)]
    assert not (tmp_path / LATEST).exists()
    assert find_run(tmp_path).path == runs[0].path


def test_a_latest_whose_run_was_deleted_gives_way_to_the_newest_left(tmp_path):
    left, deleted = new_run(tmp_path, 7), new_run(tmp_path, 8)
    (deleted.path / RECORD).unlink()
    deleted.path.rmdir()
    assert find_run(tmp_path).path == left.path


@pytest.mark.parametrize("root", [".", "missing"])
def test_a_folder_without_runs_is_an_error_that_says_how_to_get_one(tmp_path, root):
    (tmp_path / "no run").mkdir()
    with pytest.raises(RunError, match=rf"holds no run; expected a folder with {RECORD}: train one with"):
        find_run(tmp_path / root)


@pytest.mark.parametrize("name", ["never", "no run", "file", "/never"])
def test_a_name_without_a_run_is_an_error_even_beside_others(tmp_path, name):
    new_run(tmp_path)
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=f"^{name} is no run folder; expected a folder with {RECORD}"):
        find_run(tmp_path, name)


# Writing


def full_disk(_) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_full_disk_leaves_neither_a_new_file_nor_a_temporary_one(tmp_path, monkeypatch, before):
    target = tmp_path / "run.json"
    if before is not None:
        target.write_bytes(before)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunError, match=r"run\.json could not be written \(No space left on device\): free some"):
        write_atomically(target, b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {} if before is None else {"run.json": before}
    )


@contextmanager
def small_files():
    """Let no file grow beyond 4096 bytes: the system's own refusal, in the middle of a write.

    As short as can be: the suite's own output may be going to a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_breaks_off_leaves_the_old_content(tmp_path):
    write_atomically(tmp_path / "history.csv", b"old")
    with pytest.raises(RunError, match=r"history\.csv could not be written"), small_files():
        write_atomically(tmp_path / "history.csv", bytes(10_000))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"history.csv": b"old"}


def test_the_name_is_given_only_after_the_bytes_are_on_the_disk(tmp_path, monkeypatch):
    target, seen = tmp_path / "run.json", []
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(target.read_bytes()))
    write_atomically(target, b"new")
    assert seen == [b"old", b"new"]  # the file's sync, then the folder's


def test_a_missing_folder_is_an_error_of_ours_that_names_the_file(tmp_path):
    with pytest.raises(RunError, match=r"nowhere/run\.json could not be written \(No such file or directory\)"):
        write_atomically(tmp_path / "nowhere" / "run.json", b"")


# Record and history


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = {"format": 1, "loss": 1 / 3, "labels": ["airplane", "Zürich"], "none": None, "nested": {"a": [1, 2.5]}}
    Run(tmp_path).write_record(record)
    assert Run(tmp_path).read_record() == record


def test_a_missing_record_is_an_error(tmp_path):
    with pytest.raises(RunError, match=r"run\.json could not be read .*expected the record of a run: pass a run"):
        Run(tmp_path).read_record()


@pytest.mark.parametrize("content", [b"", b'{"format": 1', b"\xff\xfe", b"not json"])
def test_a_broken_record_is_an_error(tmp_path, content):
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json could not be read"):
        Run(tmp_path).read_record()


@pytest.mark.parametrize(("content", "kind"), [("[1]", "list"), ('"run"', "str"), ("null", "NoneType")])
def test_a_record_that_is_no_object_is_an_error(tmp_path, content, kind):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(RunError, match=rf"run\.json holds a {kind}; expected a JSON object"):
        Run(tmp_path).read_record()


FLOATS = (0.1, 1 / 3, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, math.inf, math.nan, 1e22, 123456789.123456789)


def test_history_keeps_every_float_exactly(tmp_path):
    rows = [EpochRecord(epoch, x, 2 * x, x / 3, -x, 1 - x) for epoch, x in enumerate(FLOATS, start=1)]
    Run(tmp_path).write_history(rows)
    assert repr(Run(tmp_path).read_history()) == repr(rows)  # repr, so that NaN equals NaN and -0.0 not 0.0


def test_history_is_written_in_its_shortest_form_with_a_header(tmp_path):
    Run(tmp_path).write_history([EpochRecord(1, 0.001, 2.5, 0.1 + 0.2, 1 / 3, 1.0)])
    assert (tmp_path / "history.csv").read_bytes() == (
        b"epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy\n"
        b"1,0.001,2.5,0.30000000000000004,0.3333333333333333,1.0\n"
    )


def test_history_before_the_first_epoch_is_empty(tmp_path):
    assert Run(tmp_path).read_history() == []
    Run(tmp_path).write_history([])
    assert Run(tmp_path).read_history() == []


# The lock


def test_a_second_holder_is_refused_and_may_have_it_afterwards(tmp_path):
    run = Run(tmp_path)
    refused = pytest.raises(RunError, match="is in use by another process; expected it free")
    with run.locked(), refused, Run(tmp_path).locked():
        pytest.fail("two hold the same run")
    with run.locked():
        pass


def test_the_lock_is_given_back_when_the_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), Run(tmp_path).locked():
        raise ZeroDivisionError
    with Run(tmp_path).locked():
        pass


HOLD = """
import sys
from pathlib import Path
from cifarnet.run import Run
with Run(Path(sys.argv[1])).locked():
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_holder_is_gone_even_if_it_was_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(RunError, match=f"^{tmp_path} is in use by another process"), Run(tmp_path).locked():
            pytest.fail("two hold the same run")
        holder.kill()
    with Run(tmp_path).locked():
        pass


def test_json_has_null_for_what_it_has_no_word_for():
    document = {"loss": math.nan, "rows": ({"size": math.inf}, [1.5, -math.inf, "nan", True, None])}
    assert json.loads(json_text(document)) == {"loss": None, "rows": [{"size": None}, [1.5, None, "nan", True, None]]}
