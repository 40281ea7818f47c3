"""Digests of training images: an image is recognized by its pixels, wherever its file is and whatever its name."""

import hashlib
import io
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import write_atomically
from cifarnet.dataset import NAMED_SOURCES
from cifarnet.errors import CifarnetError, RunError
from cifarnet.run.folder import Run

Digests = NDArray[np.uint64]
"""uint64 (n,): a number for the pixels of each image."""


def digests(images: NDArray[np.uint8]) -> Digests:
    """Return the first eight bytes of the SHA-256 of each of ``images``, uint8 (n, h, w, 3): uint64 (n,)."""
    found = (hashlib.sha256(image.tobytes()).digest()[:8] for image in images)
    return np.array([int.from_bytes(each, "big") for each in found], np.uint64)


def count_seen(images: NDArray[np.uint8], seen: Digests) -> int:
    """Return how many of ``images``, uint8 (n, h, w, 3), have their digest among ``seen``."""
    return int(np.isin(digests(images), seen).sum())


def write_seen(run: Run, seen: Digests) -> None:
    """Write ``seen``, sorted and without duplicates, to the folder of ``run``. Raises ``RunError`` if that fails."""
    buffer = io.BytesIO()
    np.save(buffer, np.unique(seen), allow_pickle=False)
    write_atomically(run.seen, buffer.getvalue())


def seen_by(run: Run) -> Digests | None:
    """Return the digests of all training images of ``run`` and of the runs that it started from, or None if unknown.

    A run of an earlier version has no such file. They are computed if it started from scratch and its images are still
    where they were. Raises ``RunError`` for a damaged file.
    """
    try:
        return _parsed(run.seen.read_bytes())
    except FileNotFoundError:
        return _seen_where_it_was(run)
    except Exception as error:  # numpy raises nearly anything for a damaged file
        raise RunError(f"{run.seen} is damaged ({error}); expected what the run began with: restore it") from error


def _parsed(content: bytes) -> Digests:
    found = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if found.ndim != 1 or found.dtype != np.uint64:
        raise ValueError(f"it holds {found.dtype} {found.shape}, not uint64 (n,)")
    return found


def _seen_where_it_was(run: Run) -> Digests | None:
    record = run.record
    origin = record.origin
    if origin.source is None or origin.source in NAMED_SOURCES or record.warm_start is not None:
        return None  # nothing is downloaded for this
    with suppress(CifarnetError):
        dataset = origin.load_dataset()
        if dataset.fingerprint == origin.fingerprint:
            return digests(dataset.train.images)
    return None
