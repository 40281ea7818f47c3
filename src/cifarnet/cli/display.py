"""How a person watches: a live line on a terminal, plain lines elsewhere. Data goes to stdout, talk to stderr."""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Self, TextIO

from cifarnet.contract import printable

if TYPE_CHECKING:
    from cifarnet.run_folder import EpochRecord
    from cifarnet.training.observer import Progress

STDERR = 2
"""File descriptor; those of stdin and stdout are smaller."""
ESCAPES = "backslashreplace"
"""How a character is written that an encoding lacks."""
LONGEST_NAME = 40
"""Characters of a class name in a table or a note; the whole name is in --json and --csv."""
REFRESH_S = 0.2
"""Seconds between two writings of the live line."""
CLEAR_REST = "\x1b[K"
"""Clears a terminal's line from the cursor on, with what the terminal itself wrote there for Ctrl-C."""
INDENT = "  "
"""Of what goes on from the line above."""
BAR_FROM = 50
"""Images: fewer are done before a bar is seen."""


def prepare_streams() -> None:
    """Make stdout write characters that its encoding lacks as escapes, as stderr does, and replace closed streams.

    Without a replacement the next file that is opened would become standard output. Writing to one fails.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= STDERR:
        pass
    os.close(descriptor)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # Python found it closed
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", errors=ESCAPES, closefd=False))
    if isinstance(sys.stdout, TextIOWrapper):  # not in a notebook
        sys.stdout.reconfigure(errors=ESCAPES)


def out(text: str) -> None:
    """Print data. Raises ``OSError`` where it cannot be written."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say(text: str) -> None:
    """Print a line of talk, escaped as ``printable`` does."""
    _write_talk(f"{printable(text)}\n")


def say_not_known(model: str) -> None:
    """Say that images which ``model`` was trained on would not be found out."""
    say(f"note: it is not known here which images {model} was trained on: figures on those are too good")


def _write_talk(text: str) -> None:
    """Write to stderr; where that fails, the command goes on without its talk."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Drop what a stream could not write; otherwise Python tries again when it exits."""
    with suppress(OSError, ValueError):
        descriptor = stream.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def complain(error: object) -> None:
    """Print an error as the one line that a person or a script looks for."""
    say(f"error: {' '.join(str(error).split())}")


def shortened(text: str, width: int = LONGEST_NAME) -> str:
    """Return what ``printable`` does, cut to ``width`` characters."""
    shown = printable(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def wrapped(text: str) -> list[str]:
    """Return the lines of an enumeration as wide as the terminal, broken after commas and never within a name."""
    width, lines = shutil.get_terminal_size().columns, [""]
    for part in re.split(r"(?<=, )", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append(INDENT)
        lines[-1] += part
    return [line.rstrip() for line in lines]


@contextmanager
def image_bar(total: int) -> Iterator[Callable[[], None]]:
    """Yield what is to be called once per image; it moves a bar on a terminal, and does nothing for a handful."""
    if total < BAR_FROM:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # Lines on stdout may pass through the bar, to stay above it, where both go to the terminal alone.
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a progress callback that draws a bar on a terminal and prints each phase once elsewhere."""
    if sys.stderr.isatty():
        yield from _drawn_bar()
    else:
        yield _plain_phases()


def _drawn_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    tasks = {}
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def show(phase: str, done_bytes: int, total_bytes: int | None) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(printable(phase))
            bar.update(tasks[phase], completed=done_bytes, total=total_bytes)

        yield show


def _plain_phases() -> Callable[[str, int, int | None], None]:
    seen = set()

    def show(phase: str, *_: int | None) -> None:
        if phase not in seen:
            seen.add(phase)
            say(phase)

    return show


class TrainingDisplay:
    """Watches a training: one live line for the epoch under way, one lasting line per finished epoch."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown_at = 0.0
        self._is_shown = False

    def __enter__(self) -> Self:
        say("epoch  train loss  accuracy  valid. loss  accuracy  best  patience  time, images")
        return self

    def __exit__(self, *reason: object) -> None:
        self._clear()

    def on_progress(self, progress: "Progress") -> None:
        """Rewrite the live line, a few times a second."""
        now = time.monotonic()
        if not self._live or now - self._shown_at < REFRESH_S:
            return
        self._shown_at = now
        done = f"step {progress.step}/{progress.steps}"
        self._rewrite(
            f"{progress.epoch:5}  {progress.train_loss:10.4f}  {100 * progress.train_accuracy:6.2f} %  {done:<21}  "
            f"{progress.best_epoch or '-':>4}  {progress.patience_left:8}  "
            f"{progress.seconds:.0f} s, {progress.images_per_s:,.0f}/s"
        )

    def on_epoch(self, record: "EpochRecord", progress: "Progress") -> None:
        """Print the line that stays."""
        self._clear()
        say(
            f"{record.epoch:5}  {record.train_loss:10.4f}  {100 * record.train_accuracy:6.2f} %  "
            f"{record.validation_loss:11.4f}  {100 * record.validation_accuracy:6.2f} %  "
            f"{progress.best_epoch or '-':>4}  {progress.patience_left:8}  "
            f"{progress.seconds:.{0 if progress.seconds >= 10 else 1}f} s, {progress.images_per_s:,.0f}/s"
        )

    def say(self, text: str) -> None:
        """Print talk in place of the live line."""
        self._clear()
        say(text)

    def _rewrite(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be rewritten
        _write_talk(f"\r{line}{CLEAR_REST}")
        self._is_shown = True

    def _clear(self) -> None:
        if self._is_shown:
            _write_talk(f"\r{CLEAR_REST}")
            self._is_shown = False
