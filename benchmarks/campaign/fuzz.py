"""Damaged images, model files, folders, run records and checkpoints: expected is an answer or one of our own errors.

Batches of one kind run in a child each: a crash, a hang and too much memory end that child, and the input that was in
use is known. An input is repeated by its kind, seed and number, on the same version of hypothesis; small ones are kept
in the record.
"""

import base64
import json
import mmap
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import cifarnet
from cifarnet.errors import CifarnetError

from .processes import UNEXPECTED, begin, wait
from .records import store

HANGING_S, MEMORY_BYTES = 20, 3 << 30
"""Limits of one input, which takes milliseconds, and of the memory that a batch may map in addition."""
PACKAGE = Path(cifarnet.__file__).parent
KEPT_BYTES = 4096
SHORT = 40
"""Inputs of each kind in the short version."""


@dataclass(frozen=True)
class Kind:
    """One kind of damaged input."""

    inputs: st.SearchStrategy[Any]
    use: Callable[[Any], object]
    batch: int
    """Inputs per batch, some seconds."""


class Board:
    """Memory that parent and child share: number and content of the input in use."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 12 + KEPT_BYTES)

    def write(self, number: int, content: bytes) -> None:
        """Store the input that is about to be used."""
        kept = content[:KEPT_BYTES]
        self._shared[: 12 + len(kept)] = number.to_bytes(8, "little") + len(kept).to_bytes(4, "little") + kept

    def read(self) -> tuple[int, bytes]:
        """Return number and content."""
        size = int.from_bytes(self._shared[8:12], "little")
        return int.from_bytes(self._shared[:8], "little"), self._shared[12 : 12 + size]


def _use_batch(kind: Kind, number: int, board: Board, results: Path) -> None:
    """Use a batch of inputs, in a child, and store the outcomes at its end."""
    counts, unexplained, tried = Counter[str](), list[dict[str, Any]](), 0
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)
    warnings.simplefilter("ignore")  # as in an app, where decoders go on after they warned
    health = list(HealthCheck)

    @seed(number)
    @settings(
        max_examples=kind.batch, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=health
    )
    @given(kind.inputs)
    def check(given: Any) -> None:
        nonlocal tried
        tried += 1
        content = given if isinstance(given, bytes) else repr(given).encode()
        board.write(tried, content)
        what = None
        try:
            kind.use(given)
            outcome = "answer"
        except CifarnetError as error:
            outcome = type(error).__name__
            if "\n" in str(error):
                outcome += " of several lines"
                what = f"{outcome}: {error}"
        except Exception as error:  # noqa: BLE001  # what is looked for
            outcome = f"unexplained {type(error).__name__}"
            what = f"{type(error).__name__} in {_place(error)}: {error}"
        counts[outcome] += 1
        if what:
            unexplained.append(_finding(what, tried, content))

    check()
    results.write_text(json.dumps({"counts": counts, "unexplained": unexplained}))


def _place(error: Exception) -> str:
    """Return the deepest line of ours that an exception came through."""
    place, trace = "", error.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename).is_relative_to(PACKAGE):
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _finding(what: str, number: int, content: bytes) -> dict[str, Any]:
    kept = base64.b64encode(content).decode() if len(content) <= KEPT_BYTES else None
    return {"what": what[:300], "number": number, "input": kept}


def try_batch(name: str, kind: Kind, number: int, folder: Path) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Use one batch in a child and return the outcomes and the findings, a crash or a hang included."""
    board, results, log = Board(), folder / "results.json", folder / "log"
    seen, since = 0, time.monotonic()

    def hangs() -> bool:
        nonlocal seen, since
        now = board.read()[0]
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > HANGING_S

    pid = begin(lambda: _use_batch(kind, number, board, results), log)
    end = wait(pid, log, limit_s=3600, watch=hangs, poll_s=0.05)
    if end.status == 0:
        found = json.loads(results.read_text())
        counts, unexplained = Counter(found["counts"]), _distinct(found["unexplained"])
    else:
        tried, content = board.read()
        how = "hang" if end.status == -9 else f"exit code or signal {end.status}"
        said = end.last_line if end.status == UNEXPECTED else end.output[:600]
        counts = Counter({"before the end of the child": tried})
        unexplained = [_finding(f"{how}: {said}", tried, content)]
    return counts, [{"kind": name, "batch_seed": number, **each} for each in unexplained]


def _distinct(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first of the findings that are equal up to their second colon, with their number."""
    first: dict[str, dict[str, Any]] = {}
    for each in findings:
        same = first.setdefault(":".join(each["what"].split(":")[:2]), {**each, "times": 0})
        same["times"] += 1
    return list(first.values())


def campaign(minutes: float, seed: int, output: Path, *, short: bool = False) -> int:
    """Fuzz for so long, every kind in turn; store a record at the end and return the number of unexplained findings."""
    from .damage import Readers

    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        kinds = Readers(Path(folder)).kinds()
        if short:
            kinds = {name: replace(kind, batch=SHORT) for name, kind in kinds.items()}
        return _fuzz(kinds, 0 if short else 60 * minutes, seed, output, Path(folder))


def _fuzz(kinds: Mapping[str, Kind], seconds: float, seed: int, output: Path, folder: Path) -> int:
    began, batches, unexplained = time.monotonic(), 0, list[dict[str, Any]]()
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in kinds}
    while batches < len(kinds) or time.monotonic() - began < seconds:
        name = list(kinds)[batches % len(kinds)]
        found, findings = try_batch(name, kinds[name], seed + batches, folder)
        outcomes[name].update(found)
        unexplained += findings
        batches += 1
    for name, found in outcomes.items():
        print(f"{name}: {found.total():,}, {dict(found)}")
    counts = {name: found.total() for name, found in outcomes.items()}
    facts = {"outcomes": outcomes, "seconds": round(time.monotonic() - began, 1), "unexplained": unexplained}
    store(output, "fuzz", backend="onnxruntime", seed=seed, batches=batches, counts=counts, **facts)
    return len(unexplained)
