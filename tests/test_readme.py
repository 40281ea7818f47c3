"""README and docs: tables are the stored results, Python examples run, commands parse, links lead somewhere."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifarnet.cli import program
from cifarnet.dataset import CIFAR10_LABELS

PROJECT = Path(__file__).parents[1]
PAGES = (*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md"))


def test_the_tables_are_those_of_the_stored_results():
    command = [sys.executable, "-m", "benchmarks.documents", "--check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def links() -> list[tuple[Path, str]]:
    found = ((page, target) for page in PAGES for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()))
    return [(page, target) for page, target in found if not target.startswith("https://")]


def test_the_pages_have_links_and_none_is_dead():
    assert links()
    dead = [(page.name, target) for page, target in links() if not (page.parent / target.partition("#")[0]).exists()]
    assert not dead


def commands() -> list[str]:
    blocks = [block for page in PAGES for block in re.findall(r"```(?:\w*)\n(.*?)```", page.read_text(), re.DOTALL)]
    text = "\n".join(blocks)
    return re.findall(r"^(?:\$ )?(?:\S+=\S+ )?(?:\.venv/bin/)?(cifarnet .+)$", text, re.MULTILINE)


def exit_code_of_help(line: str) -> int:
    """Return 0 for a command that exists and takes the options of ``line``, and 2 for another."""
    _, *arguments = shlex.split(line, comments=True)
    return CliRunner().invoke(program(), [*arguments, "--help"]).exit_code


@pytest.mark.parametrize("line", commands())
def test_each_printed_command_takes_its_options(line):
    assert exit_code_of_help(line) == 0


def test_a_command_with_an_unknown_option_or_name_is_found():
    assert exit_code_of_help("cifarnet train --recipes fast") == 2
    assert exit_code_of_help("cifarnet teach") == 2


def test_each_printed_module_exists():
    text = "\n".join(page.read_text() for page in PAGES)
    names = set(re.findall(r"python -m (benchmarks[.\w]*)", text))
    assert names
    assert not [name for name in names if importlib.util.find_spec(name) is None]


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)


def test_the_example_for_apps_runs_as_printed_but_for_its_files():
    example, *_ = examples()
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
    _, example, _ = examples()
    printed, short = "epochs=3)", "epochs=1)"
    assert printed in example
    done = subprocess.run(
        [sys.executable, "-c", example.replace(printed, short)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert done.stdout.rstrip().endswith("model.onnx")
    assert done.stderr == ""


def test_the_keras_example_runs_as_printed_but_for_its_data_and_length(tmp_path):
    *_, example = examples()
    for printed, short in (('"cifar10"', '"synthetic"'), ("epochs=1000", "epochs=1")):
        assert printed in example
        example = example.replace(printed, short)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.onnx").exists()
