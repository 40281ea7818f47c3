"""Fail each call by which each command changes the disk: expected is one line of ours or success, and nothing is lost.

A command runs again and again on a copy of the same folder. Each time another of its calls fails: the disk is full, the
folder is read-only, permission is missing, the lock service or the device fails. A full disk stays full. Afterwards
every file is whole, the earlier ones are still there, no temporary file is left, and the same command succeeds without
the failure. A clock set back, two processes at once and a stdout that takes nothing are tried once per command.
"""

import datetime as dt
import errno
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.runtime import models

from cifarnet.backends import choose
from cifarnet.run.find import find_run
from cifarnet.run.folder import RECORD

from .calls import Call, watch
from .commands import draw_photos, typed, warm_up, write_note
from .files import problems, temporary_files
from .processes import End, begin, run, wait
from .records import store

STICKY = (errno.ENOSPC, errno.EROFS, errno.EACCES)
"""Failures that stay: each later call of the same kind fails too."""
POSSIBLE = {
    "write": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "open": (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE),
    "mkdir": (errno.ENOSPC, errno.EROFS, errno.EACCES),
    "symlink": (errno.ENOSPC, errno.EROFS, errno.EPERM),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINVAL),
    "replace": (errno.EACCES, errno.EROFS, errno.EIO),
    "rename": (errno.EACCES, errno.EROFS, errno.EIO),
    "unlink": (errno.EACCES, errno.EROFS, errno.EBUSY),
    "rmdir": (errno.EACCES, errno.EROFS, errno.EBUSY),
    "flock": (errno.ENOLCK, errno.EIO),
}
NEEDS_SPACE = ("write", "open", "mkdir", "symlink", "fsync")
"""Calls that fail on a full disk."""
FORBIDS_REMOVAL = ("EROFS", "EACCES", "EBUSY")
"""Failures after which a temporary file cannot be removed."""
ENDED = "has finished after epoch"
"""Text of the error when a finished run is resumed."""
SHORT, SHORT_CALLS = ("train", "predict", "inspect"), 2
"""Commands of the short version, and how many of their calls fail."""
FULL_DEVICE = Path("/dev/full")


@dataclass(frozen=True)
class Command:
    """A command to fail, on a copy of a prepared folder."""

    name: str
    arguments: tuple[str, ...]
    base: str
    must_keep: tuple[str, ...] = ()
    """Files that must never be gone."""


def commands(backend: str, photos: str) -> list[Command]:
    """Return every command that writes; all use the same ``photos``, since a run keeps their place."""
    train = ("train", "--data", photos, "--backend", backend, "--epochs", "1", "--batch-size", "16")
    kept = ("runs/*/run.json", "runs/*/best.weights.h5", "runs/*/history.csv")
    exported = (*kept, "runs/*/model.onnx")
    return [
        Command("train", train, "empty"),
        Command("train beside another", train, "finished", kept),
        Command("resume", ("train", "--resume", "latest"), "stopped", kept[:1]),
        Command("train --from", (*train, "--from", "latest"), "finished", kept),
        Command("export", ("export", "--backend", backend), "finished", kept),
        Command("export again", ("export", "--backend", backend), "exported", exported),
        Command("export --int8", ("export", "--int8", "--backend", backend), "exported", exported),
        Command("evaluate", ("evaluate", "--backend", backend), "uncalibrated", kept),
        Command("report", ("report",), "exported", exported),
        Command("report again", ("report",), "reported", (*exported, "runs/*/report.html")),
        Command("robustness", ("robustness",), "exported", exported),
        Command("reproduce", ("reproduce", "--epochs", "1"), "finished", kept),
        Command("predict", ("predict", "--csv", "model.onnx", photos), "file", ("model.onnx",)),
        Command("inspect", ("inspect", "model.onnx"), "file", ("model.onnx",)),
    ]


class Fault:
    """Fails one call of this process, and all later ones that would fail with it."""

    def __init__(self, number: int, draw: int, note: Path) -> None:
        """Fail call ``number``, from 1, or none for 0; ``draw`` chooses among its possible failures."""
        self.number, self.draw, self.note = number, draw, note
        self.calls, self.code = 0, 0

    def before(self, call: Call) -> None:
        """Count a call and fail it if it is its turn."""
        self.calls += 1
        if self.calls == self.number:
            possible = POSSIBLE[call.name]
            self.code = possible[self.draw % len(possible)]
            write_note(self.note, f"{errno.errorcode[self.code]} at {call}")
        elif self.code not in STICKY or (self.code == errno.ENOSPC and call.name not in NEEDS_SPACE):
            return
        raise OSError(self.code, os.strerror(self.code), call.path)


class Session:
    """All faults of all commands."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.backend, self.rng = folder, choose(), np.random.default_rng(seed)
        self.counts, self.unexplained = Counter[str](), list[dict[str, Any]]()
        photos = folder / "photos"
        draw_photos(photos)
        self.commands = commands(self.backend, str(photos))
        self.log, self.note, self.tried = folder / "log", folder / "note", folder / "try"

    def base(self, name: str) -> Path:
        """Return the folder that commands run on, made by the commands themselves when it is first needed."""
        folder = self.folder / "bases" / name
        if folder.exists():
            return folder
        if name == "empty":
            folder.mkdir(parents=True)
            return folder
        train = self.commands[0].arguments
        before, arguments = {
            "finished": ("empty", train),
            "stopped": ("empty", (*train, "--max-minutes", "0")),
            "exported": ("finished", ("export", "--backend", self.backend)),
            "reported": ("exported", ("report",)),
            "uncalibrated": ("finished", ("--version",)),
            "file": ("empty", ("--version",)),
        }[name]
        shutil.copytree(self.base(before), folder, symlinks=True)
        end = run(typed(folder, arguments), self.log)
        if end.status:
            raise SystemExit(f"the base {name} could not be made: {end.output}")
        if name == "file":
            (folder / "model.onnx").write_bytes(models.calibrated())
        if name == "uncalibrated":
            made = find_run(folder / "runs")
            made.write_record(replace(made.record, calibration=None))
        return folder

    def run_all(self, command: Command, deadline: float, most_calls: int | None) -> int:
        """Try two at once, another clock, a full stdout, and then each call in a drawn order; return their number."""
        self.counts, self.unexplained = Counter[str](), list[dict[str, Any]]()
        self._two_at_once(command)
        self._clock_set_back(command)
        if FULL_DEVICE.exists():
            self._run_and_judge(command, "stdout full", "stdout full", stdout=FULL_DEVICE)
        calls, offset = self._count(command), int(self.rng.integers(12))
        for number in (self.rng.permutation(calls) + 1)[:most_calls]:
            if time.monotonic() > deadline:
                break
            fault = Fault(int(number), offset + int(number), self.note)
            self._run_and_judge(command, f"call {number}", "", prepare=lambda fault=fault: self._watch(fault))
        return calls

    def _watch(self, fault: Fault) -> None:
        watch(self.tried, fault.before)

    def _fresh(self, command: Command) -> None:
        shutil.rmtree(self.tried, ignore_errors=True)
        shutil.copytree(self.base(command.base), self.tried, symlinks=True)
        self.note.unlink(missing_ok=True)

    def _count(self, command: Command) -> int:
        """Return how many calls of a command can fail."""
        fault = Fault(0, 0, self.note)
        self._fresh(command)
        work = typed(self.tried, command.arguments, lambda: self._watch(fault))
        end = run(lambda: work() or write_note(self.note, str(fault.calls)), self.log)
        return 0 if end.status else int(self.note.read_text())

    def _run_and_judge(
        self,
        command: Command,
        what: str,
        counted: str,
        *,
        prepare: Callable[[], object] = lambda: None,
        stdout: Path | None = None,
        must_succeed: bool = False,
    ) -> None:
        self._fresh(command)
        end = run(typed(self.tried, command.arguments, prepare), self.log, stdout=stdout)
        failed = self.note.read_text() if self.note.exists() else ""
        self._judge(command, f"{what}{failed and ': '}{failed}", end, counted or failed, must_succeed=must_succeed)

    def _judge(self, command: Command, what: str, end: End, counted: str, *, must_succeed: bool) -> None:
        is_leaving = counted.startswith(FORBIDS_REMOVAL)
        found = _wrong_end(end) + self._wrong_folder(command, is_leaving=is_leaving)
        if must_succeed and end.status:
            found.append(f"it fails: {end.last_line}")
        again = run(typed(self.tried, command.arguments), self.log)
        if again.status and ENDED not in again.output:
            found.append(f"without the failure it does not succeed: {again.last_line}")
        found += [f"after that, {each}" for each in self._wrong_folder(command, is_leaving=is_leaving)]
        self.counts[" ".join(counted.split()[:3]) or "none failed"] += 1
        for each in dict.fromkeys(found):
            self.unexplained.append(
                {"what": f"{command.name}, {what}: {each}", "status": end.status, "said": end.output[-700:]}
            )

    def _wrong_folder(self, command: Command, *, is_leaving: bool) -> list[str]:
        """Name the files that are not whole, that are gone or that were left."""
        gone = [each for each in command.must_keep if not any(self.tried.glob(each))]
        places, left = ("runs", "reproductions"), list[str]()
        if not is_leaving:
            for place in places:
                runs = [path for path in (self.tried / place).glob("2*") if not (path / RECORD).is_file()]
                left += [*temporary_files(self.tried / place), *(path.name for path in runs)]
        return [*problems(self.tried), *(f"{each} is gone" for each in gone), *(f"{each} was left" for each in left)]

    def _two_at_once(self, command: Command) -> None:
        self._fresh(command)
        logs, delay_s = [self.folder / f"log{number}" for number in range(2)], float(self.rng.uniform(0, 0.6))
        works = (
            typed(self.tried, command.arguments, prepare) for prepare in (lambda: None, lambda: time.sleep(delay_s))
        )
        pids = [begin(work, log) for work, log in zip(works, logs, strict=True)]
        ends = [wait(pid, log) for pid, log in zip(pids, logs, strict=True)]
        worst, what = max(ends, key=lambda end: end.status != 0), f"two at once, {delay_s:.2f} s apart"
        self._judge(command, what, worst, "two at once", must_succeed=all(end.status for end in ends))

    def _clock_set_back(self, command: Command) -> None:
        prepare = lambda: set_clock(-400)  # noqa: E731
        self._run_and_judge(command, "clock set back", "clock set back", prepare=prepare, must_succeed=True)
        newest = max(self.tried.glob("runs/2*"), key=lambda path: path.stat().st_ctime, default=None)
        if newest and (self.tried / "runs" / "latest").resolve() != newest.resolve():
            self.unexplained.append({"what": f"{command.name}, clock set back: latest is not the newest run"})


def _wrong_end(end: End) -> list[str]:
    """Name what is wrong with how a command ended, beside success and exit code 1 with one line of ours."""
    if end.hung:
        return ["it hangs"]
    lines = [line for line in end.output.splitlines() if line.startswith("error: ")]
    found = ["a traceback"] if "Traceback" in end.output else []
    if end.status not in (0, 1):
        found.append(f"exit code {end.status}")
    if end.status == 1 and len(lines) != 1:
        found.append(f"{len(lines)} lines of error")
    return found


def set_clock(days: int) -> None:
    """Move this process to another date, as after a battery died."""
    from cifarnet.training import begin as new_run  # Keras, now that its framework is chosen

    moved, now = dt.timedelta(days=days), time.time
    time.time = lambda: now() + moved.total_seconds()

    class Moved(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) + moved

    new_run.datetime = Moved  # type: ignore[attr-defined]  # the only module that dates a run


def campaign(minutes: float, seed: int, output: Path, *, short: bool = False) -> int:
    """Fail calls for so long, store a record per command, and return the number of unexplained findings."""
    end, unexplained = time.monotonic() + 60 * minutes, 0
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        warm_up(Path(folder))
        session = Session(Path(folder).resolve(), seed)
        order = [command for command in session.commands if not short or command.name in SHORT]
        session.rng.shuffle(order)  # type: ignore[arg-type]  # a list too
        for left, command in zip(range(len(order), 0, -1), order, strict=True):
            since = time.monotonic()
            calls = session.run_all(command, since + (end - since) / left, SHORT_CALLS if short else None)
            found, tried = session.unexplained, session.counts
            facts = {"command": command.name, "calls": calls, "unexplained": found}
            facts |= {"seconds": round(time.monotonic() - since, 1), "counts": tried}
            store(output, "faults", backend=session.backend, seed=seed, **facts)
            unexplained += len(found)
            print(f"{command.name}: {tried.total()} of {calls + 3} tried, {len(found)} unexplained", flush=True)
    return unexplained
