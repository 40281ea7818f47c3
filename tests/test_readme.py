"""The README says what is so: its tables are the stored results, its Python example runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

from cifarnet.spec import CIFAR10_LABELS

PROJECT = Path(__file__).parents[1]


def test_the_tables_are_those_of_the_stored_results():
    command = [sys.executable, "-m", "benchmarks.readme", "--check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)


def test_the_example_for_apps_runs_as_printed_but_for_its_files():
    example, _ = examples()
    golden = PROJECT / "export" / "golden"
    for printed, real in (("runs/latest/model.onnx", golden / "model.onnx"), ("cat.png", golden / "images/exact.png")):
        assert printed in example
        example = example.replace(printed, str(real))
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    label, probability, *_ = done.stdout.split()
    assert label in CIFAR10_LABELS
    assert 0 < float(probability) < 1


def test_the_python_example_runs_as_printed_but_for_its_length(tmp_path):
    _, example = examples()
    printed, short = "replace(settings.train, epochs=3)", "replace(settings.train, epochs=1)"
    assert printed in example
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", example.replace(printed, short)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
