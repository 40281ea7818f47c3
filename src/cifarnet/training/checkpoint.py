"""Checkpoints for exact resume: one file with a checksum per generation; the newest complete one is used."""

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import write_atomically
from cifarnet.data import HoldOut
from cifarnet.errors import CheckpointError
from cifarnet.recipes import Recipe
from cifarnet.run.custom import CustomRecord, in_effect
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import HoldOutRecord

GENERATIONS = 2
"""Number of checkpoints kept, in case the newest is incomplete."""
DIGEST_BYTES = 64
"""Length of the SHA-256 (hex) at the beginning of each file."""
FORMAT = 1
"""Version of the layout of a checkpoint."""
SUFFIX = ".checkpoint"
NAME = re.compile(r"\d{5,}-\d{7,}\.checkpoint")
"""Pattern of the file names: epoch and step."""
UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, MemoryError, RecursionError),
    *(NotImplementedError, zipfile.BadZipFile, zlib.error),
)
"""Errors of numpy, zip and JSON for a file of another version with a valid checksum."""
STATE, BEST, META = "state/", "best/", "meta"


@dataclass
class Position:
    """Position in training, and sums over the current epoch."""

    epoch: int = 1
    """Current epoch, counted from 1."""
    step: int = 0
    """Number of steps taken in it."""
    loss_sum: float = 0.0
    """Sum of the training loss over its images, nats."""
    correct: float = 0.0
    """Number of correct predictions."""
    seconds: float = 0.0
    """Time spent in it, all sessions together."""


@dataclass
class Checkpoint:
    """State of a training run: arrays of the engine and state of the loop."""

    position: Position
    stopping: dict[str, Any]
    """Fields of ``EarlyStopping``."""
    state: Mapping[str, NDArray[Any]]
    """All variables of network and optimizer, by path."""
    best: Mapping[str, NDArray[np.float32]]
    """Weights of the best epoch, by path; empty before there is one."""
    history: list[EpochRecord] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    """Duration of each finished epoch, seconds."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Result of ``settings_of``; empty in checkpoints of earlier versions."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``folder`` and remove all but it and the one before."""
    with suppress(OSError):  # reported by the write
        folder.mkdir(exist_ok=True)
    payload = _serialize(checkpoint)
    name = f"{checkpoint.position.epoch:05}-{checkpoint.position.step:07}{SUFFIX}"
    write_atomically(folder / name, hashlib.sha256(payload).hexdigest().encode() + payload)
    found = _newest_first(folder)
    written = found.index(folder / name)
    # A newer one was incomplete: training continued from one before it.
    for old in found[:written] + found[written + GENERATIONS :]:
        with suppress(OSError):  # it does no harm
            old.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint in ``folder`` with a valid checksum, or None if there are no checkpoints.

    Raises ``CheckpointError`` if none is valid, and for one of another format.
    """
    found = _newest_first(folder)
    for path in found:
        payload = _payload(path)
        if payload is not None:
            return _deserialize(payload, path)
    if not found:
        return None
    raise CheckpointError(f"{folder} holds {len(found)} checkpoints, none of them whole; expected one: start a new run")


def settings_of(settings: Recipe, custom: CustomRecord, parts: HoldOut | HoldOutRecord) -> dict[str, Any]:
    """Return what a training has in common with the one that it continues, as JSON values by name."""
    given = asdict(settings.model) | in_effect(asdict(settings.train), custom) | {"validation split": parts.fingerprint}
    return json.loads(json.dumps(given))


def checkpoint_of(run: Run, settings: Mapping[str, Any]) -> Checkpoint | None:
    """Return the newest checkpoint of ``run``, or None if it has just begun.

    Raises ``CheckpointError`` as ``load_checkpoint``, for one that was not trained with ``settings``, the result of
    ``settings_of``, and if all checkpoints are lost.
    """
    checkpoint = load_checkpoint(run.checkpoints)
    if checkpoint is None:
        if (epochs := len(run.read_history())) > 1:  # the first epoch may have ended without one
            raise CheckpointError(
                f"{run} has lost its checkpoints: its history has {epochs} epochs; expected the newest in "
                f"{run.checkpoints}: restore it or start a new run"
            )
        return None
    _require_settings(run, checkpoint, settings)
    return checkpoint


def require_trained_with_record(run: Run) -> None:
    """Raise ``CheckpointError`` unless ``run.json`` has the settings of the newest checkpoint that can be read."""
    try:
        checkpoint = load_checkpoint(run.checkpoints)
    except CheckpointError:  # evaluating the best weights needs none
        return
    if checkpoint is not None:
        record = run.record
        _require_settings(run, checkpoint, settings_of(record.settings, record.custom, record.hold_out))


def _require_settings(run: Run, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    for name, began in checkpoint.settings.items():
        if (now := settings.get(name, began)) != began:
            raise CheckpointError(
                f"run.json has the {name.replace('_', ' ')} {now!s:.80}; expected {began!s:.80}, with which the "
                f"checkpoints in {run.checkpoints} were trained: restore run.json or start a new run"
            )


def _payload(path: Path) -> bytes | None:
    """Return the content after the checksum, or None if it is not valid."""
    try:
        content = path.read_bytes()
    except OSError:  # a folder, a bad block
        return None
    payload = content[DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).hexdigest().encode() == content[:DIGEST_BYTES] else None


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob(f"*{SUFFIX}") if NAME.fullmatch(path.name)), reverse=True)


def _serialize(checkpoint: Checkpoint) -> bytes:
    meta = asdict(replace(checkpoint, state={}, best={}))  # asdict would copy every array
    del meta["state"], meta["best"]
    meta["format"] = FORMAT
    arrays = {STATE + path: array for path, array in checkpoint.state.items()}
    arrays |= {BEST + path: array for path, array in checkpoint.best.items()}
    arrays[META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _deserialize(payload: bytes, path: Path) -> Checkpoint:
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            arrays = dict(file)
        meta = json.loads(arrays.pop(META).tobytes())
        found = meta.pop("format", 1)  # absent in early versions
        if found == FORMAT:
            meta["position"] = Position(**meta["position"])
            meta["history"] = [EpochRecord(**row) for row in meta["history"]]
            return Checkpoint(state=_below(STATE, arrays), best=_below(BEST, arrays), **meta)
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path} could not be read ({error!r}); expected a checkpoint of this version: resume with the cifarnet "
            "that wrote it, or start a new run"
        ) from error
    raise CheckpointError(
        f"{path} has the format {found!r}; expected {FORMAT}: resume with the cifarnet that wrote it, or train again"
    )


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
