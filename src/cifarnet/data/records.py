"""The canonical form of CIFAR-10: rows of one label byte and 3,072 pixel bytes.

Every source is brought to this form, so that one check proves them all.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import IMAGE_SHAPE, Dataset, Split
from cifarnet.errors import IntegrityError

from .release import RECORD_BYTES, RecordFile, Release

Records = NDArray[np.uint8]
"""uint8 (n, 3073): the label, then 1,024 bytes each of red, green and blue."""

WAY_OUT = "get the archive again, or run `cifarnet data fetch --force`"


def records_from_bytes(data: bytes, file: RecordFile, release: Release) -> Records:
    """View the bytes of a record file as records.

    Raises IntegrityError when the length is not that of the release.
    """
    if len(data) != release.file_bytes:
        raise IntegrityError(f"{file.name} has {len(data)} bytes; expected {release.file_bytes}: {WAY_OUT}")
    return np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)


def records_from_split(split: Split) -> Records:
    """Lay images out as records, exactly as the official files do."""
    planes = split.images.transpose(0, 3, 1, 2).reshape(len(split), -1)
    return records_from_planes(planes, split.labels)


def records_from_planes(planes: NDArray[np.uint8], labels: NDArray[np.int32]) -> Records:
    """Put the labels, int32 (n,), before the planar pixels, uint8 (n, 3072)."""
    return np.column_stack((labels.astype(np.uint8), planes))


def split_from_records(records: Records) -> Split:
    """Return the images, NHWC, and labels of some records."""
    height, width, channels = IMAGE_SHAPE
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))


def check_records(records: Records, file: RecordFile, release: Release) -> None:
    """Prove that records are those of the release, byte for byte.

    Raises IntegrityError that names the file: labels first, because that says more than a hash.
    """
    highest = int(records[:, 0].max(initial=0))
    if highest >= len(release.labels):
        raise IntegrityError(f"{file.name} has the label {highest}; expected 0 to {len(release.labels) - 1}: {WAY_OUT}")
    found = hashlib.sha256(np.ascontiguousarray(records).data).hexdigest()
    if found != file.sha256:
        raise IntegrityError(f"{file.name} was altered: SHA-256 {found[:16]}…; expected {file.sha256[:16]}…: {WAY_OUT}")


def dataset_from_records(records: Mapping[str, Records], release: Release) -> Dataset:
    """Prove every file of the release and join them into a dataset.

    ``records`` maps the file names of the release to their records. Raises IntegrityError.
    """
    for file in release.files:
        check_records(records[file.name], file, release)
    return Dataset(
        name=release.name,
        train=_join(records, release.train),
        test=_join(records, release.test),
        labels=release.labels,
    )


def _join(records: Mapping[str, Records], files: tuple[RecordFile, ...]) -> Split:
    return split_from_records(np.concatenate([records[file.name] for file in files]))
