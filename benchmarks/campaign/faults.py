"""One failure at each call by which each command changes the disk: one line of ours or success, and nothing is lost.

A command runs again and again on a copy of the same folder. Each time another of its calls fails, until it needs none
that fails: the disk is full, the folder can only be read, there is no permission, the lock service or the device fails.
The disk that is full stays full. Afterwards every file is whole, what was there before still is, no temporary file is
left, and the same command without the failure succeeds. The clock that was set back, two processes at once and a
stdout that takes nothing are tried once per command and session.
"""

import contextlib
import datetime as dt
import errno
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.runtime import models

from cifarnet import cli
from cifarnet.backends import adapter, choose
from cifarnet.run_folder import RECORD, find_run

from .calls import Call, watch
from .processes import End, begin, live, wait
from .records import store
from .whole import problems, strays

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
ENDED = "came to its end"
"""What the repetition says of a run that had ended before its failure."""
LIMIT_S = 240
SHORT, SHORT_CALLS = ("train", "predict", "inspect"), 2
"""Commands of the short version, and how many of their calls fail."""
FULL_DEVICE = Path("/dev/full")


@dataclass(frozen=True)
class Command:
    """A command to fail, on a copy of a prepared folder."""

    name: str
    arguments: tuple[str, ...]
    base: str
    again: tuple[str, ...] = ()
    """The same without a failure, where it is another command."""
    must_keep: tuple[str, ...] = ()
    """Files that have to be there whatever happens."""


def commands(backend: str, photos: str) -> list[Command]:
    """Return every command that writes; ``photos`` are the same for all, since a run keeps their place."""
    train = ("train", "--data", photos, "--backend", backend, "--epochs", "1", "--batch-size", "16")
    kept = ("runs/*/run.json", "runs/*/best.weights.h5", "runs/*/history.csv")
    model = "runs/*/model.onnx"
    return [
        Command("train", train, "empty"),
        Command("train beside another", train, "finished", must_keep=kept),
        Command("resume", ("train", "--resume", "latest"), "stopped", must_keep=kept[:1]),
        Command("train --from", (*train, "--from", "latest"), "finished", must_keep=kept),
        Command("export", ("export", "--backend", backend), "finished", must_keep=kept),
        Command("export again", ("export", "--backend", backend), "exported", must_keep=(*kept, model)),
        Command("export --int8", ("export", "--int8", "--backend", backend), "exported", must_keep=(*kept, model)),
        Command("evaluate", ("evaluate", "--backend", backend), "uncalibrated", must_keep=kept),
        Command("report", ("report",), "exported", must_keep=(*kept, model)),
        Command("report again", ("report",), "reported", must_keep=(*kept, model, "runs/*/report.html")),
        Command("robustness", ("robustness",), "exported", must_keep=(*kept, model)),
        Command("reproduce", ("reproduce", "--epochs", "1"), "finished", must_keep=kept),
        Command("predict", ("predict", "--csv", "model.onnx", photos), "file", must_keep=("model.onnx",)),
        Command("inspect", ("inspect", "model.onnx"), "file", must_keep=("model.onnx",)),
    ]


@dataclass
class Fault:
    """Fails the given call of this process, and all later ones that would fail with it."""

    number: int
    """From 1; 0 fails none."""
    draw: int
    note: Path
    calls: int = 0
    failed: list[int] = field(default_factory=list)

    def before(self, call: Call) -> None:
        """Count a call and fail it if it is its turn."""
        self.calls += 1
        if self.calls == self.number:
            possible = POSSIBLE[call.name]
            code = possible[self.draw % len(possible)]
            self.failed.append(code)
            self.note_down(f"{errno.errorcode[code]} at {call}")
            raise _error(code, call)
        if self.failed and self.failed[0] in STICKY:
            code = self.failed[0]
            if code != errno.ENOSPC or call.name in NEEDS_SPACE:
                raise _error(code, call)

    def note_down(self, what: str) -> None:
        """Leave word of what failed, outside the watched folder."""
        descriptor = os.open(self.note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{what}\n".encode())
        os.close(descriptor)


def _error(code: int, call: Call) -> OSError:
    return OSError(code, os.strerror(code), call.path)


def typed(folder: Path, arguments: tuple[str, ...], prepare: Callable[[], object] = lambda: None) -> Callable[[], int]:
    """Return the work of a child that runs ``cifarnet`` with arguments in a folder, as its entry point does."""

    def work() -> int:
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        (folder / "tmp").mkdir(exist_ok=True)
        sys.argv = ["cifarnet", *arguments]
        prepare()
        try:
            cli.main()
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            return int(end.code or 0) if not isinstance(end.code, str) else 1
        return 0

    return work


class Session:
    """All faults of all commands, for so long as there is time."""

    def __init__(self, folder: Path, seed: int, deadline: float) -> None:
        self.folder, self.seed, self.deadline, self.backend = folder, seed, deadline, choose()
        self.most_calls: int | None = None
        self.rng = np.random.default_rng(seed)
        self.counts, self.unexplained, self.calls = Counter[str](), list[dict[str, Any]](), 0
        self.bases, photos = folder / "bases", folder / "photos"
        _draw_photos(photos)
        self.commands = commands(self.backend, str(photos))
        self.log, self.note = folder / "log", folder / "note"

    def base(self, name: str) -> Path:
        """Return the folder that commands are tried on, made by the commands themselves when it is first asked for."""
        folder = self.bases / name
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
            "uncalibrated": ("finished", ()),
            "file": ("empty", ()),
        }[name]
        shutil.copytree(self.base(before), folder, symlinks=True)
        end = live(typed(folder, arguments or ("--version",)), self.log)
        if end.status:
            raise SystemExit(f"the base {name} could not be made: {end.output}")
        if name == "file":
            (folder / "model.onnx").write_bytes(models.calibrated())
        if name == "uncalibrated":
            run = find_run(folder / "runs")
            run.write_record({key: value for key, value in run.read_record().items() if key != "calibration"})
        return folder

    def carry_out(self, command: Command) -> None:
        """Try a command: two at once, another clock, a stdout that is full, and then each call in a drawn order."""
        self.counts, self.unexplained = Counter[str](), list[dict[str, Any]]()
        for attempt in (self._two_at_once, self._clock_set_back, self._stdout_full):
            attempt(command)
        self.calls, offset = self.count(command), int(self.rng.integers(12))
        for number in (self.rng.permutation(self.calls) + 1)[: self.most_calls]:
            if time.monotonic() > self.deadline:
                break
            self.one_call(command, int(number), offset + int(number))

    def _fresh(self, command: Command) -> Path:
        folder = self.folder / "try"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.base(command.base), folder, symlinks=True)
        return folder

    def count(self, command: Command) -> int:
        """Return how many calls of a command can fail."""
        fault = Fault(0, 0, self.note)
        work = typed(self._fresh(command), command.arguments, lambda: watch(self.folder / "try", fault.before))
        self.note.unlink(missing_ok=True)
        end = live(lambda: work() or fault.note_down(str(fault.calls)), self.log, limit_s=LIMIT_S)
        return 0 if end.status else int(self.note.read_text())

    def one_call(self, command: Command, number: int, draw: int) -> None:
        """Fail one call of a command and look at what came of it."""
        folder = self._fresh(command)
        self.note.unlink(missing_ok=True)
        fault = Fault(number, draw, self.note)
        end = live(typed(folder, command.arguments, lambda: watch(folder, fault.before)), self.log, limit_s=LIMIT_S)
        failed = self.note.read_text().strip() if self.note.exists() else "none failed"
        is_leaving = failed.startswith(("EROFS", "EACCES", "EBUSY"))  # a temporary file cannot be removed then
        counted = " ".join(failed.split()[:3])
        self._judge(command, folder, f"call {number}: {failed}", end, counted, is_leaving=is_leaving)

    def _judge(
        self,
        command: Command,
        folder: Path,
        what: str,
        end: End,
        counted: str,
        *,
        is_leaving: bool = False,
        must_succeed: bool = False,
    ) -> None:
        found = _wrong_end(end) + self._wrong_folder(command, folder, is_leaving=is_leaving)
        if must_succeed and end.status:
            found.append(f"it fails: {end.last_line}")
        again = live(typed(folder, command.again or command.arguments), self.log, limit_s=LIMIT_S)
        if again.status and ENDED not in again.output:
            found.append(f"without the failure it does not succeed: {again.last_line}")
        found += [f"after that, {each}" for each in self._wrong_folder(command, folder, is_leaving=is_leaving)]
        self.counts[counted] += 1
        for each in dict.fromkeys(found):
            self.unexplained.append(
                {"what": f"{command.name}, {what}: {each}", "status": end.status, "said": end.output[-700:]}
            )

    def _wrong_folder(self, command: Command, folder: Path, *, is_leaving: bool) -> list[str]:
        missing = [each for each in command.must_keep if not any(folder.glob(each))]
        left = [] if is_leaving else [*strays(folder / "runs"), *strays(folder / "reproductions"), *_unrecorded(folder)]
        return [
            *problems(folder),
            *(f"{each} is gone" for each in missing),
            *(f"{each} was left" for each in left),
        ]

    def _two_at_once(self, command: Command) -> None:
        folder = self._fresh(command)
        logs = [self.folder / f"log{number}" for number in range(2)]
        delay_s = float(self.rng.uniform(0, 0.6))
        works = (typed(folder, command.arguments), typed(folder, command.arguments, lambda: time.sleep(delay_s)))
        pids = [begin(work, log) for work, log in zip(works, logs, strict=True)]
        ends = [wait(pid, log, limit_s=LIMIT_S) for pid, log in zip(pids, logs, strict=True)]
        worst, what = max(ends, key=lambda end: end.status != 0), f"two at once, {delay_s:.2f} s apart"
        self._judge(command, folder, what, worst, "two at once", must_succeed=all(end.status for end in ends))

    def _clock_set_back(self, command: Command) -> None:
        folder = self._fresh(command)
        end = live(typed(folder, command.arguments, lambda: set_clock(-400)), self.log, limit_s=LIMIT_S)
        self._judge(command, folder, "clock set back", end, "clock set back", must_succeed=True)
        newest = max(folder.glob("runs/2*"), key=lambda path: path.stat().st_ctime, default=None)
        latest = folder / "runs" / "latest"
        if newest and latest.resolve() != newest.resolve():
            self.unexplained.append({"what": f"{command.name}, clock set back: latest is not the newest run"})

    def _stdout_full(self, command: Command) -> None:
        if not FULL_DEVICE.exists():
            return
        folder = self._fresh(command)
        end = live(typed(folder, command.arguments), self.log, limit_s=LIMIT_S, stdout=FULL_DEVICE)
        self._judge(command, folder, "stdout full", end, "stdout full")


def _draw_photos(folder: Path) -> None:
    """Make three classes of small pictures that differ in their color."""
    rng = np.random.default_rng(0)
    for index, label in enumerate(("a", "b", "c")):
        for number in range(12):
            part = folder / ("test" if number < 4 else "train") / label
            part.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 90, (32, 32, 3), np.uint8)
            pixels[..., index] += 120
            Image.fromarray(pixels).save(part / f"{number}.png")


def _unrecorded(folder: Path) -> list[str]:
    """Name the run folders without a record: half-made runs."""
    return [path.name for path in folder.glob("*/2*") if not (path / RECORD).is_file()]


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
    """Let this process believe in another date, as after a battery died."""
    moved, now = dt.timedelta(days=days), time.time
    time.time = lambda: now() + moved.total_seconds()

    class Moved(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) + moved

    for name, module in list(sys.modules.items()):
        if name.startswith("cifarnet.") and getattr(module, "datetime", None) is dt.datetime:
            module.datetime = Moved  # type: ignore[attr-defined]


def warm_up() -> None:
    """Import what the commands would, and execute nothing on a framework."""
    import cifarnet.evaluation.reproduce
    import cifarnet.evaluation.robustness
    import cifarnet.evaluation.target
    import cifarnet.export
    import cifarnet.report.writing
    import cifarnet.training  # noqa: F401

    adapter()


def campaign(minutes: float, seed: int, output: Path, *, short: bool = False) -> int:
    """Fail calls for so long, store a record per command, and return how much was unexplained."""
    began, unexplained = time.monotonic(), 0
    warm_up()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder, contextlib.chdir(folder):
        session = Session(Path(folder).resolve(), seed, began + 60 * minutes)
        end, order = session.deadline, list(session.commands)
        if short:
            order = [command for command in order if command.name in SHORT]
            session.most_calls = SHORT_CALLS
        session.rng.shuffle(order)  # type: ignore[arg-type]  # a list too
        for left, command in zip(range(len(order), 0, -1), order, strict=True):
            since = time.monotonic()
            session.deadline = since + (end - since) / left
            session.carry_out(command)
            found, tried = session.unexplained, session.counts
            facts = {"command": command.name, "calls": session.calls, "unexplained": found}
            facts |= {"seconds": round(time.monotonic() - since, 1), "counts": tried}
            store(output, "faults", backend=session.backend, seed=seed, **facts)
            unexplained += len(found)
            print(f"{command.name}: {tried.total()} of {session.calls + 3} tried, {len(found)} unexplained", flush=True)
    return unexplained
