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


COMMAND = "import threading, cifarnet.__main__ as entry, cifarnet.cli as cli\n"
IMPORTING = """
import importlib.abc, runpy
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("cifarnet", run_name="__main__")
"""
THREAD = """cli.app = lambda: None
before = signal.getsignal(signal.SIGINT)
thread = threading.Thread(target=cli.main)
thread.start()
thread.join()
assert signal.getsignal(signal.SIGINT) is before
"""
IN_A_CALLBACK = f"""
import gc
gc.callbacks.append(lambda *_: {CTRL_C})
gc.collect()
print("went on", flush=True)
os._exit(0)
"""
DEFERRING = f"""
with defer_interrupt():
    {CTRL_C}
    print("complete", flush=True)
print("went on", flush=True)
"""
INTERRUPTED = (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (f"{AS_STARTED}{COMMAND}cli.app = lambda: {CTRL_C}\nentry.main()", INTERRUPTED),
        (AS_STARTED + IMPORTING, INTERRUPTED),
        (
            f"{AS_STARTED}{COMMAND}import atexit\natexit.register(lambda: {CTRL_C})\ncli.app = list\nentry.main()",
            INTERRUPTED,
        ),
        (
            f"import signal; signal.signal(2, signal.SIG_IGN)\n{COMMAND}cli.app = lambda: {CTRL_C}\nentry.main()",
            (0, "", ""),
        ),
        (AS_STARTED + COMMAND + THREAD, (0, "", "")),
        (HANDLED + IN_A_CALLBACK, INTERRUPTED),  # in which an exception would be lost
        (HANDLED + DEFERRING, (130, "complete\n", "interrupted\n")),
        (f"{HANDLED}os.close(2)\n{CTRL_C}", (130, "", "")),
    ],
    ids=["command", "importing", "at exit", "ignored", "thread", "callback", "deferred", "closed stderr"],
)
def test_ctrl_c_ends_the_process_with_130_and_one_word_unless_it_is_ignored_or_deferred(tmp_path, program, expected):
    done = child(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == expected


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
    done = child(HANDLED + writing, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == INTERRUPTED
    assert all(is_temporary(path.name) for path in tmp_path.iterdir() if path.name != "run.json")
    write_atomically(tmp_path / "other", b"")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"run.json": "old", "other": ""}
