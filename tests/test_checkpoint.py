"""A checkpoint is restored bit for bit, an incomplete one is skipped, and none of them can run code."""

import errno
import hashlib
import io
import json
import math
import os
from dataclasses import asdict

import numpy as np
import pytest

from cifarnet.backends import choose
from cifarnet.errors import CheckpointError, RunError
from cifarnet.run.folder import EpochRecord
from cifarnet.training.early_stopping import EarlyStopping

choose()

from cifarnet.training.checkpoint import DIGEST_BYTES, Checkpoint, Position, load_checkpoint, save_checkpoint  # noqa: E402  # Keras, now that its framework is chosen


def row(epoch: int, loss: float) -> EpochRecord:
    return EpochRecord(epoch, 1 / 3, loss, 0.1 + 0.2, loss, 2 / 3)


def checkpoint(epoch: int = 1, step: int = 0, **changes) -> Checkpoint:
    rng = np.random.default_rng(epoch * 1000 + step)
    state = {
        "model/conv_1/kernel": rng.normal(size=(3, 3, 3, 2)).astype(np.float32),
        "model/dropout_1/counter": np.uint32(7 + step).reshape(()),
        "optimizer/iteration": np.array(step, np.int32),
        "optimizer/odd values": np.array([math.nan, -math.inf, -0.0, 1e-45], np.float32),
    }
    fields = {
        "position": Position(epoch=epoch, step=step, loss_sum=rng.random(), correct=math.nan, seconds=math.inf),
        "stopping": asdict(EarlyStopping(1e-3, 20, best_loss=1 / 3, best_epoch=1, waited=2)),
        "state": state,
        "best": {"conv_1/kernel": rng.normal(size=(2, 2)).astype(np.float32)},
        "history": [row(epoch, loss) for epoch, loss in enumerate((1 / 7, 5e-324, -0.0, math.nan, -math.inf), 1)],
        "epoch_seconds": [0.1, 1e9 / 3],
    }
    return Checkpoint(**fields | changes)


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    for name in ("position", "stopping", "history", "epoch_seconds"):
        assert repr(getattr(found, name)) == repr(getattr(expected, name))  # repr, so that NaN equals NaN
    for name in ("state", "best"):
        arrays, wanted = getattr(found, name), getattr(expected, name)
        assert list(arrays) == list(wanted)
        for path, array in wanted.items():
            assert (arrays[path].dtype, arrays[path].shape) == (array.dtype, array.shape)
            assert arrays[path].tobytes() == array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the two checkpoints that ``older`` and ``newer`` are."""
    for each in (older(), newer()):
        save_checkpoint(tmp_path / "checkpoint", each)
    return tmp_path / "checkpoint"


def older() -> Checkpoint:
    return checkpoint(epoch=3, step=250)


def newer() -> Checkpoint:
    return checkpoint(epoch=4, step=0)


def newest_file(folder):
    return max(folder.iterdir())


def test_a_checkpoint_comes_back_bit_for_bit_and_a_different_one_is_not_taken_for_the_same(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", checkpoint(step=1))
    assert_same(load_checkpoint(tmp_path / "checkpoint"), checkpoint(step=1))
    with pytest.raises(AssertionError):
        assert_same(load_checkpoint(tmp_path / "checkpoint"), checkpoint(step=2))


def test_a_checkpoint_from_before_the_first_epoch_survives(tmp_path):
    first = checkpoint(stopping=asdict(EarlyStopping(1e-3, 20)), best={}, history=[], epoch_seconds=[])
    save_checkpoint(tmp_path, first)
    found = load_checkpoint(tmp_path)
    assert_same(found, first)
    assert EarlyStopping(**found.stopping) == EarlyStopping(1e-3, 20)  # its best loss is infinite


def test_the_newest_counts_and_two_are_kept(tmp_path):
    order = [(1, 0), (1, 999), (1, 1000), (9, 25), (10, 0), (100, 3)]
    for epoch, step in order:
        save_checkpoint(tmp_path, checkpoint(epoch, step))
        assert_same(load_checkpoint(tmp_path), checkpoint(epoch, step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00010-0000000.checkpoint", "00100-0000003.checkpoint"]


@pytest.mark.parametrize("keep", [0, DIGEST_BYTES - 1, DIGEST_BYTES, DIGEST_BYTES + 1, 0.5, -1])
def test_a_truncated_newest_gives_way_to_the_one_before(folder, keep):
    content = newest_file(folder).read_bytes()
    assert_same(load_checkpoint(folder), newer())
    newest_file(folder).write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    assert_same(load_checkpoint(folder), older())


@pytest.mark.parametrize(
    ("place", "bit"), [(0, 0x01), (DIGEST_BYTES - 1, 0x20), (DIGEST_BYTES, 0x80), (0.5, 1), (-1, 1)]
)
def test_one_flipped_bit_in_the_newest_gives_way_to_the_one_before(folder, place, bit):
    content = bytearray(newest_file(folder).read_bytes())
    content[int(len(content) * place) if isinstance(place, float) else place] ^= bit
    newest_file(folder).write_bytes(content)
    assert_same(load_checkpoint(folder), older())


def test_without_a_whole_one_the_error_counts_them_and_says_what_to_do(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints, none of them whole; expected one: start a new"):
        load_checkpoint(folder)


def test_training_goes_on_past_a_torn_checkpoint(folder):
    newest_file(folder).write_bytes(b"torn")
    assert_same(load_checkpoint(folder), older())
    for step in (275, 300):
        save_checkpoint(folder, checkpoint(epoch=3, step=step))
        assert_same(load_checkpoint(folder), checkpoint(epoch=3, step=step))
    save_checkpoint(folder, newer())
    assert_same(load_checkpoint(folder), newer())


def test_a_full_disk_leaves_the_checkpoints_as_they_were(folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        save_checkpoint(folder, checkpoint(epoch=5))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_array_of_objects_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle=False"):
        save_checkpoint(tmp_path, checkpoint(state={"model/kernel": np.array([{}])}))
    assert list(tmp_path.iterdir()) == []


class Payload:
    """Pickles to a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_foreign_checkpoint_with_a_pickle_runs_no_code(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.array([Payload(tmp_path / "touched")], dtype=object))
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    (tmp_path / "00001-0000000.checkpoint").write_bytes(digest + buffer.getvalue())
    with pytest.raises(CheckpointError, match="allow_pickle=False"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "touched").exists()


def rewritten(folder, change):
    """Let ``change`` alter what the newest checkpoint tells, whose checksum then holds again; return its file."""
    path = newest_file(folder)
    with np.load(io.BytesIO(path.read_bytes()[DIGEST_BYTES:])) as file:
        arrays = dict(file)
    meta = json.loads(arrays.pop("meta").tobytes())
    change(meta)
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).hexdigest().encode() + buffer.getvalue())
    return path


def test_a_checkpoint_of_before_there_was_a_format_number_is_read(folder):
    rewritten(folder, lambda meta: meta.pop("format"))
    assert_same(load_checkpoint(folder), newer())


def test_a_checkpoint_of_another_format_is_refused_with_the_way_out(folder):
    path = rewritten(folder, lambda meta: meta.update(format=2))
    with pytest.raises(CheckpointError, match=rf"{path} has the format 2; expected 1: resume with the cifarnet"):
        load_checkpoint(folder)


CHANGES = {
    "a new field of the position": lambda meta: meta["position"].update(image=3),
    "a missing field": lambda meta: meta.pop("stopping"),
    "no object": lambda meta: meta.update(position=[]),
    "another history": lambda meta: meta.update(history={"epoch": 1}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_whole_checkpoint_of_other_fields_is_refused_as_one_of_another_version(folder, change):
    path = rewritten(folder, CHANGES[change])
    with pytest.raises(CheckpointError, match=rf"{path} could not be read .*; expected a checkpoint of this version: "):
        load_checkpoint(folder)


@pytest.mark.parametrize("payload", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"])
def test_what_is_no_archive_under_a_checksum_that_holds_is_refused(folder, payload):
    newest_file(folder).write_bytes(hashlib.sha256(payload).hexdigest().encode() + payload)
    with pytest.raises(CheckpointError, match="could not be read"):
        load_checkpoint(folder)


def test_a_folder_in_the_place_of_the_newest_checkpoint_gives_way_to_the_one_before(folder):
    newest_file(folder).unlink()
    (folder / "00004-0000000.checkpoint").mkdir()
    assert_same(load_checkpoint(folder), older())
    save_checkpoint(folder, checkpoint(epoch=3, step=275))
    assert_same(load_checkpoint(folder), checkpoint(epoch=3, step=275))


def test_other_files_in_the_folder_stay(folder):
    others = [folder / name for name in ("1 note.checkpoint", "00001-0000000.checkpoint.txt", "2026.checkpoint")]
    for path in others:
        path.write_bytes(b"")
    save_checkpoint(folder, checkpoint(epoch=5))
    save_checkpoint(folder, checkpoint(epoch=6))
    assert_same(load_checkpoint(folder), checkpoint(epoch=6))
    assert all(path.exists() for path in others)


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(tmp_path):
    (tmp_path / "checkpoint").touch()
    assert load_checkpoint(tmp_path / "checkpoint") is None
    with pytest.raises(RunError, match="could not be written"):
        save_checkpoint(tmp_path / "checkpoint", checkpoint())
