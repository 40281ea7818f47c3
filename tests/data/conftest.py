"""Tiny releases, archives and a local server: everything real, nothing larger than it must be."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.data.cifar10 import HttpArchive, RecordFile, Release
from cifarnet.dataset import CIFAR10_LABELS

IMAGES_PER_FILE = 20


@dataclass(frozen=True)
class Tiny:
    """A release of three files of twenty images, with the bytes of each file."""

    release: Release
    files: dict[str, bytes]

    def images(self, name: str) -> np.ndarray:
        """The images of one file, uint8 (20, 32, 32, 3)."""
        rows = np.frombuffer(self.files[name], np.uint8).reshape(IMAGES_PER_FILE, -1)
        return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def labels(self, name: str) -> list[int]:
        return np.frombuffer(self.files[name], np.uint8).reshape(IMAGES_PER_FILE, -1)[:, 0].tolist()


@pytest.fixture
def tiny() -> Tiny:
    rng = np.random.Generator(np.random.PCG64(7))
    files = {}
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        rows = rng.integers(0, 256, (IMAGES_PER_FILE, 3073), np.uint8)
        rows[:, 0] = np.arange(IMAGES_PER_FILE) % 10
        files[name] = rows.tobytes()
    records = tuple(RecordFile(name=name, sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items())
    release = Release(
        name="tiny", train=records[:2], test=records[2:], images_per_file=IMAGES_PER_FILE, labels=CIFAR10_LABELS
    )
    return Tiny(release, files)


def tar_bytes(members: Mapping[str, bytes]) -> bytes:
    """A .tar.gz with these members, in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def make_tar() -> Callable[[Mapping[str, bytes]], bytes]:
    return tar_bytes


@pytest.fixture
def official(tiny: Tiny) -> bytes:
    """The tiny release as the official binary archive lays it out."""
    return tar_bytes({f"cifar-10-batches-bin/{name}": data for name, data in tiny.files.items()})


def python_batch(
    pixels: bytes,
    labels: list[int],
    *,
    shape: tuple[int, int] | None = None,
    dtype: bytes = b"u1",
    is_fortran: bool = False,
) -> bytes:
    """A batch as Python 2 pickled it, opcode by opcode: the same three globals as in the official files."""
    rows, columns = shape or (len(labels), 3072)
    text = [b"T" + struct.pack("<i", len(value)) + value for value in (b"b", dtype, b"|", pixels, b"data", b"labels")]
    kind, name, order, content, data_key, labels_key = text
    dtype_object = (
        b"cnumpy\ndtype\n"
        + name
        + b"K\x00K\x01\x87R"
        + b"(K\x03"
        + order
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + kind + b"\x87R"
        b"(K\x01" + struct.pack("<ci", b"J", rows) + struct.pack("<ci", b"J", columns) + b"\x86"
    ) + (dtype_object + (b"\x88" if is_fortran else b"\x89") + content + b"tb")
    numbers = b"](" + b"".join(struct.pack("<ci", b"J", label) for label in labels) + b"e"
    return b"\x80\x02}" + b"(" + data_key + array + labels_key + numbers + b"u."


@pytest.fixture
def make_python_batch() -> Callable[..., bytes]:
    return python_batch


@pytest.fixture
def python_files(tiny: Tiny) -> dict[str, bytes]:
    """The tiny release as the Python version, by file name."""
    return {
        name.removesuffix(".bin"): python_batch(
            tiny.images(name).transpose(0, 3, 1, 2).tobytes(),
            tiny.labels(name),
        )
        for name in tiny.files
    }


@dataclass
class Server:
    """Answers on 127.0.0.1 with the bytes in `body`, in the way that its switches say."""

    address: str = ""
    body: bytes = b""
    knows_ranges: bool = True
    announces_length: bool = True
    status: int = 200
    drop_after_bytes: int | None = None
    may_answer: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)
    ranges: list[str | None] = field(default_factory=list)

    def source(self, body: bytes) -> HttpArchive:
        """The source that promises these bytes, whatever the server gives."""
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return HttpArchive(url=f"{self.address}/tiny.tar.gz", size_bytes=len(body), md5=digest)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            server.ranges.append(wanted)
            server.may_answer.wait(30)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.knows_ranges else 0
            self.send_response(206 if start else server.status)
            if server.announces_length:
                self.send_header("Content-Length", str(len(server.body) - start))
            self.end_headers()
            end = None if server.drop_after_bytes is None else start + server.drop_after_bytes
            self.wfile.write(server.body[start:end])
            server.may_end.wait(30)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    state.may_answer.set()
    state.may_end.set()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as listener:
        state.address = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.may_end.set()
        listener.shutdown()
        thread.join()


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Two classes of five 32x32 pictures each, the classes told apart by their colour."""
    for name, color in (("cat", (200, 10, 10)), ("dog", (10, 10, 200))):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (32, 32), (*color[:2], color[2] + index)).save(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"


class Payload:
    """Pickles to a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def make_hostile_pickle() -> Callable[[Path], bytes]:
    return lambda path: pickle.dumps({1: Payload(path)}, protocol=2)
