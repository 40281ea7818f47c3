"""CIFAR-10 comes whole, from whichever source works, or not at all."""

import errno
import fcntl
import os
import pickle
import selectors
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifarnet.data import cache
from cifarnet.data.cache import cache_state, open_cache
from cifarnet.data.cifar10 import HttpArchive
from cifarnet.data.download import download, fetch
from cifarnet.data.progress import silent
from cifarnet.errors import DataError, FetchError, IntegrityError


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_fetched_release_opens_with_the_official_pixels(tiny, official, server, tmp_path):
    server.body = official
    folder = fetch(tmp_path, sources=[server.source(official)], release=tiny.release)
    dataset = open_cache(tmp_path, release=tiny.release)
    np.testing.assert_array_equal(dataset.test.images, tiny.images("test_batch.bin"))
    np.testing.assert_array_equal(dataset.train.images[20:], tiny.images("data_batch_2.bin"))
    assert _names(tmp_path) == ["tiny", "tiny.lock"]
    assert folder == tmp_path / "tiny"


def test_a_second_fetch_asks_nobody_unless_forced(tiny, official, server, tmp_path):
    server.body = official
    for force in (False, False, True):
        fetch(tmp_path, force=force, sources=[server.source(official)], release=tiny.release)
    assert len(server.ranges) == 2
    assert cache_state(tmp_path, release=tiny.release).present


def test_forcing_replaces_a_damaged_cache(tiny, official, server, tmp_path):
    server.body = official
    folder = fetch(tmp_path, sources=[server.source(official)], release=tiny.release)
    (folder / "test-images.npy").write_bytes(b"")
    fetch(tmp_path, force=True, sources=[server.source(official)], release=tiny.release)
    np.testing.assert_array_equal(open_cache(tmp_path, release=tiny.release).test.images, tiny.images("test_batch.bin"))
    assert _names(tmp_path) == ["tiny", "tiny.lock"]


def test_progress_counts_up_to_the_promised_size(official, server, tmp_path):
    server.body, seen = official, []
    download(server.source(official), tmp_path, lambda *report: seen.append(report))
    assert seen[-1] == ("downloading", len(official), len(official))


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_partial_download_is_resumed_or_begun_again(official, server, tmp_path, knows_ranges):
    server.body, server.knows_ranges = official, knows_ranges
    (tmp_path / "tiny.tar.gz.partial").write_bytes(official[:1000])
    assert download(server.source(official), tmp_path, silent).read_bytes() == official
    assert server.ranges == ["bytes=1000-"]


def test_a_line_that_drops_is_taken_up_again(official, server, tmp_path):
    server.body, server.drop_after_bytes = official, len(official) // 2 + 1
    assert download(server.source(official), tmp_path, silent).read_bytes() == official
    assert server.ranges == [None, f"bytes={len(official) // 2 + 1}-"]


def test_a_connection_that_stalls_is_opened_again(official, server, tmp_path, monkeypatch):
    server.body, server.drop_after_bytes = official, len(official) // 2 + 1
    server.may_end.clear()
    monkeypatch.setattr("cifarnet.data.download._TIMEOUT_S", 0.5)
    assert download(server.source(official), tmp_path, silent).read_bytes() == official
    assert server.ranges == [None, f"bytes={len(official) // 2 + 1}-"]


def test_what_arrived_over_a_bad_line_stays_for_the_next_run(official, server, tmp_path):
    server.body, server.drop_after_bytes = official, 100
    with pytest.raises(FetchError, match=f"dropped after 500 of {len(official)} bytes: run again"):
        download(server.source(official), tmp_path, silent)
    assert (tmp_path / "tiny.tar.gz.partial").read_bytes() == official[:500]


def test_an_altered_download_is_deleted(official, server, tmp_path):
    server.body = official[:-1] + bytes([official[-1] ^ 1])
    with pytest.raises(IntegrityError, match=r"MD5 .* expected .* run again"):
        download(server.source(official), tmp_path, silent)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("announces_length", [True, False])
def test_a_download_that_is_too_long_is_refused(official, server, tmp_path, announces_length):
    server.body, server.announces_length = official + b"more", announces_length
    with pytest.raises(IntegrityError, match=f"{len(official) + 4} bytes.*expected {len(official)}"):
        download(server.source(official), tmp_path, silent)
    assert _names(tmp_path) == []


def test_a_download_that_is_announced_too_short_is_refused(official, server, tmp_path):
    server.body = official[:-4]
    with pytest.raises(IntegrityError, match=f"offers {len(official) - 4} bytes; expected {len(official)}"):
        download(server.source(official), tmp_path, silent)


def test_an_archive_with_an_altered_record_is_refused_though_its_md5_fits(tiny, make_tar, server, tmp_path):
    files = {name: data[:-1] + b"\0" for name, data in tiny.files.items()}
    server.body = make_tar(files)
    with pytest.raises(FetchError, match=r"data_batch_1\.bin was altered"):
        fetch(tmp_path, sources=[server.source(server.body)], release=tiny.release)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["tiny.lock"]


def test_after_one_source_failed_the_next_is_tried_and_that_is_said(tiny, official, server, tmp_path):
    server.body, phases = official, []
    unreachable = HttpArchive(url="http://127.0.0.1:1/tiny.tar.gz", size_bytes=1, md5="")
    sources = [unreachable, server.source(official)]
    fetch(tmp_path, lambda phase, *_: phases.append(phase), sources=sources, release=tiny.release)
    assert cache_state(tmp_path, release=tiny.release).present
    assert phases[0].startswith("gave up on http://127.0.0.1:1/tiny.tar.gz (no connection: Connection refused)")


def test_when_every_source_fails_the_error_lists_them_and_the_way_out(tiny, tmp_path):
    unreachable = [HttpArchive(url=f"http://127.0.0.1:1/{name}.tar.gz", size_bytes=1, md5="") for name in "ab"]
    with pytest.raises(FetchError, match=r"tried .*a\.tar\.gz \(no connection.*b\.tar\.gz.*pass `--data FILE`") as info:
        fetch(tmp_path, sources=unreachable, release=tiny.release)
    assert "\n" not in str(info.value)


def test_a_page_that_is_not_there_is_named_by_its_status(server, tmp_path):
    server.status = 404
    with pytest.raises(FetchError, match="the server answered 404 Not Found"):
        download(server.source(b"anything"), tmp_path, silent)


class _FullDisk:
    """Accepts some writes, then none."""

    def __init__(self, writes: int) -> None:
        self.writes = writes

    def __call__(self, file: object, data: bytes) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(data)


def test_a_disk_that_fills_while_downloading_leaves_nothing(official, server, tmp_path, monkeypatch):
    server.body = official
    monkeypatch.setattr("cifarnet.data.download.write_all", _FullDisk(0))
    with pytest.raises(DataError, match=r"the disk is full.*make room") as info:
        download(server.source(official), tmp_path, silent)
    assert not isinstance(info.value, FetchError)
    assert _names(tmp_path) == []


def test_a_disk_that_fills_while_the_cache_is_written_leaves_nothing(tiny, official, server, tmp_path, monkeypatch):
    server.body = official
    monkeypatch.setattr("cifarnet.data.cache.write_all", _FullDisk(2))
    with pytest.raises(DataError, match="the disk is full"):
        fetch(tmp_path, sources=[server.source(official)], release=tiny.release)
    assert _names(tmp_path) == ["tiny.lock"]


def test_a_cache_folder_that_cannot_be_made_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^cannot write .*/tiny: Not a directory; .*CIFARNET_CACHE"):
        fetch(tmp_path / "file" / "cache", sources=[], release=tiny.release)


def test_a_lock_that_the_system_refuses_is_not_taken_for_a_full_disk(tiny, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        DataError, match=r"tiny\.lock could not be locked \(No locks available\); .* file locks: set CIFARNET_CACHE to"
    ):
        fetch(tmp_path, sources=[], release=tiny.release)


def test_what_somebody_else_has_in_the_folder_of_downloads_stays(tiny, official, server, tmp_path):
    server.body, scratch = official, tmp_path / ".tiny.download"
    scratch.mkdir()
    given_up = HttpArchive(url="http://127.0.0.1:1/other.tar.gz", size_bytes=9, md5="")
    for name in ("other.tar.gz.partial", "notes.txt"):
        (scratch / name).write_text("mine")
    fetch(tmp_path, sources=[given_up, server.source(official)], release=tiny.release)
    assert _names(scratch) == ["notes.txt"]


_CHILD = """
import pickle, sys
from pathlib import Path
from cifarnet.data import download, fetch
download._TIMEOUT_S = 60  # the server does not answer before the other process has started
release, source = pickle.loads(bytes.fromhex(sys.argv[2]))
fetch(Path(sys.argv[1]), lambda phase, *_: print(phase, flush=True), sources=[source], release=release)
"""


def test_of_two_processes_one_fetches_and_the_other_waits_for_it(tiny, official, server, tmp_path):
    server.body = official
    server.may_answer.clear()
    package_root = Path(cache.__file__).parents[2]
    arguments = [str(tmp_path), pickle.dumps((tiny.release, server.source(official))).hex()]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(package_root)},
        )
        for _ in range(2)
    ]
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
    assert len(server.ranges) == 1


def test_a_temporary_folder_left_by_a_dead_process_is_swept(tiny, official, server, tmp_path):
    (tmp_path / ".tiny.new").mkdir()
    (tmp_path / ".tiny.new" / "test-labels.npy").write_text("")
    server.body = official
    fetch(tmp_path, sources=[server.source(official)], release=tiny.release)
    assert len(_names(tmp_path / "tiny")) == 4


@pytest.mark.parametrize("name", ["tiny/notes.txt", "tiny/test-images.npy/mine", ".tiny.new/notes.txt", ".tiny.old"])
@pytest.mark.parametrize("force", [False, True])
def test_a_file_of_somebody_else_in_the_place_of_the_cache_stays_and_is_named(
    tiny, official, server, tmp_path, name, force
):
    server.body, mine = official, tmp_path / name
    mine.parent.mkdir(exist_ok=True, parents=True)
    mine.write_text("mine")
    with pytest.raises(DataError, match=r"is not a file of the cache and would be deleted; .*CIFARNET_CACHE") as info:
        fetch(tmp_path, force=force, sources=[server.source(official)], release=tiny.release)
    assert str(info.value).startswith(f"{mine.parent if mine.name == 'mine' else mine} ")
    assert mine.read_text() == "mine"
    assert server.ranges == []


def test_a_link_in_the_place_of_the_cache_is_refused_and_what_it_leads_to_stays(tiny, official, server, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tiny").symlink_to("elsewhere")
    with pytest.raises(DataError, match="tiny is not a file of the cache"):
        fetch(tmp_path, sources=[server.source(official)], release=tiny.release)
    assert _names(tmp_path) == ["elsewhere", "tiny", "tiny.lock"]
