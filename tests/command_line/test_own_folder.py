"""Notes of `train` on an image folder, skipped files, validation folders, and folders that changed or moved."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cifarnet.recipes import RECIPES
from cifarnet.run.folder import Run
from tests.photos import make_noise
from tests.records import document

from .conftest import fails_after_messages

SHORT = ("--recipe", "seed", "--epochs", "1", "--batch-size", "8", "--validation-fraction", "0.3")
NO_TIME = ("--max-minutes", "0", *SHORT)


@pytest.fixture(autouse=True)
def small_recipe(monkeypatch):
    """Let the recipe `seed` train a small network."""
    monkeypatch.setitem(RECIPES, "seed", RECIPES["seed"].changed({"filters": (4,), "dense_units": (8,)}))


@pytest.fixture
def photos(tmp_path):
    """Two classes of fifteen images of noise, all different."""
    return make_noise(tmp_path / "photos")


@pytest.fixture
def latest(tmp_path):
    return Run(tmp_path / "runs" / "latest")


def notes(run, *arguments):
    code, _, lines = run("train", *arguments)
    assert code == 0, lines
    return [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


# Broken files


def test_skip_broken_trains_without_broken_files_and_lists_them(run, photos, latest, tmp_path):
    for index in range(7):
        (photos / "cat" / f"broken{index}.png").write_text("no image")
    (photos / "dog" / "link.png").symlink_to("nowhere")
    message = fails_after_messages(run, "train", "--data", "photos")
    assert "--skip-broken" in message
    (photos / "dog" / "link.png").unlink()
    message = fails_after_messages(run, "train", "--data", "photos")
    assert "7 of 37 images could not be read" in message
    assert message.endswith("with --skip-broken; `cifarnet data check photos` lists all")
    assert not (tmp_path / "runs").exists()
    (photos / "dog" / "link.png").symlink_to("nowhere")
    (photos / "dog" / 'two\nlines, "quoted".png').write_text("no image")
    messages = notes(run, "--data", "photos", "--skip-broken", *SHORT)
    (note,) = (note for note in messages if note.startswith("9 files that cannot be read are left out: see "))
    assert note.endswith("/broken.csv")
    assert document(latest)["data"]["skipped"] == 9
    with (latest.path / "broken.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["file", "reason"]
    assert sorted(rows)[0] == ["cat/broken0.png", "no image in a known format"]
    assert ["dog/link.png", "a link that leads nowhere"] in rows
    assert len(rows) == 9
    for command in (("export",), ("evaluate",)):  # which read the folder again
        code, _, lines = run(*command)
        assert code == 0, lines


def test_evaluate_skips_broken_files_on_request(run, photos, tmp_path):
    assert run("train", "--data", "photos", *SHORT)[0] == 0
    make_noise(tmp_path / "others", seed=1, count=1)
    (tmp_path / "others" / "dog" / "1.png").write_text("no image")
    assert "1 of 3 images could not be read" in fails_after_messages(run, "evaluate", "--images", "others")
    code, stdout, lines = run("evaluate", "--images", "others", "--skip-broken")
    assert code == 0, lines
    assert "2 images of 2 classes" in stdout
    assert any(line.startswith("note: 1 file that cannot be read is left out: dog/1.png (") for line in lines)


def test_a_folder_of_classes_in_another_unicode_form_is_evaluated(run, photos, tmp_path):
    (photos / "cat").rename(photos / "caf\u00e9")
    assert run("train", "--data", "photos", *SHORT)[0] == 0
    make_noise(tmp_path / "others", seed=1, count=5, labels=("cafe\u0301", "dog"))
    for option in ("--data", "--images"):
        code, _, lines = run("evaluate", option, "others")
        assert code == 0, lines


# Notes


def test_files_that_are_not_read_are_counted_by_extension(run, photos):
    for name in ("cat/1.psd", "cat/2.psd", "dog/notes.txt", "dog/README"):
        (photos / name).touch()
    (photos / "dog" / "more").symlink_to(photos / "cat")
    messages = notes(run, "--data", "photos", *NO_TIME)
    assert "4 files are not read, by extension: 2 .psd, 1 without extension, 1 .txt" in messages
    assert "1 link to a folder inside the class folders is not followed" in messages


def test_copies_images_of_one_color_and_unbalanced_classes_are_noted(run, photos):
    for number in range(40):
        shutil.copy(photos / "cat" / "0.png", photos / "cat" / f"copy{number}.png")
    few_levels = np.random.default_rng(0).integers(51_200, 51_420, (40, 40)).astype(np.uint16)
    Image.fromarray(few_levels).save(photos / "dog" / "few.png")
    messages = notes(run, "--data", "photos", *NO_TIME)
    assert any(
        note.startswith("40 of the 71 images are copies of others (the same pixels), and all") for note in messages
    )
    assert any(note.startswith("1 image has nearly one color (a 16-bit file may use few of") for note in messages)
    unequal = "cat has 55 images, dog 16: the accuracy says little about small classes"
    assert f"{unequal}; --class-weights balanced gives them more weight" in messages
    assert unequal in notes(run, "--data", "photos", "--class-weights", "balanced", *NO_TIME)


def test_recall_and_balanced_accuracy_are_printed_for_unbalanced_classes(run, photos, latest):
    for path in sorted((photos / "dog").iterdir())[4:]:
        path.unlink()
    code, _, lines = run("train", "--data", "photos", "--class-weights", "balanced", *SHORT)
    assert code == 0, lines
    test = document(latest)["metrics"]["test"]
    _, stdout, _ = run("evaluate", "--json")
    assert test["recall"] == [each["recall"] for each in json.loads(stdout)["evaluation"]["classes"]]
    assert test["balanced_accuracy"] == np.mean(test["recall"])
    assert not any("--class-weights" in line for line in lines)  # which was given
    (message,) = (line for line in lines if line.startswith("Classes differ in size: balanced accuracy "))
    assert f"{100 * test['balanced_accuracy']:.2f}%; recall " in message
    assert f"cat {100 * test['recall'][0]:.1f}%" in message
    assert document(latest)["train"]["class_weights"] == "balanced"


def test_for_balanced_classes_neither_recall_nor_a_note_is_printed(run, photos, latest):
    code, _, lines = run("train", "--data", "photos", *SHORT)
    assert code == 0
    assert "recall" not in document(latest)["metrics"]["test"]
    assert not any("balanced accuracy" in line for line in lines)
    assert [line for line in lines if line.startswith("note: ") and "validation images" not in line] == []


# Validation folder


@pytest.fixture
def split(photos, tmp_path):
    """The images in `train`, `val` and `test`, five of each class in each."""
    for part, rows in (("train", range(5)), ("val", range(5, 10)), ("test", range(10, 15))):
        for label in ("cat", "dog"):
            (tmp_path / "split" / part / label).mkdir(parents=True)
            for row in rows:
                shutil.copy(photos / label / f"{row}.png", tmp_path / "split" / part / label)
    return tmp_path / "split"


def test_the_folder_val_is_the_validation_split(run, split, latest):
    (split / "val").rename(split / "valid")
    assert "the 10 images in valid/ are the validation split: none are held out" in notes(
        run, "--data", "split", *SHORT
    )
    record = document(latest)
    assert (record["hold_out"]["train"], record["hold_out"]["validation"]) == (10, 10)
    assert (record["data"]["validation_images"], record["data"]["train_images"]) == (10, 20)
    code, _, lines = run("export")
    assert code == 0, lines
    shutil.rmtree(split / "valid")
    assert "10 removed: " in fails_after_messages(run, "export")


def test_a_run_that_drew_its_validation_split_ignores_a_folder_val(run, split, latest):
    (split / "val").rename(split / "other")
    assert run("train", "--data", "split", *SHORT)[0] == 0
    assert "validation_images" not in document(latest)["data"]
    (split / "other").rename(split / "val")
    code, _, lines = run("export")
    assert code == 0, lines


def test_the_error_for_test_images_without_class_folders_says_what_to_do(run, split):
    for path in list((split / "test").rglob("*.png")):
        path.rename(split / "test" / f"{path.parent.name}{path.name}")
    for label in ("cat", "dog"):
        (split / "test" / label).rmdir()
    message = fails_after_messages(run, "train", "--data", "split")
    assert "split/test has images and no class folder" in message
    assert "train with `--data split/train`, and classify the others with `cifarnet predict split/test`" in message


# Changed and moved folders


def test_the_error_lists_files_that_were_added_removed_or_changed(run, photos):
    assert run("train", "--data", "photos", *NO_TIME)[0] == 0
    shutil.copy(photos / "cat" / "0.png", photos / "dog" / "new.png")
    for index in (1, 2, 3, 4):
        (photos / "cat" / f"{index}.png").unlink()
    Image.new("RGB", (32, 32), "red").save(photos / "dog" / "0.png")
    expected = "(since then 1 added: dog/new.png; 4 removed: cat/1.png, cat/2.png, cat/3.png, …; 1 changed: dog/0.png)"
    assert expected in fails_after_messages(run, "train", "--resume", "latest")


def test_files_that_were_left_out_are_told_from_new_ones_and_broken_ones_from_removed_ones(run, photos, latest):
    for index in range(4):
        (photos / "cat" / f"broken{index}.png").write_text("no image")
    assert run("train", "--data", "photos", "--skip-broken", *NO_TIME)[0] == 0
    (photos / "cat" / "broken0.png").unlink()
    (photos / "cat" / "1.png").rename(photos / "cat" / "broken1.png")
    (photos / "cat" / "2.png").rename(photos / "cat" / "broken2.png")
    shutil.copy(photos / "dog" / "0.png", photos / "dog" / "new.png")
    (photos / "dog" / "0.png").write_text("no image")
    expected = (
        f"(since then 1 added: dog/new.png; 2 readable now and left out then (see {Run(latest.path.resolve())}/"
        "broken.csv): cat/broken1.png, cat/broken2.png; 2 removed: cat/1.png, cat/2.png; 1 no longer readable: "
        "dog/0.png)"
    )
    assert expected in fails_after_messages(run, "train", "--resume", "latest")
    assert run("train", "--data", "photos", "--skip-broken", *SHORT)[0] == 0  # another run, of these images
    Image.new("RGB", (32, 32), "red").save(photos / "cat" / "broken3.png")
    expected = f"(since then 1 readable now and left out then (see {Run(latest.path.resolve())}/broken.csv): cat/broken"
    for command in ("export", "evaluate", "report"):
        assert expected in fails_after_messages(run, command)


def test_a_run_that_keeps_its_test_images_is_exported_without_the_folder(run, photos, latest):
    assert run("train", "--data", "photos", "--keep-test-images", *SHORT)[0] == 0
    assert run("export")[0] == 0
    before = latest.model.read_bytes()
    shutil.rmtree(photos)
    code, _, lines = run("export")
    assert code == 0, lines
    assert latest.model.read_bytes() == before
    code, _, lines = run("export", "--fp16")
    assert code == 0, lines
    for option in (["--int8"], ["--tta", "2"]):  # which need training or validation images
        assert "expected --data with its location" in fails_after_messages(run, "export", *option)
    kept = latest.path / "test-images.npz"
    with np.load(kept) as found:
        images, labels = found["images"], found["labels"]
    np.savez(kept, images=images + 1, labels=labels)
    assert "test-images.npz is damaged (it has other images)" in fails_after_messages(run, "export")


def test_test_images_that_take_too_much_space_are_not_kept(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("cifarnet.training.kept_images.MOST_BYTES", 1000)
    message = fails_after_messages(run, "train", "--data", "photos", "--keep-test-images")
    assert "expected at most 0 MB to keep: leave it out (--keep-test-images, in Python" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--skip-broken", "--keep-test-images"])
def test_options_for_the_beginning_of_a_run_are_refused_on_resume(run, option):
    assert f"{option} and --resume were both given" in fails_after_messages(run, "train", "--resume", "latest", option)
