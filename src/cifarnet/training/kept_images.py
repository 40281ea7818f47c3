"""Test images kept in the run folder, so that the run can be exported without its dataset."""

import hashlib
import io

import numpy as np

from cifarnet.atomic import write_atomically
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import RunError, UsageError
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord

FILE = "test-images.npz"
"""Name of the file in a run folder."""
MOST_BYTES = 64_000_000
"""Maximum size of the images, twice that of the CIFAR-10 test images."""


def require_keepable(dataset: Dataset) -> None:
    """Raise ``UsageError`` if the test images of ``dataset`` take more than ``MOST_BYTES``."""
    if (size_bytes := dataset.test.images.nbytes) > MOST_BYTES:
        raise UsageError(
            f"the test images take {size_bytes / 1e6:,.0f} MB; expected at most {MOST_BYTES / 1e6:,.0f} MB to keep: "
            "leave it out (--keep-test-images, in Python keep_test_images=)"
        )


def digest_of(split: Split) -> str:
    """Return the SHA-256 (hex) of the shape, labels and pixels of ``split``."""
    digest = hashlib.sha256()
    split.add_to(digest)
    return digest.hexdigest()


def write_test_images(run: Run, dataset: Dataset) -> None:
    """Write the test images of ``dataset`` to the folder of ``run``. Raises ``RunError`` if that fails."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, images=dataset.test.images, labels=dataset.test.labels)
    write_atomically(run.path / FILE, buffer.getvalue())


def kept_test_images(run: Run) -> Dataset | None:
    """Return a dataset of the test images in the folder of ``run``, without training images, or None if none were kept.

    Raises ``RunError`` if they are not those that the run began with.
    """
    data, path = run.record.data, run.path / FILE
    if data.test_digest is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            split = Split(found["images"], found["labels"])
        if digest_of(split) != data.test_digest:
            raise ValueError("it has other images")  # noqa: TRY301  # damage of one kind among others
    except Exception as error:  # numpy raises nearly anything for a damaged file
        raise RunError(
            f"{path} is damaged ({error}); expected the test images that the run began with: restore it, or name the "
            "images with --data"
        ) from error
    return Dataset(data.name, Split(split.images[:0], split.labels[:0]), split, data.labels)


def is_kept(record: RunRecord, dataset: Dataset) -> bool:
    """Return whether ``dataset`` has only the test images that were kept in the folder of the run with ``record``."""
    return not len(dataset.train) and record.data.test_digest == digest_of(dataset.test)
