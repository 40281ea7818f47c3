"""`cifarnet data check` reports on a folder as training would read it."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from cifarnet.data import load_dataset
from cifarnet.data.class_folders import open_labeled_images
from cifarnet.data.contact_sheet import contact_sheet
from cifarnet.data.folder_report import check_folder
from cifarnet.dataset import Split


def waves(phase, size=(48, 48)):
    """A smooth image, other for each phase, whose near-copies have the same average hash."""
    y, x = np.mgrid[0:64, 0:64]
    values = 127 + 120 * np.sin(phase + x * (1 + phase) / 20 + y * phase / 15)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB").resize(size)


@pytest.fixture
def photos(tmp_path):
    """Two classes of twelve different images."""
    for number in range(24):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        waves(number / 3, (40 + number, 40)).save(folder / f"{number:02}.png")
    return tmp_path / "photos"


def test_a_folder_without_faults_is_usable_and_files_that_are_not_read_are_counted(photos, typed):
    report = check_folder(photos).report
    assert report.classes == {"a": {"all": 12}, "b": {"all": 12}}
    assert (report.images, report.fault, report.unequal, report.crossing) == (24, None, False, 0)
    assert report.sizes == {"smallest": (40, 40), "median": (52, 40), "largest": (63, 40)}
    assert report.copies == report.near_copies == report.broken == report.flat == report.linked_folders == ()
    for name in ("a/1.psd", "a/2.PSD", "b/notes", "b/.hidden"):
        (photos / name).touch()
    (photos / "b" / "more").symlink_to(photos / "a")
    report = check_folder(photos).report
    assert (report.others, report.linked_folders) == ({".psd": 2, "": 1}, ("b/more",))
    code, stdout, _ = typed("data", "check", photos)
    assert (code, stdout.splitlines()[-1]) == (0, f"usable: cifarnet train --data {photos}")


def test_images_beside_the_class_folders_are_named(photos, typed):
    for name in ("train", "test"):
        shutil.copytree(photos / "a", photos / name / "a")
        shutil.copytree(photos / "b", photos / name / "b")
    (photos / "labels.csv").touch()
    assert check_folder(photos).report.unlabeled == ()
    waves(9, (40, 40)).save(photos / "x.png")
    waves(8, (40, 40)).save(photos / "test" / "y.JPG", "JPEG")
    assert check_folder(photos).report.unlabeled == ("x.png", "test/y.JPG")
    assert load_dataset(photos).reading.unlabeled == 2
    _, stdout, _ = typed("data", "check", photos)
    assert "images beside the class folders, which have no class and are not read: 2" in stdout.splitlines()
    assert open_labeled_images(photos / "test", ("a", "b")).reading.unlabeled == 1


def test_all_broken_files_are_listed_and_make_it_unusable_unless_they_are_skipped(photos, typed):
    for number in range(20):
        (photos / "a" / f"broken{number:02}.png").write_text("no image")
    (photos / "b" / "link.png").symlink_to(photos / "nowhere")
    code, stdout, _ = typed("data", "check", photos)
    assert code == 1
    assert stdout.count("(no image in a known format)") == 20
    assert "  b/link.png (a link that leads nowhere)" in stdout
    assert stdout.splitlines()[-1].startswith("not usable: 1 of 13 images")
    (photos / "b" / "link.png").unlink()
    code, stdout, _ = typed("data", "check", photos)
    assert stdout.splitlines()[-1].startswith("not usable: 20 of 44 images could not be read: ")
    assert stdout.endswith(f" leave them out with --skip-broken: `cifarnet train --data {photos} --skip-broken`\n")
    code, stdout, _ = typed("data", "check", photos, "--skip-broken", "--json")
    report = json.loads(stdout)
    assert (code, report["fault"], len(report["broken"]), report["images"]) == (0, None, 20, 24)
    assert report["broken"][0] == {"name": "a/broken00.png", "reason": "no image in a known format"}


def test_copies_near_copies_and_copies_across_a_random_split_are_counted(photos):
    for number in range(9):
        shutil.copy(photos / "a" / "00.png", photos / "a" / f"copy{number}.png")
    shutil.copy(photos / "a" / "00.png", photos / "b" / "other.png")
    Image.open(photos / "b" / "01.png").save(photos / "b" / "near.jpg")
    report = check_folder(photos).report
    (group,) = report.copies
    assert len(group) == 11
    assert report.copies_across_classes == 1
    assert report.near_copies == (("b/01.png", "b/near.jpg"),)
    dataset = load_dataset(photos)
    assert not {image.tobytes() for image in dataset.test.images} & {image.tobytes() for image in dataset.train.images}
    assert 1 <= report.crossing <= 11
    assert report.fault is None


def test_copies_across_given_splits_make_it_unusable(photos, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(photos, tmp_path / "split" / part)
    report = check_folder(tmp_path / "split").report
    assert report.classes["a"] == {"train": 12, "test": 12}
    assert report.crossing == 24
    assert report.fault.startswith("24 test images have the pixels of training images")
    for path in list((tmp_path / "split" / "test").rglob("*.png"))[1:]:
        waves(9 + int(path.stem) / 3).save(path)
    assert check_folder(tmp_path / "split").report.fault.startswith("1 test image has the pixels of training images")


def test_16_bit_images_of_few_levels_and_unbalanced_classes_are_reported(photos):
    levels = np.random.default_rng(0).integers(51_200, 51_420, (40, 40)).astype(np.uint16)
    Image.fromarray(levels).save(photos / "a" / "narrow.png")
    Image.new("RGB", (40, 40), "red").save(photos / "a" / "red.png")
    for number in range(6, 24, 2):
        (photos / "a" / f"{number:02}.png").unlink()
    for number in range(10):
        waves(9 + number / 3).save(photos / "b" / f"more{number}.png")
    report = check_folder(photos).report
    assert (report.flat, report.narrow, report.unequal) == (("a/narrow.png", "a/red.png"), ("a/narrow.png",), True)


def test_a_class_with_too_few_images_or_one_to_train_on_makes_it_unusable(photos, tmp_path, typed):
    for part, names in (("train", ["a/00.png", "b/01.png", "b/03.png"]), ("test", ["a/04.png", "b/05.png"])):
        for name in names:
            path = tmp_path / "split" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / name, path)
    assert "has 1 image(s) to divide" in check_folder(tmp_path / "split").report.fault
    for path in list((photos / "b").iterdir())[2:]:
        path.unlink()
    code, stdout, _ = typed("data", "check", photos)
    assert (code, "not usable: class folder" in stdout, "b has 2 image(s)" in stdout) == (1, True, True)


def test_a_path_without_class_folders_is_a_one_line_error(tmp_path, typed):
    (tmp_path / "one" / "class").mkdir(parents=True)
    expected = {
        "one": "has the class folder class; expected at least 2",
        "nowhere": "is not a folder; expected one with a folder of images per class",
    }
    for place, message in expected.items():
        code, stdout, stderr = typed("data", "check", tmp_path / place)
        assert (code, stdout, stderr.count("\n")) == (1, "", 1)
        assert stderr.startswith(f"error: {tmp_path / place} {message}")


def test_the_contact_sheet_shows_every_class(photos, tmp_path, typed):
    code, _, _ = typed("data", "check", photos, "--contact-sheet", tmp_path / "sheet.png")
    assert code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        pixels = np.asarray(sheet)
    for top in (18, 100):  # the first image of each class
        assert len(np.unique(pixels[top : top + 64, 4:68].reshape(-1, 3), axis=0)) > 10
    assert typed("data", "check", photos, "--contact-sheet", tmp_path / "sheet.png")[0] == 0  # replaces its own
    code, _, stderr = typed("data", "check", photos, "--contact-sheet", tmp_path / "sheet.jpg")
    assert (code, "ends in .png" in stderr) == (1, True)
    code, _, stderr = typed("data", "check", photos, "--contact-sheet", photos / "a" / "sheet.png")
    assert (code, stderr.endswith("expected another folder: name one (--contact-sheet)\n")) == (1, True)


def test_the_contact_sheet_replaces_no_other_file(photos, tmp_path, typed):
    Image.new("RGB", (4, 4)).save(tmp_path / "holiday.png")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    for path in (tmp_path / "holiday.png", tmp_path / "text.png", tmp_path / "link.png"):
        before = path.read_bytes() if path.exists() else None
        code, stdout, stderr = typed("data", "check", photos, "--contact-sheet", path)
        assert (code, stdout) == (1, "")
        assert stderr.startswith(f"error: the contact sheet would replace {path}, which is another file; expected")
        assert (path.read_bytes() if path.exists() else None) == before


def test_the_contact_sheet_has_the_letters_of_its_font_and_escapes_others(monkeypatch):
    split = Split(np.zeros((2, 32, 32, 3), np.uint8), np.arange(2, dtype=np.int32))

    def same(name, other):
        return contact_sheet(split, (name, "b")) == contact_sheet(split, (other, "b"))

    assert not same("кот", r"\u043a\u043e\u0442")
    assert not same("кот", "кит")
    assert same("cafe\u0301", "café")
    assert same("猫", r"\u732b")
    assert same("a\nb", r"a\nb")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as in the base install
    assert same("кот", r"\u043a\u043e\u0442")


def test_the_count_of_a_class_with_a_long_name_is_on_the_sheet():
    twenty, thirty = (
        contact_sheet(Split(np.zeros((count, 32, 32, 3), np.uint8), np.zeros(count, np.int32)), ("w" * 200,))
        for count in (20, 30)
    )
    assert twenty != thirty  # sixteen of the same images on both
