"""A file gets its name only when it is complete, whatever the disk, the system and other writers do."""

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cifarnet.atomic import HOST, temporary_folder, temporary_name, write_atomically, written_aside
from cifarnet.errors import RunError


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("fsync", OSError(errno.ENOSPC, "No space left on device"), r"\(No space left on device\): free some"),
        (
            "replace",
            PermissionError(errno.EACCES, "Permission denied"),
            r"\(Permission denied\): check its permissions",
        ),
        ("fsync", KeyboardInterrupt(), ""),
    ],
    ids=["full disk", "rename refused", "interrupted"],
)
def test_a_write_that_fails_leaves_what_was_there_and_no_temporary_file(tmp_path, monkeypatch, step, error, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    for before in ({}, {"run.json": b"old"}):
        for name, content in before.items():
            (tmp_path / name).write_bytes(content)
        kind = RunError if message else KeyboardInterrupt
        with pytest.raises(kind, match=rf"run\.json could not be written {message}" if message else None):
            write_atomically(tmp_path / "run.json", b"new")
        assert files_in(tmp_path) == before


def test_the_name_is_given_only_after_the_bytes_are_on_the_disk(tmp_path, monkeypatch):
    target, seen = tmp_path / "run.json", []
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(target.read_bytes()))
    write_atomically(target, b"new")
    assert seen == [b"old", b"new"]  # the file's sync, then the folder's


def test_a_missing_folder_is_an_error_of_ours_that_names_the_file(tmp_path):
    message = (
        r"nowhere/in/run\.json could not be written \(No such file or directory\): "
        r"there is no folder \S*/nowhere, perhaps because it was moved or deleted meanwhile: start again, or "
        r"continue a run that was moved with `cifarnet train --resume` and its new path$"
    )
    with pytest.raises(RunError, match=message):
        write_atomically(tmp_path / "nowhere" / "in" / "run.json", b"")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_share_that_does_not_sync_folders_is_no_obstacle(tmp_path, monkeypatch, code):
    sync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomically(tmp_path / "run.json", b"new")
    assert files_in(tmp_path) == {"run.json": b"new"}


def test_of_several_files_the_one_that_cannot_be_renamed_is_named(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    refused = pytest.raises(RunError, match=r"first could not be written \(Is a directory\)")
    with refused, written_aside(first, b"1") as name_first, written_aside(second, b"2"):
        name_first()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_threads_that_write_one_file_at_the_same_time_all_succeed_and_one_wins(tmp_path):
    contents = [bytes([number]) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            list(pool.map(lambda content: write_atomically(tmp_path / "run.json", content), contents))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() in contents


def gone_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_a_write_sweeps_what_killed_processes_left_in_the_folder_and_nothing_else(tmp_path):
    target, gone = tmp_path / "best.weights.h5", gone_process()
    left = tmp_path / f".model.onnx-{HOST}-{gone}-00000000.part"
    link = tmp_path / f".latest-{HOST}-{gone}-00000000.part"
    old = tmp_path / f".best.weights.h5-{'0' * 8}-1-00000000.part"  # of a machine that is long gone
    stays = [
        temporary_name(target),  # of this process
        tmp_path / f".best.weights.h5-{HOST}-{os.getppid()}-00000000.part",
        tmp_path / f".best.weights.h5-{'1' * 8}-{gone}-00000000.part",  # of another machine
        tmp_path / f".notes-{gone}",
        tmp_path / "notes.part",
        tmp_path / ".notes.part",
    ]
    for path in (left, old, *stays):
        path.touch()
    link.symlink_to("a-run")
    os.utime(old, (0, 0))
    folders = [tmp_path / name for name in (".my-notes", ".Trash-1000", temporary_name(tmp_path / "a-run").name)]
    for folder in (*folders, tmp_path / left.name.replace("00000000", "11111111")):
        folder.mkdir()
        (folder / "run.json").touch()
    write_atomically(target, b"new")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (*stays, *folders, target)}


def test_the_temporary_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = (
        "from cifarnet.atomic import temporary_folder as t; import os\nwith t() as f: (f / 'x').touch(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    (abandoned,) = tmp_path.iterdir()
    with temporary_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder] != [abandoned]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == []
