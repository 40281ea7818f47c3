"""Ctrl-C outside the training loop ends the process at once with exit code 130; a later write removes leftovers."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from cifarnet.atomic import is_temporary, write_atomically

# A suite in the background hands down that Ctrl-C is to be ignored.
AS_STARTED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
CTRL_C = "signal.raise_signal(signal.SIGINT)"
HANDLED = AS_STARTED + "from cifarnet.interrupt import defer_interrupt, exit_on_interrupt; exit_on_interrupt()\n"


def child(program, folder, **streams):
    """Run the lines of a program in a folder."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-c", program], cwd=folder, text=True, check=False, **streams)


def assert_interrupted(done):
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("entry", ["cifarnet.cli", "cifarnet.__main__"])
def test_a_command_ends_with_130_and_one_word(tmp_path, entry):
    assert_interrupted(
        child(f"{AS_STARTED}import {entry}, cifarnet.cli as cli\ncli.app = lambda: {CTRL_C}\n{entry}.main()", tmp_path)
    )


IMPORTING = """
import importlib.abc, runpy
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("cifarnet", run_name="__main__")
"""


def test_a_command_that_is_still_being_imported_ends_so_too(tmp_path):
    assert_interrupted(child(AS_STARTED + IMPORTING, tmp_path))


IN_A_CALLBACK = f"""
import gc
gc.callbacks.append(lambda *_: {CTRL_C})
gc.collect()
print("went on", flush=True)
os._exit(0)
"""


def test_a_callback_in_which_an_exception_would_be_lost_does_not_lose_it(tmp_path):
    assert child(AS_STARTED + IN_A_CALLBACK, tmp_path).stdout == "went on\n"  # what Python does by itself
    assert_interrupted(child(HANDLED + IN_A_CALLBACK, tmp_path))


def test_the_last_breath_of_the_process_counts_too(tmp_path):
    program = f"{AS_STARTED}import atexit, cifarnet.cli as cli\natexit.register(lambda: {CTRL_C})\n"
    assert_interrupted(child(f"{program}cli.app = lambda: None\ncli.main()", tmp_path))


def test_where_ctrl_c_is_ignored_it_stays_so(tmp_path):
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = child(f"{ignored}import cifarnet.cli as cli\ncli.app = lambda: {CTRL_C}\ncli.main()", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_may_run_a_command_and_takes_ctrl_c_from_nobody(tmp_path):
    program = (
        "import threading, cifarnet.cli as cli\ncli.app = lambda: None\nbefore = signal.getsignal(signal.SIGINT)\n"
    )
    program += "thread = threading.Thread(target=cli.main)\nthread.start()\nthread.join()\n"
    program += "assert signal.getsignal(signal.SIGINT) is before"
    done = child(AS_STARTED + program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_on_a_terminal_the_live_line_is_cleared_and_the_cursor_shown(tmp_path):
    ours, theirs = pty.openpty()
    done = child(f"{HANDLED}sys.stderr.write('45 of 100')\n{CTRL_C}", tmp_path, stderr=theirs)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # so Linux ends it, others with nothing more to read
        while part := os.read(ours, 1000):
            said += part
    os.close(ours)
    assert (done.returncode, said) == (130, b"45 of 100\r\x1b[K\x1b[?25hinterrupted\r\n")


def test_a_closed_stderr_does_not_keep_it_from_ending(tmp_path):
    done = child(f"{HANDLED}os.close(2)\n{CTRL_C}", tmp_path)
    assert (done.returncode, done.stderr) == (130, "")


# Files that are being written


WRITING = """
from pathlib import Path
from cifarnet.atomic import write_atomically
os.fsync = lambda _: signal.raise_signal(signal.SIGINT)
write_atomically(Path("run.json"), b"new")
"""
LINKING = """
from pathlib import Path
from cifarnet.run.find import point_latest
from cifarnet.run.folder import Run
Path.replace = lambda *_: signal.raise_signal(signal.SIGINT)
point_latest(Run(Path("run").absolute()))
"""
BEGINNING = """
from datetime import datetime
from pathlib import Path
from cifarnet.run.find import create_run
create_run(Path(), "seed", "jax", datetime.now(), lambda run: signal.raise_signal(signal.SIGINT))
"""


@pytest.mark.parametrize("writing", [WRITING, LINKING, BEGINNING], ids=["file", "latest", "run"])
def test_what_was_there_stays_and_the_next_write_removes_what_is_incomplete(tmp_path, writing):
    (tmp_path / "run.json").write_text("old")
    assert_interrupted(child(HANDLED + writing, tmp_path))
    assert all(is_temporary(path.name) for path in tmp_path.iterdir() if path.name != "run.json")
    write_atomically(tmp_path / "other", b"")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"run.json": "old", "other": ""}


DEFERRING = f"""
with defer_interrupt():
    {CTRL_C}
    print("complete", flush=True)
print("went on", flush=True)
"""


def test_it_waits_for_steps_that_belong_together(tmp_path):
    done = child(HANDLED + DEFERRING, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "complete\n", "interrupted\n")
