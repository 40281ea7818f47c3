"""The README says what is so: its tables are the stored results, its Python example runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_the_tables_are_those_of_the_stored_results():
    command = [sys.executable, "-m", "benchmarks.readme", "--check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_python_example_runs_as_printed_but_for_its_length(tmp_path):
    (_, example) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)
    short = example.replace("train=settings.train", "train=replace(settings.train, epochs=1)")
    assert short != example
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", "from dataclasses import replace\n" + short],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
