"""A file gets its name only when it is complete, whatever the disk, the system and other writers do."""

import errno
import os
import resource
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cifarnet.atomic import HOST, temporary_name, write_atomically, written_aside
from cifarnet.errors import RunError


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
    with pytest.raises(
        RunError,
        match=r"nowhere/in/run\.json could not be written \(No such file or directory\): "
        r"there is no folder \S*/nowhere, perhaps because it was moved or deleted meanwhile: start again, or "
        r"continue a run that was moved with `cifarnet train --resume` and its new path$",
    ):
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
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"run.json": b"new"}


def test_a_rename_that_the_system_refuses_leaves_the_old_content_alone(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "run.json").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(RunError, match=r"run\.json could not be written \(Permission denied\): check its permissions"):
        write_atomically(tmp_path / "run.json", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"run.json": b"old"}


def test_of_several_files_the_one_that_cannot_be_renamed_is_named(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    refused = pytest.raises(RunError, match=r"first could not be written \(Is a directory\)")
    with refused, written_aside(first, b"1") as name_first, written_aside(second, b"2"):
        name_first()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"run\.json could not be written \(Not a directory\)"):
        write_atomically(tmp_path / "file" / "run.json", b"new")


def test_an_exception_of_another_kind_leaves_no_temporary_file_either(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "run.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_one_file_at_the_same_time_all_succeed_and_one_wins(tmp_path):
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            list(pool.map(lambda content: write_atomically(tmp_path / "run.json", content), contents))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() in contents


def gone_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
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
