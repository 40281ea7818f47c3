"""Output during training: a live line with the progress, and messages that replace it."""

import io
import os
import re
import subprocess
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifarnet.cli.display import TrainingDisplay, download_bar, say, shortened
from cifarnet.cli.notes import by_extension, say_result
from cifarnet.cli.train import _announced
from cifarnet.errors import printable
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord
from cifarnet.training.observer import Progress, ProgressPrinter
from tests.records import FINISHED

HEAD = "epoch  train loss  accuracy  valid. loss  accuracy  best  patience  time, images"
PROGRESS = Progress(
    best_loss=1.4,
    epoch=12,
    step=524,
    steps=1167,
    train_loss=1.25,
    train_accuracy=0.5,
    seconds=100.0,
    images_per_s=1000.0,
    best_epoch=9,
    patience_left=17,
    workers=1,
)
RECORD = SimpleNamespace(
    epoch=12, train_loss=1.25, train_accuracy=0.5, validation_loss=1.5, validation_accuracy=0.4375, learning_rate=1e-3
)


class Terminal(io.StringIO):
    """A terminal that knows new lines, carriage returns, the cursor upwards, and how to clear a line."""

    def isatty(self):
        return True

    @property
    def lines(self):
        shown, row, column = [""], 0, 0
        for part in re.split(r"(\n|\r|\x1b\[[0-9?]+[A-Za-z])", self.getvalue()):
            if part == "\n":
                row, column = row + 1, 0
                shown += [""] * (row == len(shown))
            elif part == "\r":
                column = 0
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                shown[row] = ""
            elif part not in ("\x1b[?25l", "\x1b[?25h"):  # hiding and showing the cursor
                before, after = shown[row][:column].ljust(column), shown[row][column + len(part) :]
                shown[row], column = before + part + after, column + len(part)
        return shown


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


@contextmanager
def shown_on(terminal):
    with redirect_stderr(terminal), TrainingDisplay() as display:
        yield display


def test_the_live_line_shows_the_progress_of_the_epoch_until_the_line_of_the_finished_one_replaces_it(terminal):
    with shown_on(terminal) as display:
        assert terminal.lines == [HEAD, "compiling the first training step …"]
        display.on_progress(PROGRESS)
        head, live = terminal.lines
        display.on_epoch(RECORD, PROGRESS)
    assert head == HEAD
    assert live == "   12      1.2500    50.00%  step 524/1167             9        17  100 s, 1,000/s"[:80]
    assert live.index("step") == head.index("valid. loss")
    assert live.index("9 ") == head.index("best") + 3
    assert terminal.lines[1:] == [
        "   12      1.2500    50.00%       1.5000    43.75%     9        17  100 s, 1,000/s",
        "",
    ]


def test_a_message_replaces_the_live_line_and_the_echo_of_ctrl_c(terminal):
    with shown_on(terminal) as display:
        display.on_progress(PROGRESS)
        terminal.write("^C")
        assert _announced(True, display)
    assert terminal.lines == [HEAD, "stopping: saving, then evaluating the best weights so far", ""]


def test_there_is_no_live_line_without_a_terminal():
    plain = io.StringIO()
    with shown_on(plain) as display:
        display.on_progress(PROGRESS)
        display.say("stopping")
    assert plain.getvalue() == f"{HEAD}\nstopping\n"


def test_messages_that_cannot_be_written_do_not_stop_training():
    with Path("/dev/full").open("w", encoding="utf-8") as full, shown_on(full) as display:
        display.on_epoch(RECORD, PROGRESS)
        display.say("stopping")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('it\'s "Größe", 蓝\\', 'it\'s "Größe", 蓝\\'),
        ('it\'s "two"\nlines\r', 'it\'s "two"\\nlines\\r'),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("right \u202eot left", "right \\u202eot left"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_only_control_characters_are_escaped(capsys, text, expected):
    assert printable(text) == expected
    assert shortened("\n" * 250) == "\\n" * 19 + "\\…"  # cut after escaping
    say(text)
    assert capsys.readouterr().err == f"{expected}\n"


@pytest.mark.parametrize(
    "name", ["my runs/it's", "two\nlines\\n", "\x1b[31mred's", "half \udcff0", "right \u202eot left"]
)
def test_bash_parses_the_path_in_a_printed_command(capsys, name):
    unfinished = {"epochs": 0, "best_epoch": None, "metrics": {}, "status": "interrupted", "why_stopped": "time limit"}
    for facts, command in (({}, "cifarnet export "), (unfinished, "cifarnet train --resume ")):
        say_result(Run(Path(name)), RunRecord.from_json(FINISHED | facts))
        shown = capsys.readouterr().err.splitlines()[-1].partition(command)[2].removesuffix(" --onnx")
        assert subprocess.check_output(["bash", "-c", f"printf %s {shown}"]) == os.fsencode(name)


def test_skipped_files_are_counted_by_extension_with_the_way_to_read_heic():
    assert by_extension({".txt": 1, "": 2, ".mov": 2000}) == "2,000 .mov, 2 without extension, 1 .txt"
    shown = '1 .heic (for HEIC: pip install ".[heic]" in your clone of cifarnet)'
    assert by_extension({".heic": 1}) == shown


def test_the_download_bar_escapes_its_phase(terminal):
    with redirect_stderr(terminal), download_bar() as progress:
        progress("gave up on /a\x1b]0;b [red]c", 1, 2)
    assert r"gave up on /a\x1b]0;b [red]c" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\s+(?=\S)", " ", terminal.getvalue())


def test_an_earlier_export_is_noted_after_training(capsys, tmp_path):
    for content, notes in ((None, 0), (b"exported before", 1)):
        if content:
            (tmp_path / "model.onnx").write_bytes(content)
        say_result(Run(tmp_path), RunRecord.from_json(FINISHED))
        lines = capsys.readouterr().err.splitlines()
        assert sum(line.startswith("note: model.onnx and any report are of earlier weights") for line in lines) == notes


def test_a_printer_prints_the_same_lines_from_python(capsys):
    printer = ProgressPrinter()
    printer.on_progress(PROGRESS)
    printer.on_epoch(RECORD, PROGRESS)
    printer.on_epoch(RECORD, replace(PROGRESS, epoch=13))
    line = "      1.2500    50.00%       1.5000    43.75%     9        17  100 s, 1,000/s"
    assert capsys.readouterr().out.splitlines() == [HEAD, f"   12{line}", f"   13{line}"]
