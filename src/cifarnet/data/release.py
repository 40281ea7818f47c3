"""What CIFAR-10 is: its files, the hash of each, its classes."""

from dataclasses import dataclass

from cifarnet.contract import CIFAR10_LABELS, IMAGE_SHAPE

PIXEL_BYTES = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] * IMAGE_SHAPE[2]
"""Bytes of one image."""

RECORD_BYTES = 1 + PIXEL_BYTES
"""One label byte, then the red, green and blue planes row by row."""


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """One binary file of records, with the SHA-256 (hex) that it must have."""

    name: str
    sha256: str

    @property
    def stem(self) -> str:
        """The name without ``.bin``, which the Python layout and the mirror use."""
        return self.name.removesuffix(".bin")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published set of record files; tests build tiny ones."""

    name: str
    train: tuple[RecordFile, ...]
    test: tuple[RecordFile, ...]
    images_per_file: int
    labels: tuple[str, ...]

    @property
    def files(self) -> tuple[RecordFile, ...]:
        """All files, training first, in the order of their images."""
        return self.train + self.test

    @property
    def file_bytes(self) -> int:
        """Bytes of each record file."""
        return self.images_per_file * RECORD_BYTES


CIFAR10 = Release(
    name="cifar10",
    train=(
        RecordFile(name="data_batch_1.bin", sha256="cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        RecordFile(name="data_batch_2.bin", sha256="a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        RecordFile(name="data_batch_3.bin", sha256="bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        RecordFile(name="data_batch_4.bin", sha256="014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        RecordFile(name="data_batch_5.bin", sha256="755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ),
    test=(
        RecordFile(name="test_batch.bin", sha256="8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    ),
    images_per_file=10_000,
    labels=CIFAR10_LABELS,
)
"""The release of https://www.cs.toronto.edu/~kriz/cifar.html; the SHA-256 were computed for this project."""
