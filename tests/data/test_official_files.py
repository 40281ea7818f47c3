"""The official files are read in either version, as folder or archive, and nothing in them is run or trusted."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.lfs import POINTER

from cifarnet.data import official_files
from cifarnet.data.official_files import holds_release, read_release
from cifarnet.errors import DataError, IntegrityError


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("version", ["bin", "py"])
@pytest.mark.parametrize("place", ["folder", "subfolder", "archive"])
def test_either_version_reads_the_same_from_each_place(tiny, python_files, make_tar, tmp_path, *, version, place):
    files = tiny.files if version == "bin" else python_files
    inside = "" if place == "folder" else f"cifar-10-batches-{version}"
    _write(tmp_path / inside, files)
    path = tmp_path
    if place == "archive":
        path = tmp_path / "cifar.tar.gz"
        path.write_bytes(make_tar({f"./{inside}/{name}": data for name, data in files.items()}))
    assert holds_release(path, tiny.release)
    dataset = read_release(path, tiny.release)
    np.testing.assert_array_equal(dataset.train.images[:20], tiny.images("data_batch_1.bin"))
    np.testing.assert_array_equal(dataset.test.labels, tiny.labels("test_batch.bin"))


def test_a_missing_file_is_named(tiny, tmp_path):
    del tiny.files["data_batch_2.bin"]
    with pytest.raises(DataError, match=r"lacks data_batch_2\.bin; expected the 3 files"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_a_truncated_record_file_is_named_with_its_size(tiny, tmp_path):
    tiny.files["data_batch_2.bin"] = tiny.files["data_batch_2.bin"][:-1]
    with pytest.raises(IntegrityError, match=r"data_batch_2\.bin has 61459 bytes; expected 61460"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_a_record_file_that_is_too_large_is_refused(tiny, tmp_path):
    tiny.files["data_batch_2.bin"] += b"\0"
    with pytest.raises(DataError, match=r"data_batch_2\.bin is larger than 61460 bytes"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_a_label_out_of_range_is_told_apart_from_altered_pixels(tiny, tmp_path):
    tiny.files["test_batch.bin"] = b"\x0a" + tiny.files["test_batch.bin"][1:]
    with pytest.raises(IntegrityError, match=r"test_batch\.bin has the label 10; expected 0 to 9"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_one_altered_pixel_is_refused(tiny, tmp_path):
    data = bytearray(tiny.files["test_batch.bin"])
    data[5000] ^= 1
    tiny.files["test_batch.bin"] = bytes(data)
    with pytest.raises(IntegrityError, match=r"test_batch\.bin was altered: SHA-256"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_an_altered_pixel_in_the_python_version_is_refused(tiny, python_files, make_python_batch, tmp_path):
    pixels = tiny.images("test_batch.bin").tobytes()  # channels last: the right size, the wrong order
    python_files["test_batch"] = make_python_batch(pixels, tiny.labels("test_batch.bin"))
    with pytest.raises(IntegrityError, match=r"test_batch\.bin was altered"):
        read_release(_write(tmp_path, python_files), tiny.release)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_an_archive_with_a_member_that_leaves_it_is_refused_whole(tiny, make_tar, tmp_path, name):
    path = tmp_path / "inner" / "cifar.tar.gz"
    path.parent.mkdir()
    path.write_bytes(make_tar({**tiny.files, name: b"evil"}))
    with pytest.raises(DataError, match="leaves the archive"):
        read_release(path, tiny.release)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["cifar.tar.gz", "inner"]


def test_a_member_that_is_a_link_is_refused(tiny, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("data_batch_1.bin")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    (tmp_path / "cifar.tar").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="expected a regular file"):
        read_release(tmp_path / "cifar.tar", tiny.release)


def test_an_archive_that_unfolds_without_end_is_refused(tiny, make_tar, tmp_path, monkeypatch):
    monkeypatch.setattr(official_files, "_MAX_TOTAL_BYTES", 100_000)
    (tmp_path / "cifar.tgz").write_bytes(make_tar({"zeros": bytes(100_001), **tiny.files}))
    with pytest.raises(DataError, match="expands to 1 members, 100001 bytes"):
        read_release(tmp_path / "cifar.tgz", tiny.release)


def test_a_git_lfs_pointer_in_place_of_an_archive_is_named(tiny, tmp_path):
    (tmp_path / "cifar.tar.gz").write_bytes(POINTER)
    with pytest.raises(IntegrityError, match=r"it is a Git LFS pointer: fetch the file itself with `git lfs pull`"):
        read_release(tmp_path / "cifar.tar.gz", tiny.release)


@pytest.mark.parametrize("kept", [0, 10, 1000, -50_000])
def test_a_truncated_archive_is_refused(tiny, official, tmp_path, kept):
    (tmp_path / "cifar.tar.gz").write_bytes(official[:kept])
    with pytest.raises(IntegrityError, match="cannot be read as a tar archive"):
        read_release(tmp_path / "cifar.tar.gz", tiny.release)


def test_a_hostile_pickle_runs_nothing(tiny, python_files, make_hostile_pickle, tmp_path):
    trace = tmp_path / "trace"
    python_files["data_batch_1"] = make_hostile_pickle(trace)
    with pytest.raises(IntegrityError, match=r"it asks for (posix|nt)\.system, which no CIFAR-10 file needs"):
        read_release(_write(tmp_path / "py", python_files), tiny.release)
    assert not trace.exists()


def test_the_hostile_pickle_would_have_run(make_hostile_pickle, tmp_path):
    pickle.loads(make_hostile_pickle(tmp_path / "trace"))
    assert (tmp_path / "trace").exists()


_GOOD = bytes(20 * 3072)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"shape": (10, 6144)}, r"shape \(10, 6144\); expected \(20, 3072\)"),
        ({"pixels": _GOOD[:-1]}, "pixels of another length; expected 61440 bytes"),
        ({"dtype": b"f4"}, "another dtype; expected uint8"),
        ({"dtype": b"O8"}, "another dtype; expected uint8"),
        ({"is_fortran": True}, "Fortran order"),
        ({"labels": [0] * 19, "shape": (20, 3072)}, "another length; expected 20 labels"),
        ({"labels": [10] * 20}, "out of range; expected 0 to 9"),
        ({"labels": [-1] * 20}, "out of range; expected 0 to 9"),
    ],
)
def test_a_pickle_with_another_array_is_refused(tiny, python_files, make_python_batch, *, tmp_path, batch, message):
    arguments = {"pixels": _GOOD, "labels": [0] * 20} | batch
    python_files["data_batch_1"] = make_python_batch(**arguments)
    with pytest.raises(IntegrityError, match=message):
        read_release(_write(tmp_path, python_files), tiny.release)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"\x80\x02}", "cannot be read"),
        (pickle.dumps([1]), "a list; expected a dictionary"),
        (pickle.dumps({b"labels": [0] * 20}, protocol=2), "asks for _codecs.encode"),
        (b"\x80\x02}.", "no list of labels"),
    ],
)
def test_a_damaged_pickle_is_refused(tiny, python_files, tmp_path, data, message):
    python_files["data_batch_1"] = data
    with pytest.raises(IntegrityError, match=message):
        read_release(_write(tmp_path, python_files), tiny.release)


def test_a_folder_of_something_else_is_not_taken_for_the_release(tiny, class_folders):
    assert not holds_release(class_folders, tiny.release)
    assert not holds_release(class_folders / "cat" / "0.png", tiny.release)
