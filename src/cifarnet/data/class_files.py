"""Find class folders, their image files, and the files and links that are not read."""

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cifarnet.contract import fault_of_labels
from cifarnet.errors import DataError, listed, shell_word
from cifarnet.preprocessing import EXTENSIONS, is_hidden

VALIDATION_NAMES = ("val", "valid", "validation")
"""Names of a folder beside ``train`` and ``test`` with the validation images."""
_PART_WORDS = frozenset(("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"))
"""Words in names of dataset splits, such as ``Train`` and ``test_set``. A folder of such a name that holds only folders
is not a class."""
_WORD = re.compile("[a-z]+")


@dataclass(frozen=True, kw_only=True)
class ClassFiles:
    """The files of a class folder, at any depth. Hidden ones are left out."""

    folder: Path
    images: tuple[Path, ...] = ()
    """Image files, in the same order on every system."""
    broken_links: tuple[Path, ...] = ()
    """Broken links with an image extension."""
    others: tuple[Path, ...] = ()
    """Files without an image extension."""
    linked_folders: tuple[Path, ...] = ()
    """Links to folders, which are not followed."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The classes of a folder and the files of each, in each of its splits."""

    labels: tuple[str, ...]
    parts: tuple[str, ...]
    """``train``, the validation folder if there is one, and ``test``; or "" for a folder without splits."""
    files: tuple[ClassFiles, ...]
    """Files of each class in the first part, then in the next."""
    unlabeled: tuple[Path, ...] = ()
    """Images beside the class folders, which have no class and are not read."""

    @property
    def is_split(self) -> bool:
        """Whether there are ``train`` and ``test``."""
        return len(self.parts) > 1


def find_layout(path: Path, *, use_validation_folder: bool = True) -> Layout:
    """Return the classes and files of a folder, or of ``train`` and ``test`` in it. Raises ``DataError``."""
    if not ((path / "train").is_dir() and (path / "test").is_dir()):
        labels = class_names(path)
        files = tuple(find_class_files(path / label) for label in labels)
        return Layout(labels=labels, parts=("",), files=files, unlabeled=unlabeled_images(path))
    labels = class_names(path / "train")
    validation = validation_folder(path) if use_validation_folder else None
    parts = ("train", *([validation] if validation else []), "test")
    folders = [folder for part in parts for folder in _part_folders(path, part, labels)]
    unlabeled = unlabeled_images(path, *(path / part for part in parts))
    return Layout(labels=labels, parts=parts, files=tuple(map(find_class_files, folders)), unlabeled=unlabeled)


def unlabeled_images(*folders: Path) -> tuple[Path, ...]:
    """Return the image files directly in ``folders``, sorted by name in each."""
    return tuple(path for folder in folders for path in sorted(folder.iterdir()) if _is_image(path) and path.is_file())


def find_class_files(folder: Path) -> ClassFiles:
    """Return the files of a class folder. Raises ``OSError`` for a folder that cannot be listed."""
    walked = list(os.walk(folder, onerror=_refuse))
    files = [Path(place) / name for place, _, names in walked for name in names]
    shown = sorted(
        (file for file in files if not any(map(is_hidden, file.relative_to(folder).parts))),
        key=lambda file: file.relative_to(folder).parts,
    )
    named = [file for file in shown if _is_image(file)]
    links = (Path(place) / name for place, names, _ in walked for name in names)
    return ClassFiles(
        folder=folder,
        images=tuple(file for file in named if file.is_file()),
        broken_links=tuple(file for file in named if not file.exists()),
        others=tuple(file for file in shown if not _is_image(file)),
        linked_folders=tuple(link for link in links if link.is_symlink()),
    )


def require_images(files: ClassFiles, least: int) -> None:
    """Raise ``DataError`` for a class with fewer than ``least`` images."""
    if len(files.images) < least:
        links = len(files.linked_folders)
        linked = f" and {links} linked folder(s), which are not followed" if links else ""
        raise DataError(
            f"class folder {files.folder} has {len(files.images)} image(s) and {len(files.others)} other file(s)"
            f"{linked}; expected at least {least} ({' '.join(EXTENSIONS)}): add images or remove the folder"
        )


def require_no_broken_links(files: ClassFiles) -> None:
    """Raise ``DataError`` for a class with broken links."""
    if broken := files.broken_links:
        links = "is a broken link" if len(broken) == 1 else "are broken links"
        raise DataError(
            f"{len(broken)} of {len(files.images) + len(broken)} images in {files.folder} {links}: "
            f"{listed(map(str, broken))}; expected their files: fetch those, remove the links or leave them out with "
            "--skip-broken"
        )


def class_names(path: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders in ``path``. Raises ``DataError`` if they cannot be classes."""
    names = folder_names(path)
    if len(names) < 2:
        folders = f"the class folder {names[0]}" if names else "no class folder"
        raise DataError(
            f"{path} has {folders}; expected at least 2: put the images of each class in a folder of its own"
        )
    if parts := _part_names(path, names):
        raise DataError(
            f"{path} has {', '.join(parts)} as class folders, which hold only folders; expected classes: name the "
            f"splits train and test, and have both, or pass one of them, {path / parts[0]}"
        )
    if fault := fault_of_labels(names):  # now, before any image is decoded
        raise DataError(f"{path} has {fault}")
    return names


def folder_names(path: Path) -> tuple[str, ...]:
    """Return the sorted names of the folders in ``path``, except hidden ones."""
    return tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry.name)))


def composed(name: str) -> str:
    """Return a name in the Unicode form NFC: systems write the same é as one character or as two."""
    return unicodedata.normalize("NFC", name)


def validation_folder(path: Path) -> str | None:
    """Return the name of the folder with validation images beside ``train`` and ``test``, or None."""
    found = [name for name in VALIDATION_NAMES if (path / name).is_dir() and folder_names(path / name)]
    return found[0] if len(found) == 1 else None


def _part_folders(path: Path, part: str, labels: Sequence[str]) -> list[Path]:
    """Return the folder of each class in the split ``part``. Raises ``DataError`` for other classes."""
    names = {composed(name): name for name in _names_in_part(path, part)}
    wanted = [composed(label) for label in labels]
    if different := sorted(set(wanted) ^ set(names)):
        places = [f"{name} (only in {part if name in names else 'train'})" for name in different]
        raise DataError(f"{path} has class folders in only one split: {', '.join(places)}: add or remove them")
    return [path / part / names[name] for name in wanted]


def _names_in_part(path: Path, part: str) -> tuple[str, ...]:
    folder = path / part
    if not folder_names(folder) and any(map(_is_image, folder.iterdir())):
        raise DataError(
            f"{folder} has images and no class folder; expected those of {path / 'train'}: train with `--data "
            f"{shell_word(str(path / 'train'))}`, and classify the others with `cifarnet predict "
            f"{shell_word(str(folder))}`"
        )
    return class_names(folder)


def _part_names(path: Path, names: Sequence[str]) -> list[str]:
    """Return the folders that are splits and not classes: one named like a split, or several with such a word."""
    words = {name: {word.removesuffix("set") for word in _WORD.findall(name.lower())} for name in names}
    found = [name for name in names if words[name] & _PART_WORDS and _holds_only_folders(path / name)]
    return found if len(found) > 1 or any(words[name] - {""} <= _PART_WORDS for name in found) else []


def _holds_only_folders(path: Path) -> bool:
    """Return whether there are folders in ``path`` and no images: a list of labels may lie beside them."""
    entries = [entry for entry in path.iterdir() if not is_hidden(entry.name)]
    return any(entry.is_dir() for entry in entries) and not any(_is_image(Path(entry.name)) for entry in entries)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not is_hidden(path.name)


def _refuse(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, which os.walk would ignore."""
    raise error
