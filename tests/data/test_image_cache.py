"""The images of a folder are decoded once, and the cache never changes what is read."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.processes import python

from cifarnet import preprocessing
from cifarnet.data import decoding, image_cache, load_dataset
from cifarnet.data.class_folders import open_labeled_images
from cifarnet.errors import DataError

SECOND_NS = 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded since the last ``clear``."""
    names, read = [], decoding.read_pixels

    def recorded(path, shape):
        names.append(path.name)
        return read(path, shape)

    monkeypatch.setattr(decoding, "read_pixels", recorded)
    return names


def files(cache):
    return sorted(cache.glob("*.pixels"))


def assert_same(one, other):
    assert one.fingerprint == other.fingerprint
    assert (one.train.files, one.test.files) == (other.train.files, other.test.files)
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(one, part).images, getattr(other, part).images)


def test_the_second_reading_decodes_nothing_and_returns_the_same_dataset(class_folders, tmp_path, decoded, cache):
    for part in ("train", "test"):
        shutil.copytree(class_folders, tmp_path / "split" / part)
    for folder, count in ((class_folders, 10), (tmp_path / "split", 20)):
        first = load_dataset(folder)
        assert len(decoded) == count
        decoded.clear()
        assert_same(load_dataset(folder), first)
        assert decoded == []
    large = open_labeled_images(class_folders, ["cat", "dog"], shape=(48, 48, 3))  # of another size: anew
    assert (len(decoded), len(files(cache)), large.test.images.shape[1:]) == (10, 3, (48, 48, 3))


def test_a_folder_that_another_of_equal_names_sizes_and_times_replaces_is_decoded(class_folders, tmp_path, decoded):
    first, kept = load_dataset(class_folders), []
    for path in sorted(class_folders.rglob("*.png")):
        status = path.stat()
        other = Image.new("RGB", (32, 32), (len(kept), 0, 0))
        other.save(tmp_path / "other.png")
        content = (tmp_path / "other.png").read_bytes()
        kept.append((path, content + bytes(max(0, status.st_size - len(content))), status))
    for path, content, status in kept:
        path.unlink()
        path.write_bytes(content[: status.st_size])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    decoded.clear()
    assert load_dataset(class_folders).fingerprint != first.fingerprint
    assert len(decoded) == len(kept)


def test_a_changed_or_added_file_decodes_only_that_and_a_removed_one_nothing(class_folders, decoded):
    load_dataset(class_folders)
    path = class_folders / "cat" / "3.png"
    time_ns = path.stat().st_mtime_ns + 1
    os.utime(path, ns=(time_ns, time_ns))  # of the same size
    Image.new("RGB", (40, 40), (1, 2, 3)).save(class_folders / "cat" / "2.png")
    Image.new("RGB", (32, 32), (9, 9, 9)).save(class_folders / "dog" / "new.png")
    for expected in (["2.png", "3.png", "new.png"], []):
        decoded.clear()
        changed = load_dataset(class_folders)
        assert sorted(decoded) == expected
        (class_folders / "cat" / "0.png").unlink(missing_ok=True)
    image_cache.clear_cached_folders()
    assert_same(load_dataset(class_folders), changed)


def other_version(file, monkeypatch):
    monkeypatch.setattr(image_cache, "VERSION", preprocessing.VERSION + 1)


def other_decoders(file, monkeypatch):
    monkeypatch.setattr(image_cache.features, "version", lambda _: "another")


def changed_byte(file, monkeypatch):
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncated(file, monkeypatch):
    file.write_bytes(file.read_bytes()[:40])


@pytest.mark.parametrize("change", [other_version, other_decoders, changed_byte, truncated])
def test_a_damaged_cache_or_that_of_another_version_is_not_used(class_folders, decoded, cache, monkeypatch, change):
    first = load_dataset(class_folders)
    decoded.clear()
    (file,) = files(cache)
    change(file, monkeypatch)
    assert_same(load_dataset(class_folders), first)
    assert len(decoded) == 10
    decoded.clear()
    load_dataset(class_folders)
    assert decoded == []


def test_images_beside_a_broken_one_are_decoded_once(class_folders, decoded):
    (class_folders / "cat" / "0.png").write_text("no image")
    for expected in (10, 1):
        decoded.clear()
        with pytest.raises(DataError, match="1 of 10 images could not be read"):
            load_dataset(class_folders)
        assert len(decoded) == expected


INTERRUPTED = """
import os, signal, sys
from cifarnet.data import decoding, load_dataset
from cifarnet.interrupt import exit_on_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
exit_on_interrupt()
decoded, read = [], decoding.read_pixels
def read_pixels(path, shape):
    decoded.append(path)
    if len(decoded) == 4:
        os.kill(os.getpid(), signal.SIGINT)
    return read(path, shape)
decoding.read_pixels = read_pixels
load_dataset(sys.argv[1])
"""


def test_ctrl_c_keeps_the_images_that_were_decoded(class_folders, decoded):
    done = python("-c", INTERRUPTED, class_folders)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    (kept,) = image_cache.cached_folders()
    assert 1 <= kept.images <= 4
    continued = load_dataset(class_folders)
    assert len(decoded) == 10 - kept.images
    image_cache.clear_cached_folders()
    assert_same(load_dataset(class_folders), continued)


def test_without_a_usable_cache_the_images_are_decoded_each_time(class_folders, tmp_path, decoded):
    (tmp_path / "cache").write_text("no folder")
    seen = []
    for _ in range(2):
        load_dataset(class_folders, progress=lambda phase, *_: seen.append(phase))
    assert len(decoded) == 20
    assert [phase for phase in seen if phase.startswith("decoded images are not kept")] == [seen[0]] * 2


def test_a_second_reader_waits_and_decodes_nothing(class_folders, decoded):
    started, go_on, waited = threading.Event(), threading.Event(), threading.Event()

    def first(phase, *_):
        started.set()
        assert go_on.wait(30)

    def second(phase, *_):
        if phase == "waiting for another process":
            waited.set()
            go_on.set()

    reader = threading.Thread(target=load_dataset, args=(class_folders,), kwargs={"progress": first})
    reader.start()
    assert started.wait(30)
    load_dataset(class_folders, progress=second)
    reader.join()
    assert waited.is_set()
    assert len(decoded) == 10


def test_the_least_recently_used_is_deleted_above_the_limit(class_folders, tmp_path, cache, monkeypatch):
    folders = [shutil.copytree(class_folders, tmp_path / name) for name in ("first", "second", "third")]
    for age, folder in zip((50, 100), folders[:2], strict=True):
        load_dataset(folder)
        newest = max(files(cache), key=lambda file: file.stat().st_mtime_ns)
        time_ns = newest.stat().st_mtime_ns - age * SECOND_NS
        os.utime(newest, ns=(time_ns, time_ns))
    monkeypatch.setattr(image_cache, "MOST_BYTES", int(2.5 * files(cache)[0].stat().st_size))
    load_dataset(folders[2])
    assert [Path(each.folder).name for each in image_cache.cached_folders()] == ["third", "first"]


def test_data_cache_shows_folders_and_clears_only_its_own_files(class_folders, cache, typed):
    load_dataset(class_folders)
    foreign = [cache / f"{'0' * 32}.pixels", cache / "notes.txt", cache / "mine.pixels"]
    for path in foreign:
        path.write_text("mine")
    code, stdout, _ = typed("data", "cache")
    assert (code, str(class_folders) in stdout, "32x32" in stdout) == (0, True, True)
    (shown,) = json.loads(typed("data", "cache", "--json")[1])["folders"]
    assert (shown["folder"], shown["images"]) == (str(class_folders), 10)
    assert shown["size_bytes"] > 10 * 32 * 32 * 3
    code, stdout, _ = typed("data", "cache", "--clear")
    assert (code, "deleted 0.0 MB" in stdout) == (0, True)
    assert image_cache.cached_folders() == []
    assert sorted(cache.iterdir()) == sorted(foreign)
