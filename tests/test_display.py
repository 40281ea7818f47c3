"""What a person sees of a training: a live line that says where it stands, and talk that does not run into it."""

import io
import os
import re
import shlex
import subprocess
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifarnet.cli.display import TrainingDisplay, download_bar, say, shortened
from cifarnet.cli.train import _announced, _say_result
from cifarnet.errors import printable
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord
from tests.records import FINISHED

HEAD = "epoch  train loss  accuracy  valid. loss  accuracy  best  patience  time, images"
PROGRESS = SimpleNamespace(
    epoch=12,
    step=524,
    steps=1167,
    train_loss=1.25,
    train_accuracy=0.5,
    seconds=100.0,
    images_per_s=1000.0,
    best_epoch=9,
    patience_left=17,
)
RECORD = SimpleNamespace(
    epoch=12, train_loss=1.25, train_accuracy=0.5, validation_loss=1.5, validation_accuracy=0.4375, learning_rate=1e-3
)


class Terminal(io.StringIO):
    """A terminal that knows carriage returns and how to clear the rest of a line."""

    def isatty(self):
        return True

    @property
    def lines(self):
        shown = []
        for written in self.getvalue().split("\n"):
            line = ""
            for part in written.split("\r"):
                text = part.replace("\x1b[K", "")
                line = text if text != part else text + line[len(text) :]
            shown.append(line)
        return shown


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


@contextmanager
def shown_on(terminal):
    with redirect_stderr(terminal), TrainingDisplay() as display:
        yield display


def test_the_live_line_says_where_the_epoch_stands_in_the_place_of_what_is_not_known_yet(terminal):
    with shown_on(terminal) as display:
        display.on_progress(PROGRESS)
        head, live = terminal.lines
    assert head == HEAD
    assert live == "   12      1.2500    50.00%  step 524/1167             9        17  100 s, 1,000/s"[:79]
    assert live.index("step") == head.index("valid. loss")
    assert live.index("9 ") == head.index("best") + 3


def test_the_line_of_a_finished_epoch_takes_the_place_of_the_live_one(terminal):
    with shown_on(terminal) as display:
        display.on_progress(PROGRESS)
        display.on_epoch(RECORD, PROGRESS)
    assert terminal.lines == [
        HEAD,
        "   12      1.2500    50.00%       1.5000    43.75%     9        17  100 s, 1,000/s",
        "",
    ]


def test_nothing_is_left_of_the_live_line_in_the_end(terminal):
    with shown_on(terminal) as display:
        display.on_progress(PROGRESS)
    assert terminal.lines == [HEAD, ""]


def test_talk_of_an_end_takes_the_place_of_the_live_line_and_of_what_the_terminal_wrote_for_ctrl_c(terminal):
    with shown_on(terminal) as display:
        display.on_progress(PROGRESS)
        terminal.write("^C")
        assert _announced(True, display)
    assert terminal.lines == [HEAD, "stopping: saving, then evaluating the best weights so far", ""]


def test_elsewhere_there_is_no_live_line():
    plain = io.StringIO()
    with shown_on(plain) as display:
        display.on_progress(PROGRESS)
        display.say("stopping")
    assert plain.getvalue() == f"{HEAD}\nstopping\n"


def test_a_training_goes_on_where_its_talk_cannot_be_written():
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
def test_what_would_command_a_terminal_is_escaped_and_nothing_else(capsys, text, expected):
    assert printable(text) == expected
    say(text)
    assert capsys.readouterr().err == f"{expected}\n"


def test_a_long_name_is_cut_after_it_was_escaped():
    assert shortened("\n" * 10) == "\\n" * 10
    assert shortened("\n" * 250) == "\\n" * 19 + "\\…"


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        ({"status": "finished", "why_stopped": "epochs"}, ["cifarnet", "export", "my runs/it's", "--onnx"]),
        ({"status": "interrupted", "why_stopped": "time limit"}, ["cifarnet", "train", "--resume", "my runs/it's"]),
    ],
)
def test_the_next_command_can_be_pasted_into_a_shell(capsys, facts, command):
    _say_result(Run(Path("my runs/it's")), RunRecord.from_json(FINISHED | facts))
    assert shlex.split(capsys.readouterr().err.splitlines()[-1].partition(":")[2]) == command


@pytest.mark.parametrize(
    "name", ["my run", "it's", "two\nlines\\n", "\x1b[31mred's", "half \udcff0", "right \u202eot left"]
)
def test_bash_gets_the_path_itself_from_a_told_command(capsys, name):
    facts = {"epochs": 0, "best_epoch": None, "metrics": {}, "status": "interrupted", "why_stopped": "time limit"}
    _say_result(Run(Path(name)), RunRecord.from_json(FINISHED | facts))
    told = capsys.readouterr().err.splitlines()[-1].partition("--resume ")[2]
    assert subprocess.check_output(["bash", "-c", f"printf %s {told}"]) == os.fsencode(name)


def test_the_bar_of_a_download_shows_a_phase_as_it_is_but_for_what_commands_the_terminal(terminal):
    with redirect_stderr(terminal), download_bar() as progress:
        progress("gave up on /a\x1b]0;b [red]c", 1, 2)
    assert r"gave up on /a\x1b]0;b [red]c" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\s+(?=\S)", " ", terminal.getvalue())


def test_the_end_of_a_resumed_training_tells_of_an_earlier_export(capsys, tmp_path):
    for content, notes in ((None, 0), (b"exported before", 1)):
        if content:
            (tmp_path / "model.onnx").write_bytes(content)
        _say_result(Run(tmp_path), RunRecord.from_json(FINISHED))
        lines = capsys.readouterr().err.splitlines()
        assert sum(line.startswith("note: model.onnx and any report were made before") for line in lines) == notes
