"""README and docs: tables are the stored results, Python examples run, commands parse, links lead somewhere."""

import importlib.util
import os
import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from cifarnet.cli import program
from cifarnet.dataset import CIFAR10_LABELS
from tests.photos import make_noise
from tests.processes import printed, python

PROJECT = Path(__file__).parents[1]
PAGES = (*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("*/README.md"))


def test_the_tables_are_those_of_the_stored_results():
    printed("-m", "benchmarks.documents", "--check", cwd=PROJECT)


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


def test_each_printed_command_takes_its_options_and_others_are_found():
    assert commands()
    assert [line for line in commands() if exit_code_of_help(line) != 0] == []
    assert exit_code_of_help("cifarnet train --recipes fast") == exit_code_of_help("cifarnet teach") == 2


def test_each_printed_module_exists():
    text = "\n".join(page.read_text() for page in PAGES)
    names = set(re.findall(r"python -m (benchmarks[.\w]*)", text))
    assert names
    assert not [name for name in names if importlib.util.find_spec(name) is None]


def run_examples(folder: Path, first: int, last: int, other: dict[str, str]) -> list[str]:
    """Run examples in a folder, with other words in place of printed ones; return the lines that they printed."""
    examples = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)
    program = "".join(examples[first : last + 1])
    for words, real in other.items():
        assert words in program
        program = program.replace(words, real)
    # Of the backends torch compiles least.
    done = python("-c", program, cwd=folder, env=os.environ | {"KERAS_BACKEND": "torch"})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_example_for_apps_runs_as_printed_but_for_its_files(tmp_path):
    golden = PROJECT / "export" / "golden"
    files = {"runs/latest/model.onnx": str(golden / "model.onnx"), "cat.png": str(golden / "images/exact.png")}
    label, probability = run_examples(tmp_path, 0, 0, files)[0].split()
    assert label in CIFAR10_LABELS
    assert 0 < float(probability) < 1


def test_the_examples_with_and_without_keras_run_as_printed_but_for_their_images_and_length(tmp_path):
    make_noise(tmp_path / "photos", labels=CIFAR10_LABELS)
    images = {'"synthetic"': '"photos"', '"cifar10"': '"photos"'}
    lines = run_examples(tmp_path, 1, 2, images | {"epochs=3)": "epochs=1)", "epochs=1000": "epochs=1"})
    assert any("accuracy" in line and line.endswith("model.onnx") for line in lines)
    assert (tmp_path / "model.onnx").exists()
