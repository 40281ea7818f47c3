"""A person's own images become a dataset, or an error that says which file or folder is in the way."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.lfs import POINTER

from cifarnet.data import open_dataset
from cifarnet.errors import DataError


def test_classes_are_the_sorted_folder_names_and_a_fifth_is_held_out(class_folders):
    dataset = open_dataset(class_folders)
    assert (dataset.name, dataset.labels) == ("pets", ("cat", "dog"))
    assert np.bincount(dataset.train.labels).tolist() == [4, 4]
    assert np.bincount(dataset.test.labels).tolist() == [1, 1]
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0] == 200, dataset.train.labels == 0)


def test_the_held_out_images_depend_on_the_seed_alone(class_folders):
    first, again = (open_dataset(class_folders, seed=3).fingerprint for _ in range(2))
    assert first == again
    assert len({open_dataset(class_folders, seed=seed).fingerprint for seed in range(5)}) > 1


def test_train_and_test_folders_are_kept_apart(class_folders, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(class_folders, tmp_path / "divided" / part)
    (tmp_path / "divided" / "test" / "cat" / "0.png").unlink()
    dataset = open_dataset(str(tmp_path / "divided"))
    assert (len(dataset.train), len(dataset.test)) == (10, 9)


def test_classes_that_only_one_part_has_are_named(class_folders, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(class_folders, tmp_path / "divided" / part)
    (tmp_path / "divided" / "test" / "dog").rename(tmp_path / "divided" / "test" / "hog")
    with pytest.raises(DataError, match=r"dog \(only in train\), hog \(only in test\)"):
        open_dataset(tmp_path / "divided")


@pytest.mark.parametrize("other", ["val", "Validation"])
def test_parts_of_a_data_set_are_not_taken_for_classes(class_folders, tmp_path, other):
    for part in ("train", other):
        shutil.copytree(class_folders, tmp_path / "divided" / part)
    with pytest.raises(
        DataError, match=rf"has {', '.join(sorted(('train', other)))} as class folders, .*train and test"
    ):
        open_dataset(tmp_path / "divided")


def test_a_class_may_be_called_like_a_part(class_folders):
    (class_folders / "cat").rename(class_folders / "test")
    assert open_dataset(class_folders).labels == ("dog", "test")


def test_images_are_found_at_any_depth_but_not_behind_links_or_dots(class_folders):
    deep = class_folders / "cat" / "more" / "and more"
    deep.mkdir(parents=True)
    shutil.copy(class_folders / "cat" / "0.png", deep / "DEEP.PNG")
    shutil.copy(class_folders / "cat" / "0.png", deep / ".hidden.png")
    (deep / "loop").symlink_to(class_folders, target_is_directory=True)
    (class_folders / ".git").mkdir()
    (class_folders / "cat" / "notes.txt").write_text("not an image")
    dataset = open_dataset(class_folders)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 11


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_named_like_an_image_is_left_alone(class_folders):
    os.mkfifo(class_folders / "cat" / "pipe.png")
    assert len(open_dataset(class_folders).train) == 8


def test_progress_counts_the_bytes_of_the_files(class_folders):
    seen = []
    open_dataset(class_folders, progress=lambda *report: seen.append(report))
    total_bytes = sum(path.stat().st_size for path in class_folders.rglob("*.png"))
    assert len(seen) == 10
    assert seen[-1] == ("decoding", total_bytes, total_bytes)


def test_an_empty_class_folder_is_named(class_folders):
    (class_folders / "emu").mkdir()
    with pytest.raises(DataError, match=r"class folder .*emu has 0 image\(s\) and 0 other .*add images or remove"):
        open_dataset(class_folders)


def test_a_folder_of_other_files_is_named_with_the_accepted_kinds(class_folders):
    (class_folders / "emu").mkdir()
    (class_folders / "emu" / "emu.svg").write_text("<svg/>")
    with pytest.raises(DataError, match=r"emu has 0 image\(s\) and 1 other file\(s\); expected .*\.png"):
        open_dataset(class_folders)


def test_a_class_too_small_to_divide_is_named(class_folders):
    for index in range(3):
        (class_folders / "dog" / f"{index}.png").unlink()
    with pytest.raises(DataError, match=r"dog has 2 image\(s\).*expected at least 3"):
        open_dataset(class_folders)


def test_one_class_is_too_few(class_folders):
    shutil.rmtree(class_folders / "dog")
    with pytest.raises(DataError, match="has the class folder cat; expected at least 2"):
        open_dataset(class_folders)


def _bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is a square of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _truncated_png(path: Path) -> bytes:
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path.read_bytes()[:3000]


def test_unreadable_images_are_counted_and_named_with_reasons(class_folders):
    (class_folders / "cat" / "0.png").write_bytes(_truncated_png(class_folders / "cat" / "0.png"))
    (class_folders / "dog" / "1.png").write_text("no image")
    with pytest.raises(DataError, match=r"2 of 10 .*0\.png \(.*truncated.*1\.png \(no image.*: remove or replace"):
        open_dataset(class_folders)


def test_a_long_list_of_unreadable_images_is_cut(class_folders):
    for path in class_folders.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(DataError, match=r"10 of 10 images .*, …: remove or replace") as info:
        open_dataset(class_folders)
    assert str(info.value).count(".png") == 5


@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow by itself only warns of the first
def test_a_decompression_bomb_is_not_decoded(class_folders, side):
    (class_folders / "cat" / "0.png").write_bytes(_bomb(side))
    with pytest.raises(DataError, match=r"1 of 10 .*0\.png \(.*decompression bomb"):
        open_dataset(class_folders)


def test_a_git_lfs_pointer_in_place_of_an_image_is_named(class_folders):
    (class_folders / "cat" / "0.png").write_bytes(POINTER)
    with pytest.raises(DataError, match=r"it is a Git LFS pointer: fetch the file itself with `git lfs pull`"):
        open_dataset(class_folders)


def test_a_format_outside_the_list_is_refused_whatever_its_name(class_folders):
    Image.new("RGB", (32, 32)).save(class_folders / "cat" / "0.png", "PPM")
    with pytest.raises(DataError, match="no image in a known format"):
        open_dataset(class_folders)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda _: None, "no such file or folder"),
        (lambda path: path.mkdir(), "an empty folder"),
        (lambda path: path.write_text("text"), "a file of another kind"),
        (lambda path: (path.mkdir(), [(path / name).touch() for name in "abcd"]), r"without subfolders \(a, b, c, …\)"),
    ],
)
def test_what_is_no_dataset_is_described_with_what_is_accepted(tmp_path, make, found):
    make(tmp_path / "thing")
    with pytest.raises(DataError, match=f"thing is .*{found}.*; expected `cifar10`, `synthetic`, the official"):
        open_dataset(tmp_path / "thing")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_may_not_be_read_is_named(class_folders):
    (class_folders / "cat").chmod(0)
    with pytest.raises(DataError, match="cat cannot be read"):
        open_dataset(class_folders)
