"""Tiny releases, archives and a local server."""

import hashlib
import io
import json
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.data.cifar10 import Release, Source
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
    train = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    test = {"test_batch.bin": train.pop("test_batch.bin")}
    release = Release(name="tiny", train=train, test=test, images_per_file=IMAGES_PER_FILE, labels=CIFAR10_LABELS)
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
def official(tiny: Tiny) -> bytes:
    """The tiny release as the official binary archive lays it out."""
    return tar_bytes({f"cifar-10-batches-bin/{name}": data for name, data in tiny.files.items()})


def python_batch(pixels: bytes, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it, opcode by opcode: the same three globals as in the official files."""
    text = [b"T" + struct.pack("<i", len(value)) + value for value in (b"b", b"u1", b"|", pixels, b"data", b"labels")]
    kind, name, order, content, data_key, labels_key = text
    dtype = (
        b"cnumpy\ndtype\n" + name + b"K\x00K\x01\x87R(K\x03" + order + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    )
    shape = b"".join(struct.pack("<ci", b"J", size) for size in (len(labels), 3072)) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + kind + b"\x87R(K\x01"
    numbers = b"](" + b"".join(struct.pack("<ci", b"J", label) for label in labels) + b"e"
    return b"\x80\x02}(" + data_key + array + shape + dtype + b"\x89" + content + b"tb" + labels_key + numbers + b"u."


@pytest.fixture
def python_files(tiny: Tiny) -> dict[str, bytes]:
    """The tiny release as the Python version, by file name."""
    return {
        name.removesuffix(".bin"): python_batch(tiny.images(name).transpose(0, 3, 1, 2).tobytes(), tiny.labels(name))
        for name in tiny.files
    }


@pytest.fixture
def npm_files(tiny: Tiny) -> dict[str, bytes]:
    """The tiny release as the npm package has it, by file name."""
    images = {}
    for name in tiny.files:
        buffer = io.BytesIO()
        Image.fromarray(tiny.images(name).reshape(IMAGES_PER_FILE, 1024, 3)).save(buffer, "PNG")
        images[name.replace(".bin", ".png")] = buffer.getvalue()
    train = tiny.labels("data_batch_1.bin") + tiny.labels("data_batch_2.bin")
    labels = {"train_lables.json": train, "test_lables.json": tiny.labels("test_batch.bin")}
    return images | {name: json.dumps(each).encode() for name, each in labels.items()}


def source_of(address: str, body: bytes) -> Source:
    """A source that promises these bytes."""
    return Source(address=address, known_hash=f"sha512:{hashlib.sha512(body).hexdigest()}")


@dataclass
class Server:
    """Answers on 127.0.0.1 with the bytes in `body`, in the way that its switches say."""

    address: str = ""
    body: bytes = b""
    announces_length: bool = True
    status: int = 200
    kept_bytes: int | None = None
    requests: int = 0
    may_answer: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def source(self, body: bytes) -> Source:
        """The source that promises these bytes, whatever the server gives."""
        return source_of(f"{self.address}/tiny.tar.gz", body)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests += 1
            server.may_answer.wait(30)
            self.send_response(server.status)
            if server.announces_length:
                self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body[: server.kept_bytes])
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
    """Two classes of five 32x32 images each, which differ in color."""
    for name, color in (("cat", (200, 10, 10)), ("dog", (10, 10, 200))):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (32, 32), (*color[:2], color[2] + index)).save(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"
