"""Output of the commands: data and tables on stdout, messages on stderr, live progress on a terminal."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from threading import Event
from typing import TYPE_CHECKING, Any, Self, TextIO

from cifarnet.errors import printable
from cifarnet.run.typed_json import json_text

if TYPE_CHECKING:
    from rich.live import Live

    from cifarnet.run.folder import EpochRecord
    from cifarnet.training.observer import Progress

ESCAPES = "backslashreplace"
"""Error handler for characters that an encoding lacks."""
LONGEST_NAME = 40
"""Maximum characters of a class name in a table or a note; --json and --csv have the full name."""
REFRESH_S = 0.2
"""Minimum seconds between two updates of the live line."""
BAR_FROM = 50
"""Minimum number of images for a progress bar."""
WIDEST = 80
"""Maximum width of a column in characters; longer cells are wrapped."""
UNLIMITED = 100_000
"""Width of the page in characters, so that rich never truncates a number to fit a terminal."""

_silent = Event()


def prepare_streams() -> None:
    """Make stdout escape characters that its encoding lacks, as stderr does, and replace closed streams.

    Without a replacement, the next opened file would become standard output. Writing to a replacement fails.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:  # that of stderr
        pass
    os.close(descriptor)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # it was closed when Python started
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", errors=ESCAPES, closefd=False))
    if isinstance(sys.stdout, TextIOWrapper):  # False in a notebook
        sys.stdout.reconfigure(errors=ESCAPES)


def out(text: str) -> None:
    """Print data to stdout. Raises ``OSError`` if it cannot be written."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def out_lines(lines: Iterable[str]) -> None:
    """Print lines to stdout, escaped as ``printable`` does."""
    out("\n".join(map(printable, lines)))


def out_answer(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print the answer of a command to stdout: one JSON document, or lines."""
    if as_json:
        out_json(document)
    else:
        out_lines(lines)


def out_json(document: Any) -> None:
    """Print one JSON document to stdout."""
    out(json_text(document))


def be_silent() -> None:
    """Print nothing but errors from now on, because another worker prints the same."""
    _silent.set()


def is_silent() -> bool:
    """Return whether ``be_silent`` was called."""
    return _silent.is_set()


def say(text: str) -> None:
    """Print a message to stderr, escaped as ``printable`` does."""
    if not _silent.is_set():
        _write_line(text)


def say_not_known(model: str) -> None:
    """Warn that training images of ``model`` among those evaluated cannot be detected."""
    say(f"note: the training images of {model} are unknown; metrics on them would be too optimistic")


@contextmanager
def _optional_messages() -> Iterator[None]:
    """Continue without messages if stderr cannot be written."""
    try:
        yield
    except OSError:
        discard(sys.stderr)


def _write_line(text: str) -> None:
    with _optional_messages():
        print(printable(text), file=sys.stderr, flush=True)


def discard(stream: TextIO) -> None:
    """Discard the buffer of a stream that cannot be written, or Python would try again at exit."""
    with suppress(OSError, ValueError):
        descriptor = stream.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def complain(error: object) -> None:
    """Print an error as one line that starts with ``error: ``."""
    _write_line(f"error: {' '.join(str(error).split())}")


def shortened(text: str, width: int = LONGEST_NAME) -> str:
    """Return ``text`` escaped by ``printable`` and cut to ``width`` characters."""
    shown = printable(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> list[str]:
    """Return the lines of a table whose first ``texts`` columns are aligned left, the others right.

    Columns named "" throughout have no header line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(head))
    for place, name in enumerate(head):
        cell = Text(printable(name))
        drawn.add_column(cell, justify="left" if place < texts else "right", overflow="fold", max_width=WIDEST)
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=UNLIMITED, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(drawn)
    return [line.rstrip() for line in captured.get().splitlines()]


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction, 0 to 1, as a percentage, or a dash for None."""
    return "-" if fraction is None else f"{100 * fraction:.{decimals}f}%"


@contextmanager
def image_bar(total: int) -> Iterator[Callable[[], None]]:
    """Yield a callback to be called once per image, which advances a progress bar on a terminal."""
    if total < BAR_FROM:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # Lines on stdout are printed above the bar if both go to the terminal.
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a progress callback that draws a bar on a terminal and prints each phase once elsewhere."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def say_once(phase: str, *_: int | None) -> None:
            if phase not in seen:
                seen.add(phase)
                say(phase)

        yield say_once
        return
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


class TrainingDisplay:
    """Training observer that prints a live line for the current epoch and a line per finished epoch."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        from cifarnet.training.observer import HEADER  # imports numpy, which --help does not need

        say(HEADER)
        if sys.stderr.isatty() and not is_silent():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True, redirect_stdout=False)
        self._show("compiling the first training step …")  # about 30 seconds on JAX
        return self

    def __exit__(self, *reason: object) -> None:
        self._clear()

    def on_progress(self, progress: "Progress") -> None:
        """Update the live line, a few times a second."""
        now = time.monotonic()
        if now - self._shown_at >= REFRESH_S:
            self._shown_at = now
            self._show(progress.line())

    def on_epoch(self, record: "EpochRecord", progress: "Progress") -> None:
        """Print the line of a finished epoch."""
        self.say(progress.line(record))

    def say(self, text: str) -> None:
        """Print a message in place of the live line."""
        self._clear()
        say(text)

    def _show(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text

            with _optional_messages():
                self._live.update(Text(text, no_wrap=True))
                self._live.start()
                self._live.console.show_cursor()  # a killed process would leave the terminal without one
                self._live.refresh()

    def _clear(self) -> None:
        if self._live is not None:
            with _optional_messages():
                self._live.stop()
