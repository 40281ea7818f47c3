"""An image folder becomes a dataset, or an error that names the file or folder."""

import errno
import io
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.lfs import POINTER
from tests.png import png_bytes

from cifarnet.data import load_dataset
from cifarnet.data.class_folders import open_labeled_images
from cifarnet.errors import ConfigError, DataError
from cifarnet.preprocessing import read_pixels


def write_noise(folder, names, seed=0):
    """Write an image of noise under each name: BMP, so that every version of Pillow writes the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng([seed, *name.encode()])
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{name}.bmp")


def contents(split):
    return {image.tobytes() for image in split.images}


@pytest.fixture
def split_folders(class_folders):
    """The two classes in `train` and in `test`."""
    for part in ("train", "test"):
        shutil.copytree(class_folders, class_folders.with_name("split") / part)
    return class_folders.with_name("split")


@pytest.fixture
def photos(tmp_path):
    """Two classes of sixty images of noise."""
    for seed, label in enumerate(("cat", "dog")):
        write_noise(tmp_path / "photos" / label, map(str, range(60)), seed)
    return tmp_path / "photos"


def test_about_a_fifth_of_each_class_is_the_test_part_by_the_seed_alone(photos):
    fingerprints = set()
    for seed in (0, 1, 2, 0):
        dataset = load_dataset(photos, seed=seed)
        assert (np.bincount(dataset.train.labels) + np.bincount(dataset.test.labels)).tolist() == [60, 60]
        # Binomial, so 12 and 3 standard deviations of 3.1.
        assert all(3 <= count <= 21 for count in np.bincount(dataset.test.labels))
        fingerprints.add(dataset.fingerprint)
    assert len(fingerprints) == 3


def test_an_image_stays_on_its_side_when_others_come_and_go(photos):
    before = load_dataset(photos, seed=5)
    write_noise(photos / "cat", ["00", "0a", "5a", "zz"], seed=7)
    write_noise(photos / "ant", map(str, range(9)), seed=8)
    for name in ("3", "50", "57"):
        (photos / "dog" / f"{name}.bmp").unlink()
    after = load_dataset(photos, seed=5)
    assert len(after.train) + len(after.test) == 120 + 4 + 9 - 3
    assert not contents(before.train) & contents(after.test)
    assert not contents(before.test) & contents(after.train)


def test_a_small_class_has_one_image_to_test_by_and_two_others_and_one_of_copies_cannot_be_divided(tmp_path):
    for label in ("cat", "dog"):
        write_noise(tmp_path / label, "abc", seed=ord(label[0]))
    for seed in range(20):  # of three images none, one, two and three fall below a fifth in some
        dataset = load_dataset(tmp_path, seed=seed)
        assert np.bincount(dataset.test.labels).tolist() == [1, 1]
        assert np.bincount(dataset.train.labels).tolist() == [2, 2]
    shutil.copy(tmp_path / "cat" / "a.bmp", tmp_path / "cat" / "b.bmp")
    message = r"class cat has 2 different image\(s\) among its 3 files; expected at least 3: "
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path)


def test_copies_of_a_file_are_on_one_side_and_those_with_the_same_pixels_in_other_files_are_training_images(photos):
    before = load_dataset(photos)
    originals = [*photos.rglob("*.bmp")]
    for path in originals:
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    dataset = load_dataset(photos)
    assert not contents(dataset.train) & contents(dataset.test)
    assert len(contents(dataset.test)) * 2 == len(dataset.test)
    for path in originals:
        Image.open(path).save(path.with_name(f"copy of {path.stem}.png"))
    dataset = load_dataset(photos)
    assert not contents(dataset.train) & contents(dataset.test)
    assert contents(before.train) <= contents(dataset.train)
    found = [photos / name for split in (dataset.train, dataset.test) for name in split.files]
    assert sorted(found) == sorted([*photos.rglob("*.bmp"), *photos.rglob("*.png")])


def test_a_class_in_which_every_image_was_saved_again_several_times_has_test_images_without_a_copy(tmp_path):
    for seed, label in enumerate(("cat", "dog")):
        write_noise(tmp_path / "noise" / label, map(str, range(10)), seed)
    for path in [*tmp_path.rglob("*.bmp")]:
        for ending in ("png", "tif", "gif.png", "webp"):
            Image.open(path).save(path.with_suffix(f".{ending}"), lossless=True, compress_level=len(ending))
    dataset = load_dataset(tmp_path / "noise")
    assert not contents(dataset.train) & contents(dataset.test)
    assert (np.bincount(dataset.test.labels) >= 1).all()
    assert dataset.reading.copies == 80


def test_a_folder_opens_as_earlier_versions_divided_it(class_folders):
    dataset = load_dataset(class_folders, seed=3, split_by="position")
    assert dataset.test.images[:, 0, 0, 2].tolist() == [10, 200]
    assert dataset.fingerprint == "bd47ceea904eff1ab13d9cff92d5bdee27e929d249a3e3e463464d5d720e42b3"
    assert (dataset.split_by, dataset.split_seed) == ("position", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"seed": -1, "split_by": each}, r"seed.* -1; expected") for each in ("content", "position")),
        *(
            ({"image_size": size}, r"image_size is .*; expected a whole number from 32 to 256$")
            for size in (31, 257, 64.5, "64", True, None)
        ),
    ],
)
def test_a_seed_below_0_and_a_size_out_of_range_are_refused(class_folders, options, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset(class_folders, **options)


def test_images_of_a_fixed_size_are_not_enlarged(tmp_path):
    for source in ("cifar10", "synthetic"):
        message = (
            f"image_size is 64; expected 32 for {source}, whose images are 32x32 and are not enlarged: leave it out"
        )
        with pytest.raises(ConfigError, match=message):
            load_dataset(source, image_size=64, cache=tmp_path)


def test_a_dataset_has_sorted_classes_its_source_and_how_its_test_split_was_chosen(
    class_folders, split_folders, monkeypatch
):
    monkeypatch.chdir(class_folders.parent)
    drawn = load_dataset("pets", seed=4)
    assert (drawn.name, drawn.labels) == ("pets", ("cat", "dog"))
    for part in (drawn.train, drawn.test):
        np.testing.assert_array_equal(part.images[:, 0, 0, 0] == 200, part.labels == 0)
    assert (drawn.source, drawn.split_by, drawn.split_seed) == (str(class_folders), "content", 4)
    given = load_dataset(split_folders, seed=4)
    assert (given.source, given.split_by, given.split_seed) == (str(split_folders), None, None)
    synthetic = load_dataset("synthetic", seed=4)
    assert (synthetic.source, synthetic.split_by, synthetic.split_seed) == ("synthetic", None, 4)


def test_train_and_test_folders_are_kept_apart_and_classes_that_only_one_has_are_named(split_folders):
    (split_folders / "test" / "cat" / "0.png").unlink()
    dataset = load_dataset(str(split_folders))
    assert (len(dataset.train), len(dataset.test)) == (10, 9)
    (split_folders / "test" / "dog").rename(split_folders / "test" / "hog")
    with pytest.raises(DataError, match=r"dog \(only in train\), hog \(only in test\)"):
        load_dataset(split_folders)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val"),
        ("Validation", "train"),
        ("TEST", "Train"),
        ("TestSet", "TrainSet"),
        ("seg_test", "seg_train"),
        ("Testing", "Training Data"),
    ],
)
def test_splits_are_not_taken_for_classes(split_folders, names):
    folder = split_folders.with_name("renamed")
    folder.mkdir()
    for part, name in zip(("test", "train"), names, strict=True):
        (split_folders / part).rename(folder / name)
        (folder / name / "labels.csv").touch()
    with pytest.raises(DataError, match=rf"has {', '.join(sorted(names))} as class folders, .*train and test"):
        load_dataset(folder)


def test_a_class_may_be_called_like_a_part(class_folders):
    (class_folders / "cat").rename(class_folders / "test")
    assert load_dataset(class_folders).labels == ("dog", "test")
    (class_folders / "freight train" / "red").mkdir(parents=True)
    for image in (class_folders / "dog").iterdir():
        shutil.copy(image, class_folders / "freight train" / "red")
    assert load_dataset(class_folders).labels == ("dog", "freight train", "test")


def test_images_are_found_at_any_depth_but_not_behind_links_or_dots_and_no_pipe_is_opened(class_folders):
    deep = class_folders / "cat" / "more" / "and more"
    deep.mkdir(parents=True)
    shutil.copy(class_folders / "cat" / "0.png", deep / "DEEP.PNG")
    shutil.copy(class_folders / "cat" / "0.png", deep / ".hidden.png")
    (deep / "loop").symlink_to(class_folders, target_is_directory=True)
    for folder in (class_folders, class_folders / "cat"):
        for name in ("@eaDir", "__MACOSX", ".thumbnails", "#recycle"):
            (folder / name).mkdir()
            shutil.copy(class_folders / "cat" / "0.png", folder / name)
    (class_folders / "cat" / "._0.png").write_text("no image")
    (class_folders / "cat" / "Thumbs.db").write_text("no image")
    (class_folders / ".git").mkdir()
    (class_folders / "cat" / "notes.txt").write_text("not an image")
    os.mkfifo(class_folders / "cat" / "pipe.png")
    dataset = load_dataset(class_folders)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 11


def test_progress_counts_the_bytes_of_the_files_and_damage_beside_the_pixels_of_a_png_is_ignored(class_folders):
    content = (class_folders / "cat" / "0.png").read_bytes()
    text = struct.pack(">I", 3) + b"tEXta\0b" + b"\0" * 4  # with a wrong CRC
    (class_folders / "cat" / "0.png").write_bytes(content[:-12] + text)  # and without the last chunk
    seen = []
    dataset = load_dataset(class_folders, progress=lambda *report: seen.append(report))
    total_bytes = sum(path.stat().st_size for path in class_folders.rglob("*.png"))
    assert (len(dataset.train) + len(dataset.test), len(seen)) == (10, 10)
    assert seen[-1] == ("decoding", total_bytes, total_bytes)


@pytest.mark.parametrize(
    ("kept", "others", "message"),
    [
        (0, [], r"dog has 0 image\(s\) and 0 other file\(s\); expected .*\.png.*: add images or remove"),
        (0, ["dog.svg"], r"dog has 0 image\(s\) and 1 other file\(s\); expected .*\.png"),
        (2, [], r"dog has 2 image\(s\).*expected at least 3"),
    ],
)
def test_a_class_with_too_few_images_and_a_single_class_are_named(class_folders, kept, others, message):
    for index in range(kept, 5):
        (class_folders / "dog" / f"{index}.png").unlink()
    for name in others:
        (class_folders / "dog" / name).touch()
    with pytest.raises(DataError, match=message):
        load_dataset(class_folders)
    (class_folders / "dog" / "linked").symlink_to(class_folders / "cat")
    with pytest.raises(DataError, match=r"other file\(s\) and 1 linked folder\(s\), which are not followed; expected"):
        load_dataset(class_folders)
    shutil.rmtree(class_folders / "dog")
    with pytest.raises(DataError, match="has the class folder cat; expected at least 2"):
        load_dataset(class_folders)


def _half_zeroed() -> bytes:
    """A PNG that Pillow decodes as if nothing were wrong."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    middle, end = len(content) // 2, len(content) - 16  # of the pixels, then their CRC and the last chunk
    content[middle:end] = bytes(end - middle)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    return bytes(content)


def _ppm() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PPM")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png_bytes(64, 64, bytes(range(256)))[:-20], ".*truncated"),
        (_half_zeroed(), "broken PNG file: the CRC of its pixels does not match"),
        (b"no image", "no image in a known format"),
        (_ppm(), "no image in a known format"),  # a format outside the list is refused whatever the file's name
        (
            png_bytes(10_000, 10_000, b""),
            ".*decompression bomb.*scale it down or raise CIFARNET_MAX_PIXELS",
        ),  # Pillow by itself only warns of this one
        (png_bytes(20_000, 20_000, b""), ".*decompression bomb"),
        (POINTER, "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    ],
    ids=["truncated", "half zeroed", "text", "PPM", "large", "bomb", "Git LFS"],
)
def test_unreadable_images_are_counted_and_named_with_the_reason_and_a_long_list_is_cut(class_folders, content, reason):
    for name in ("cat/0.png", "dog/1.png"):
        (class_folders / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"2 of 10 .*0\.png \({reason}.*1\.png \(.*: remove or replace"):
        load_dataset(class_folders)
    for path in class_folders.rglob("*.png"):
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"10 of 10 images .*, …: remove or replace") as info:
        load_dataset(class_folders)
    assert str(info.value).count(".png") == 3


def test_too_many_open_files_are_not_blamed_on_the_images(class_folders, monkeypatch):
    opened = Path.open

    def refuse_last(path, *arguments, **settings):
        if path.name == "4.png":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse_last)
    expected = r"^[^ ]*cat/4\.png cannot be read \(Too many open files\): an error of the system, not of the file"
    with pytest.raises(DataError, match=expected) as info:
        load_dataset(class_folders)
    assert "replace" not in str(info.value)


def test_what_is_no_dataset_is_described_with_what_is_accepted(tmp_path):
    thing = tmp_path / "thing"
    for make, found in (
        (lambda: None, "no such file or folder"),
        (lambda: thing.write_text("text"), "a file of another kind"),
        (lambda: (thing.unlink(), thing.mkdir()), "an empty folder"),
        (lambda: [(thing / name).touch() for name in "abcd"], r"without subfolders \(a, b, c, …\)"),
    ):
        make()
        with pytest.raises(DataError, match=f"thing is .*{found}.*; expected `cifar10`, `synthetic`, the official"):
            load_dataset(thing)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_may_not_be_read_is_named(class_folders):
    (class_folders / "cat").chmod(0)
    with pytest.raises(DataError, match="cat cannot be read"):
        load_dataset(class_folders)


def test_broken_links_are_refused_and_not_left_out(photos):
    for number in range(7):
        (photos / "cat" / f"annex{number}.png").symlink_to("/nonexistent/object")
    with pytest.raises(DataError, match=r"^7 of 67 images in .*cat are broken links: .*annex0.png.*, …; expected"):
        load_dataset(photos)
    for number in range(1, 7):
        (photos / "cat" / f"annex{number}.png").unlink()
    with pytest.raises(DataError, match=r"^1 of 61 images in .*cat is a broken link: .*annex0.png; expected"):
        load_dataset(photos)


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_class_names_of_another_unicode_form_are_the_same_in_splits_and_to_evaluate_on(split_folders):
    (split_folders / "train" / "cat").rename(split_folders / "train" / COMPOSED)
    (split_folders / "test" / "cat").rename(split_folders / "test" / DECOMPOSED)
    dataset = load_dataset(split_folders)
    assert dataset.labels == (COMPOSED, "dog")
    assert np.bincount(dataset.test.labels).tolist() == [5, 5]
    found = open_labeled_images(split_folders / "test", ["dog", COMPOSED])
    assert np.bincount(found.test.labels).tolist() == [5, 5]
    assert found.test.files[-1] == f"{DECOMPOSED}/4.png"


def test_two_class_folders_that_look_the_same_are_refused_to_train_and_to_evaluate_on(class_folders):
    for name in (COMPOSED, DECOMPOSED):
        shutil.copytree(class_folders / "cat", class_folders / name)
    for use in (load_dataset, lambda folder: open_labeled_images(folder, ["cat", "dog", COMPOSED])):
        with pytest.raises(DataError, match="which look alike; expected different names: rename one"):
            use(class_folders)


@pytest.mark.parametrize("folder", ["class_folders", "split_folders"])
def test_the_images_of_a_folder_have_the_size_that_was_asked_for(folder, request):
    path = request.getfixturevalue(folder)
    dataset = load_dataset(path, image_size=96)
    assert {part.images.shape[1:] for part in (dataset.train, dataset.test)} == {(96, 96, 3)}
    assert (dataset.image_size, load_dataset(path).image_size) == (96, 32)
    (first, *_) = dataset.train.files
    np.testing.assert_array_equal(dataset.train.images[0], read_pixels(path / first, (96, 96, 3)))
    assert dataset.train.files == load_dataset(path).train.files
