"""Notes on a dataset before training, and the result after it."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from cifarnet.config import ClassWeights, TrainConfig
from cifarnet.dataset import IMAGE_SIZE, NAMED_SOURCES
from cifarnet.errors import RunError, counted, listed, shell_word
from cifarnet.interrupt import INTERRUPTED
from cifarnet.recipes import LEAST_BATCH, Recipe, is_recipe_file, recipe_and_settings
from cifarnet.run.folder import Run
from cifarnet.run.record import STOP_REASONS, RecordedScore, RunRecord

from .display import percent, say, shortened

if TYPE_CHECKING:
    from cifarnet.data import HoldOut
    from cifarnet.dataset import Dataset

MOST_NAMES = 12
"""Maximum class names in a line."""
FEW_TO_CALIBRATE = 30
"""Validation images below which the temperature fitted on them says little about others; chosen manually."""


def say_dataset(dataset: "Dataset", parts: "HoldOut", wanted: Recipe, adapted: Recipe) -> None:
    """Print sizes and classes of ``dataset``, and notes on anything unusual and on adapted settings."""
    names = listed(map(shortened, dataset.labels), MOST_NAMES)
    sizes = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    contents = f"{sizes} of {len(dataset.labels)} classes: {names}"
    for line in wrap(contents, shutil.get_terminal_size().columns, subsequent_indent="  "):
        say(line)
    notes = (*_changes(wanted, adapted, len(parts.train)), *_warnings(dataset, parts, wanted.train, adapted.train))
    for note in notes:
        say(note)


def recipe_label(name: str) -> str:
    """Return the name of a recipe, or a recipe file with what it changes."""
    if not is_recipe_file(name):
        return name
    named, changes = recipe_and_settings(name)
    changed = ", ".join(f"{setting.replace('_', ' ')} {value}" for setting, value in changes.items())
    return f"{name} ({named.name}{' with ' * bool(changed)}{changed})"


def say_begun(run: Run, dataset: "Dataset") -> None:
    """Print notes on images that were left out, and on validation images that are copies of training images."""
    from cifarnet.training.same_data import BROKEN  # numpy, which --help does not need

    say_left_out(dataset, f"{run}/{BROKEN}")
    if copies := run.record.hold_out.copies:
        images = counted(copies, "validation image has", "validation images have")
        say(f"note: {images} the pixels of training images: the validation loss will be too low")


def say_left_out(dataset: "Dataset", place: str = "") -> None:
    """Print how many images were left out because they cannot be read or have no class.

    ``place`` lists those that cannot be read; by default the first is named.
    """
    if unlabeled := dataset.reading.unlabeled:
        images = counted(unlabeled, "image beside the class folders has", "images beside the class folders have")
        say(f"note: {images} no class and {'is' if unlabeled == 1 else 'are'} left out")
    if broken := dataset.reading.broken:
        files = counted(len(broken), "file that cannot be read is", "files that cannot be read are")
        first = listed((f"{each.name} ({each.reason})" for each in broken), 1)
        say(f"note: {files} left out: {f'see {place}' if place else first}")


def _changes(wanted: Recipe, adapted: Recipe, images: int) -> Iterator[str]:
    was, now = ({"filters": each.model.filters} | each.train.to_json() for each in (wanted, adapted))
    changed = [name for name in now if now[name] != was[name]]
    if changed:
        height, width = adapted.model.image_shape[:2]
        size = "" if height == IMAGE_SIZE else f" of {width}x{height} pixels"
        why = f"{adapted.train.epochs} epochs" if set(changed) == {"patience"} else f"{images:,} images{size}"
        settings = (f"{name.replace('_', ' ')} {was[name]} -> {now[name]}" for name in changed)
        yield f"note: for {why}: {', '.join(settings)}"


def _warnings(dataset: "Dataset", parts: "HoldOut", wanted: TrainConfig, train: TrainConfig) -> Iterator[str]:
    yield from _reading(dataset)
    yield from _images(dataset, train.class_weights)
    most = max(len(parts.train), 0 if train.batch_size == wanted.batch_size else LEAST_BATCH)
    if train.batch_size > most:  # an adapted one is not lowered further
        yield f"note: batch size {train.batch_size:,} is larger than the training split of {len(parts.train):,} images"
    held_out = Counter(dataset.train.labels[parts.validation].tolist())
    alone = [dataset.labels[label] for label, count in sorted(held_out.items()) if count == 1]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        yield f"note: {shortened(alone[0])}{more} with a single validation image: the validation loss will be noisy"
    if len(parts.validation) < FEW_TO_CALIBRATE:
        yield f"note: {len(parts.validation)} validation images: confidences and their threshold will be unreliable"


def _reading(dataset: "Dataset") -> Iterator[str]:
    found = dataset.reading
    if dataset.validation_images:
        folder = Path(dataset.train.files[-1]).parts[0]
        yield f"note: the {dataset.validation_images:,} images in {folder}/ are the validation split: none are held out"
    yield from _unused_folders(dataset)
    if found.others:
        yield note_on_unread(found.others)
    if found.linked_folders:
        place = "inside the class folders"
        links = counted(found.linked_folders, f"link to a folder {place} is", f"links to folders {place} are")
        yield f"note: {links} not followed"


def note_on_unread(counts: Mapping[str, int]) -> str:
    """Return the note on files that are not read because of their extension."""
    files = counted(sum(counts.values()), "file is", "files are")
    return f"note: {files} not read, by extension: {by_extension(counts)}"


def by_extension(counts: Mapping[str, int]) -> str:
    """Return the number of files of each extension, the most frequent first, and how to read HEIC if there is any."""
    from cifarnet.backends import install_line
    from cifarnet.preprocessing import HEIC_EXTENSIONS  # Pillow, which --help does not need

    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count:,} {extension or 'without extension'}" for extension, count in ordered)
    return f"{listed} (for HEIC: {install_line('heic')})" if counts.keys() & set(HEIC_EXTENSIONS) else listed


def _images(dataset: "Dataset", class_weights: ClassWeights) -> Iterator[str]:
    from cifarnet.data.image_facts import are_flat, class_sizes, is_unequal  # numpy, which --help does not need

    if copies := dataset.reading.copies:
        total = len(dataset.train) + len(dataset.test)
        side = ", and all copies of an image are on one side of the test split" if dataset.split_by == "content" else ""
        them = "is a copy of another" if copies == 1 else "are copies of others"
        yield f"note: {copies:,} of the {total:,} images {them} (the same pixels){side}"
    if dataset.train.files and (
        flat := int(are_flat(dataset.train.images).sum() + are_flat(dataset.test.images).sum())
    ):
        yield (
            f"note: {counted(flat, 'image has', 'images have')} nearly one color (a 16-bit file may use few of its "
            "levels): `cifarnet data check` names them"
        )
    counts = dict(zip(dataset.labels, class_sizes(dataset), strict=True))
    small, large = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if is_unequal(list(counts.values())):
        advice = "; --class-weights balanced gives them more weight" if class_weights == "none" else ""
        yield (
            f"note: {shortened(large)} has {counts[large]:,} images, {shortened(small)} {counts[small]:,}: "
            f"the accuracy says little about small classes{advice}"
        )


def _unused_folders(dataset: "Dataset") -> Iterator[str]:
    from cifarnet.preprocessing import is_hidden  # Pillow, which other sources do not need

    folder = Path(dataset.source or "")
    if dataset.source in (None, *NAMED_SOURCES) or not (folder / "train").is_dir() or not (folder / "test").is_dir():
        return
    validation = {Path(name).parts[0] for name in dataset.train.files[-1:]} - {"train"}
    used = ("train", *validation, "test")
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not is_hidden(each.name) and each.name not in used:
            yield f"note: {each.name}/ is not used: images are read from {', '.join(f'{name}/' for name in used)}"


def draw_curves(run: Run, record: RunRecord) -> None:
    """Draw the curves of the training, if an epoch has finished, in the run folder."""
    history = run.read_history()
    if history:
        from cifarnet import report

        report.draw_curves(history, record.best_epoch, run.path / "curves.png", record.custom.loss_title)


def say_result(run: Run, record: RunRecord) -> None:
    """Print why the training stopped, its accuracies, and the next command."""
    say("")
    say(f"Stopped after epoch {record.epochs}: {STOP_REASONS[record.why_stopped or 'interrupted']}.")
    validation, test = record.metrics.validation, record.metrics.test
    if validation and test:
        say(
            f"Best epoch {record.best_epoch} (by validation loss): "
            f"validation accuracy {100 * validation.accuracy:.2f}%, test accuracy {100 * test.accuracy:.2f}%."
        )
        _say_recall(test, record.data.labels)
    elif record.epochs or record.why_stopped == "nan":
        say("No epoch has finished with a finite loss, so there are no best weights.")
    else:
        say("No epoch has finished yet, so there are no best weights.")
    say(f"Results are in {run}")
    if run.model.is_file():
        say(f"note: {run.model.name} and any report are of earlier weights: make them again if the best epoch changed")
    name = shell_word(str(run))
    if record.status == "interrupted":
        say(f"Resume with:  cifarnet train --resume {name}")
    elif record.best_epoch:
        say(f"Next:         cifarnet export {name} --onnx")


def _say_recall(test: RecordedScore, labels: Sequence[str]) -> None:
    if test.balanced_accuracy is None or test.recall is None:
        return
    known = [
        (recall, shortened(label)) for label, recall in zip(labels, test.recall, strict=True) if recall is not None
    ]
    lowest = listed((f"{label} {percent(recall)}" for recall, label in sorted(known)), MOST_NAMES)
    say(f"Classes differ in size: balanced accuracy {percent(test.balanced_accuracy, 2)}; recall {lowest}.")


def exit_code(record: RunRecord) -> int:
    """Return the exit code of the command. Raises ``RunError`` if no epoch had a finite loss."""
    if record.why_stopped == "interrupted":
        return INTERRUPTED
    if not record.best_epoch and record.status == "finished":
        raise RunError("training ended without an epoch of finite loss; expected one: lower --learning-rate")
    return 0
