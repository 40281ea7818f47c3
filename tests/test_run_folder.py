"""A run folder belongs to one process, can be found again, and is never incomplete."""

import errno
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from cifarnet.atomic import HOST
from cifarnet.errors import RunError, UsageError
from cifarnet.run.find import LATEST, create_run, find_run, finish_pointing_latest, point_latest
from cifarnet.run.folder import RECORD, EpochRecord, Run, require_writable_model
from cifarnet.run.typed_json import json_text
from tests.records import FINISHED, RUNNING, put

NOW = datetime(2026, 3, 4, 5, 6, 7)
NAME = "20260304-050607-seed-jax"


def begun(run: Run) -> None:
    put(run, RUNNING)


def new_run(root: Path, second: int = 7) -> Run:
    started = NOW.replace(second=second, tzinfo=UTC).isoformat()
    fill = partial(put, content=RUNNING | {"started": started})
    run = create_run(root, "seed", "jax", NOW.replace(second=second), fill)
    point_latest(run)
    return run


# Creating and finding


def test_a_file_of_a_run_is_not_taken_for_one(tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(RunError, match="lies in a run folder and is none; expected the folder: name "):
        find_run(tmp_path, str(run.model))


def test_a_run_is_named_for_time_recipe_and_backend_and_numbered_within_a_second(tmp_path):
    runs = [create_run(tmp_path / "not" / "yet", "seed", "jax", NOW, begun) for _ in range(3)]
    assert [run.path.name for run in runs] == [NAME, f"{NAME}-2", f"{NAME}-3"]


CREATE = """
import sys
from datetime import datetime
from pathlib import Path
from cifarnet.run.find import create_run
def fill(run):
    (run.path / "run.json").touch()
sys.stdin.readline()
for _ in range(20):
    print(create_run(Path(sys.argv[1]), "seed", "jax", datetime(2026, 3, 4, 5, 6, 7), fill))
"""


def test_processes_that_start_at_the_same_instant_get_different_folders(tmp_path):
    command = [sys.executable, "-c", CREATE, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    paths = [path for process in processes for path in process.communicate(timeout=60)[0].split()]
    assert len(paths) == len(set(paths)) == 40


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from cifarnet.run.find import create_run
def fill(run):
    (run.path / "run.json").touch()
    os.kill(os.getpid(), signal.SIGKILL)
create_run(Path(sys.argv[1]), "seed", "jax", datetime(2026, 3, 4, 5, 6, 7), fill)
"""


def test_a_run_whose_process_is_killed_while_it_is_made_is_never_found_and_swept_away(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert (left / "run.json").exists()
    with pytest.raises(RunError, match="holds no run"):
        find_run(tmp_path)
    run = new_run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"latest", run.path.name}


def test_a_run_that_cannot_be_filled_leaves_nothing(tmp_path):
    def full(run):
        (run.path / "seen.npy").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match=r"a run could not be made in .* \(No space left on device\)"):
        create_run(tmp_path, "seed", "jax", NOW, full)
    assert list(tmp_path.iterdir()) == []


def test_latest_points_to_the_newest(tmp_path):
    for second in (7, 8, 9):
        run = new_run(tmp_path, second)
        assert (tmp_path / LATEST).resolve() == run.path
        assert find_run(tmp_path).path == run.path
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_run_whose_process_was_killed_before_latest_pointed_to_it_becomes_the_latest(tmp_path):
    older, newer = (new_run(tmp_path, second) for second in (1, 2))
    point_latest(older)
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = tmp_path / f".latest-{HOST}-{gone.pid}-00000000.part"
    left.symlink_to(newer.path.name)
    finish_pointing_latest(newer)
    assert find_run(tmp_path).path == newer.path
    finish_pointing_latest(older)  # as when the older one is resumed
    assert find_run(tmp_path).path == newer.path
    assert not os.path.lexists(left)


def test_a_run_is_found_by_name_and_by_path_wherever_latest_points(tmp_path, monkeypatch):
    wanted, other = new_run(tmp_path / "runs", 7), new_run(tmp_path / "runs", 8)
    assert find_run(tmp_path / "runs", wanted.path.name).path == wanted.path
    assert find_run(tmp_path / "elsewhere", str(wanted.path)).path == wanted.path
    monkeypatch.chdir(tmp_path / "runs")
    assert find_run(Path("elsewhere"), wanted.path.name).path.resolve() == wanted.path
    for name in (None, "latest", str(tmp_path / "runs" / "latest")):
        assert find_run(tmp_path / "runs", name).path == other.path


def test_where_links_are_not_allowed_the_newest_folder_is_the_latest(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    runs = [new_run(tmp_path, second) for second in (9, 7, 8)]
    assert not (tmp_path / LATEST).exists()
    assert find_run(tmp_path).path == runs[0].path


def test_a_latest_whose_run_was_deleted_gives_way_to_the_newest_left_and_to_the_next_one(tmp_path):
    left, deleted = new_run(tmp_path, 7), new_run(tmp_path, 8)
    shutil.rmtree(deleted.path)
    assert find_run(tmp_path).path == left.path
    newer = new_run(tmp_path, 9)
    assert (tmp_path / LATEST).resolve() == newer.path


@pytest.mark.parametrize("name", ["never", "no run", "file"])
def test_a_name_without_a_run_is_an_error_even_beside_others(tmp_path, name):
    new_run(tmp_path)
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").touch()
    state = "does not exist" if name == "never" else "is no run folder"
    with pytest.raises(RunError, match=f"^{name} {state}; expected a folder with {RECORD}"):
        find_run(tmp_path, name)


def test_where_latest_is_a_real_folder_the_newest_run_is_taken(tmp_path):
    older = new_run(tmp_path, 7)
    (tmp_path / LATEST).unlink()
    shutil.copytree(older.path, tmp_path / LATEST)  # as an archive or a cloud folder makes of a link
    assert find_run(tmp_path).path == find_run(tmp_path, "latest").path == older.path
    newer = new_run(tmp_path, 8)
    assert not (tmp_path / LATEST).is_symlink()
    assert find_run(tmp_path).path == find_run(tmp_path, "latest").path == newer.path


@pytest.mark.parametrize("target", ["../elsewhere", "notes", "/gone/elsewhere", None])
def test_a_latest_of_somebody_else_stays_and_the_newest_run_is_taken(tmp_path, target):
    for folder in ("elsewhere", "runs/notes"):
        (tmp_path / folder).mkdir(parents=True)
    latest = tmp_path / "runs" / LATEST
    latest.symlink_to(target) if target else latest.write_text("mine")
    runs = [new_run(tmp_path / "runs", second) for second in (7, 8)]
    assert (str(latest.readlink()) if target else latest.read_text()) == (target or "mine")
    assert find_run(tmp_path / "runs").path == find_run(tmp_path / "runs", "latest").path == runs[-1].path


def test_the_newest_is_the_one_that_began_last_whatever_the_folders_are_called(tmp_path):
    in_summer, in_winter = "2026-10-25T00:59:00+00:00", "2026-10-25T01:01:00+00:00"  # 02:59, then 02:01 in Berlin
    beginnings = {"20261025-025900-seed-jax": in_summer, "20261025-020100-seed-jax": in_winter}
    for name, started in beginnings.items():
        (tmp_path / name).mkdir()
        put(Run(tmp_path / name), RUNNING | {"started": started})
    assert find_run(tmp_path).path.name == "20261025-020100-seed-jax"


def test_of_the_runs_of_one_second_the_one_with_the_highest_number_is_the_newest(tmp_path):
    for _ in range(11):
        new_run(tmp_path)
    (tmp_path / LATEST).unlink()
    assert find_run(tmp_path).path.name == f"{NAME}-11"


@pytest.mark.parametrize("started", ["yesterday", None, "9999-12-31T23:59:59-23:59"])
def test_a_record_that_does_not_tell_its_beginning_counts_by_its_last_change(tmp_path, started):
    new_run(tmp_path)
    (tmp_path / LATEST).unlink()
    (tmp_path / "odd").mkdir()
    put(Run(tmp_path / "odd"), RUNNING | {"started": started})
    os.utime(tmp_path / "odd" / RECORD, (0, 0))
    assert find_run(tmp_path).path.name == (NAME if "9999" not in str(started) else "odd")


def test_a_root_that_is_a_file_and_a_name_that_is_too_long_are_errors_of_ours(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        RunError, match=r"a run could not be made in .*file \((File exists|Not a directory)\); expected"
    ):
        create_run(tmp_path / "file", "seed", "jax", NOW, begun)
    with pytest.raises(RunError, match=r"a run could not be made in .* \(File name too long\)"):
        create_run(tmp_path, "seed" * 99, "jax", NOW, begun)
    with pytest.raises(RunError, match=r"could not be read \(File name too long\); expected a run folder"):
        find_run(tmp_path, "x" * 300)


# Record and history


def test_a_record_comes_back_as_it_was_written(tmp_path):
    later = {"colour": {"of a later version": [1, 2.5, None, "Zürich"]}}
    for content in (RUNNING, FINISHED, FINISHED | later):
        put(Run(tmp_path), content)
        record = Run(tmp_path).record
        Run(tmp_path).write_record(record)
        assert (tmp_path / RECORD).read_text() == json.dumps(content, indent=2) + "\n"
        assert Run(tmp_path).record == record


@pytest.mark.parametrize("run", sorted((Path(__file__).parent / "fixtures" / "0.1.0").glob("*/run.json")))
def test_a_record_of_version_0_1_0_is_written_again_byte_for_byte(tmp_path, run):
    Run(tmp_path).write_record(Run(run.parent).record)
    assert (tmp_path / RECORD).read_bytes() == run.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "over"}, "status is 'over'; expected one of running, interrupted, finished"),
        ({"started": "2026-03-04T05:06:07"}, "started is '2026-03-04T05:06:07'; expected a time in ISO 8601 format"),
        ({"elapsed_s": -1.0}, "elapsed_s is -1.0; expected a number from 0"),
        ({"versions": {"keras": 3}}, "versions.keras is 3; expected a string"),
        ({"machine": []}, r"machine is \[\]; expected an object"),
        ({"metrics": {"test": {"loss": 1, "accuracy": 1.5}}}, "metrics.test.accuracy is 1.5; expected a number from 0"),
        ({"calibration": {"temperature": True}}, "calibration.temperature is True; expected a number from 0.05 to 20"),
        (
            {"train": RUNNING["train"] | {"optimizer": "muon"}},
            "optimizer is 'muon', ghost_batch 0; expected batch norm",
        ),
    ],
)
def test_a_value_of_another_type_or_range_is_told_with_its_place(tmp_path, change, message):
    put(Run(tmp_path), FINISHED | change)
    with pytest.raises(
        RunError, match=rf"run\.json is damaged \({message}.*\); expected the record of a run: restore it"
    ):
        _ = Run(tmp_path).record


@pytest.mark.parametrize("missing", sorted(RUNNING.keys() - {"format"}))
def test_a_record_without_a_fact_that_every_run_has_is_damaged(tmp_path, missing):
    put(Run(tmp_path), {name: value for name, value in FINISHED.items() if name != missing})
    with pytest.raises(RunError, match=rf"run\.json is damaged \({missing} is None; expected"):
        _ = Run(tmp_path).record


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "could not be read .*expected the record of a run: pass a run"),
        (b'{"format": 1', "could not be read"),
        (b"\xff\xfe", "could not be read"),
        (b"[1]", "holds no JSON object; expected one"),
    ],
)
def test_a_broken_record_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(RunError, match=rf"run\.json {message}"):
        _ = Run(tmp_path).record


FLOATS = (0.1, 1 / 3, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, math.inf, math.nan, 1e22, 123456789.123456789)
HEADER = b"epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy\n"


def test_history_keeps_every_float_exactly_and_is_written_in_its_shortest_form(tmp_path):
    rows = [EpochRecord(epoch, x, 2 * x, x / 3, -x, 1 - x) for epoch, x in enumerate(FLOATS, start=1)]
    Run(tmp_path).write_history(rows)
    assert repr(Run(tmp_path).read_history()) == repr(rows)  # repr, so that NaN equals NaN and -0.0 not 0.0
    Run(tmp_path).write_history([EpochRecord(1, 0.001, 2.5, 0.1 + 0.2, 1 / 3, 1.0)])
    expected = HEADER + b"1,0.001,2.5,0.30000000000000004,0.3333333333333333,1.0\n"
    assert (tmp_path / "history.csv").read_bytes() == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1,2,3,4,5,6\n",  # no header
        HEADER + b"1,2,3,4,5\n",
        HEADER + b"2,2,3,4,5,6\n",
        HEADER + b"1,2,3,4,5,6\n1,2,3,4,5,6\n",
        HEADER + b"1e0,2,3,4,5,6\n",
        HEADER + b'1,2,3,4,5,"' + b"6" * 200_000 + b"\n",  # more than a field of the csv module may have
        HEADER + b"1,2,3,4,5,\xff6\n",
        HEADER + b"9" * 5000 + b",2,3,4,5,6\n",
    ],
)
def test_a_damaged_history_is_an_error_of_ours(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"history\.csv is damaged .*expected one row per epoch: resume the run"):
        Run(tmp_path).read_history()


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
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    with run.locked():  # given back when the work fails
        pass


HOLD = """
import sys
from pathlib import Path
from cifarnet.run.folder import Run
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


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EROFS])
def test_where_the_system_cannot_lock_the_error_names_the_file_and_a_way_out(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    expected = (
        rf"\.lock could not be locked \({os.strerror(code)}\); expected .* local disk \(--runs, in Python runs=\)"
    )
    with pytest.raises(RunError, match=expected), Run(tmp_path).locked():
        pytest.fail("held without a lock")


def test_a_filelock_that_finds_no_flock_is_an_error_of_ours_too(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", missing)
    with pytest.raises(RunError, match="does not appear to support flock"), Run(tmp_path).locked():
        pytest.fail("held without a lock")


def test_json_has_null_for_what_it_has_no_word_for():
    document = {"loss": math.nan, "rows": ({"size": math.inf}, [1.5, -math.inf, "nan", True, None])}
    assert json.loads(json_text(document)) == {"loss": None, "rows": [{"size": None}, [1.5, None, "nan", True, None]]}


# Names for a model


CONTRACT = {"version": 1, "labels": ["a", "b"], "input": {}, "outputs": {}}
PARITY = {"precision": "float32", "sha256": "0" * 64, "checks": []}


def test_a_name_for_a_model_whose_files_are_those_of_an_earlier_export_is_allowed(tmp_path):
    require_writable_model(tmp_path / "model.onnx")
    (tmp_path / "model.json").write_text(json.dumps(CONTRACT))
    (tmp_path / "model.parity.json").write_text(json.dumps(PARITY))
    require_writable_model(tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.parity.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("package.json", b'{"version": "1.0.0"}'),
        ("package.json", b"[]"),
        ("package.json", b"[" * 100_000),
        ("package.parity.json", b"{"),
        ("package.parity.json", b"\xff"),
    ],
)
def test_a_name_for_a_model_that_would_replace_somebody_elses_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        UsageError, match=rf"an export would write .*{name}, which is not a file of an export; expected"
    ):
        require_writable_model(tmp_path / "package.onnx")
    assert (tmp_path / name).read_bytes() == content


def test_a_model_may_not_take_the_contract_of_another_for_its_parity_record(tmp_path):
    (tmp_path / "a.parity.json").write_text(json.dumps(CONTRACT))  # of a.parity.onnx
    with pytest.raises(UsageError, match=r"a\.parity\.json, which is not a file of an export"):
        require_writable_model(tmp_path / "a.onnx")
    (tmp_path / "a.parity.json").write_text(json.dumps(PARITY))  # of a.onnx
    with pytest.raises(UsageError, match=r"a\.parity\.json, which is not a file of an export"):
        require_writable_model(tmp_path / "a.parity.onnx")


@pytest.mark.parametrize("name", ["run", "robustness", "reproduction"])
def test_the_names_of_a_run_folder_are_refused_even_while_they_are_free(tmp_path, name):
    with pytest.raises(UsageError, match=rf"an export would write .*{name}\.json, which is not a file of an export"):
        require_writable_model(tmp_path / f"{name}.onnx")


def test_a_name_that_leaves_no_room_for_the_files_beside_it_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be written \(File name too long\); expected"):
        require_writable_model(tmp_path / f"{'x' * 240}.onnx")
