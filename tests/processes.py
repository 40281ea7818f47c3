"""Python in a process of its own."""

import subprocess
import sys


def python(*arguments: object, **options) -> subprocess.CompletedProcess:
    """Run Python and return its exit code and what it printed."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, **options)


def printed(*arguments: object, **options) -> str:
    """Run Python, which has to succeed, and return its stdout."""
    done = python(*arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
