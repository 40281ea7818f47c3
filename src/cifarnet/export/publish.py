"""The three files of an export: the model, its contract and the results of its parity check."""

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cifarnet.atomic import locked, naming, written_aside
from cifarnet.backends import choose
from cifarnet.contract import CONTRACT_SUFFIX, PARITY_SUFFIX, Contract
from cifarnet.errors import ModelError, UsageError, reason
from cifarnet.interrupt import defer_interrupt
from cifarnet.run.folder import EXPORT_LOCK, require_writable_model
from cifarnet.runtime import read_model
from cifarnet.system import processor, versions

from .parity import Parity
from .quantize import Latency
from .tolerances import Tolerances

RENAMES_S = 60.0
"""Maximum seconds to wait while another export renames its files."""


@dataclass(frozen=True)
class Exported:
    """A model file that passed the parity check."""

    path: Path
    size_bytes: int
    sha256: str
    precision: str
    parity: Parity
    latencies: tuple[Latency, ...]
    """Latency compared with float32 on this machine; empty for float32 itself."""


def possible_path(path: str | Path) -> Path:
    """Return ``path`` with ``~`` expanded. Raises ``UsageError`` if no file can have that name."""
    try:
        expanded = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            expanded.lstat()
    except (OSError, ValueError, RuntimeError) as error:  # the last two: a null character, ~ with an unknown user
        raise UsageError(
            f"{str(path)!r:.80} cannot be written ({reason(error)}); expected the path of a file: give another name"
        ) from error
    return expanded


def require_free(path: Path) -> None:
    """Raise ``UsageError`` or ``RunError`` unless an export may write ``path``.

    Called first, so that a bad path fails before the slow parity check.
    """
    _require_replaceable(path)
    if path.parent.is_dir():
        with _naming_lock(path):  # fails now if the file system does not support locks
            pass


def _naming_lock(path: Path) -> AbstractContextManager[None]:
    """Return the lock that keeps the three files of one export together."""
    lock = path.parent / EXPORT_LOCK
    in_use = f"{lock} was held by another export for {RENAMES_S:.0f} s; expected milliseconds: stop that export"
    return locked(lock, in_use, "write to a local disk", timeout_s=RENAMES_S)


def _require_replaceable(path: Path) -> None:
    require_writable_model(path)
    if os.path.lexists(path):
        try:
            read_model(path)
        except ModelError as error:
            raise UsageError(
                f"the export would replace {path}, which is not an exported model ({error}); expected a free name: "
                "move that file or give another name"
            ) from error


def describe_parity(parity: Parity, tolerances: Tolerances) -> dict[str, object]:
    """Return the part of the contract with the result of the parity check."""
    return {
        "images": parity.images,
        "accuracy": parity.accuracy,
        "bars": tolerances.to_json(),
        "checks": [check.name for check in parity.checks],
    }


def write_export(exported: Exported, content: bytes, contract: Contract) -> None:
    """Write the three files to temporary names, then rename them.

    A crash between two renames is detectable: the parity file has the SHA-256 of its model, and the old contract is
    removed before the model is replaced. A concurrent export to the same name waits. Raises ``UsageError`` if a file
    that is not of an export now has one of the names.
    """
    path = exported.path
    beside = path.with_suffix(CONTRACT_SUFFIX)
    measured = {
        "precision": exported.precision,
        "size_bytes": exported.size_bytes,
        "sha256": exported.sha256,
        "backend": choose(),
        "versions": versions(),
        "processor": processor(),
        **exported.parity.to_json(),
        "latencies": [asdict(latency) for latency in exported.latencies],
    }
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_aside(path.with_suffix(PARITY_SUFFIX), (json.dumps(measured, indent=2) + "\n").encode()) as name_parity,
        written_aside(beside, (contract.text + "\n").encode()) as name_contract,
        written_aside(path, content) as name_model,
        _naming_lock(path),
        defer_interrupt(),
    ):
        _require_replaceable(path)  # again: the check may have taken minutes
        name_parity()
        with naming(beside):
            beside.unlink(missing_ok=True)
        name_model()
        name_contract()
