"""Every dependency has a minimum that was tested; `make` refuses other Pythons and installs nothing on the system."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.minimums import pins, requirements

PROJECT = Path(__file__).parents[1]


def pinned() -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


def test_each_requirement_has_a_minimum_and_nothing_else_and_the_suite_runs_with_one_that_it_allows():
    """The minimum of a tool for development is its version in the constraints."""
    for development in (False, True):
        for line in requirements(development=development):
            requirement = Requirement(line)
            version = pinned()[requirement.name.lower()]
            assert [each.operator for each in requirement.specifier] == [">="], line
            assert requirement.specifier.contains(version), line
            assert not development or str(requirement.specifier) == f">={version}"


def test_the_minimums_are_the_pins_of_the_packages_for_users():
    assert {"onnxruntime==1.21", "scikit-learn==1.7"} <= set(pins())
    assert not [line for line in pins() if ">=" in line or line.startswith(("cifarnet", "pytest"))]


def pythons() -> list[str]:
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [each.rpartition(" ")[2] for each in classifiers if re.search(r":: 3\.\d+$", each)]


def test_the_readme_names_the_pythons():
    *older, newest = pythons()
    assert f"Python {', '.join(older)} or {newest}" in (PROJECT / "README.md").read_text()


@pytest.fixture
def make(tmp_path):
    """Return a function that makes the environment with a Python that says to be another version."""
    if not shutil.which("make"):
        pytest.skip("make is missing")

    def called(version: str) -> subprocess.CompletedProcess:
        python = tmp_path / "python"
        lie = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0, 'final', 0); "
        python.write_text(
            f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{lie}$2"\n'
            f'exec {sys.executable} "$@" --without-pip\n'  # which takes five seconds
        )
        python.chmod(0o755)
        venv = tmp_path / "venv"
        command = ["make", f"VENV={venv}", f"PYTHON={python}", str(venv / "bin/python")]
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # a make may run us
        return subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)

    return called


def test_make_takes_a_python_that_was_tested_and_refuses_another_in_one_line(make, tmp_path):
    done, newest = make("3.10"), pythons()[-1]
    assert done.returncode != 0
    assert done.stdout.splitlines() == [
        f"error: {tmp_path}/python is 3.10; expected a Python that was tested ({' '.join(pythons())}): "
        f"make PYTHON=/path/to/python{newest}"
    ]
    assert not (tmp_path / "venv").exists()
    done = make(newest)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "venv/bin/python").exists()


def test_make_tells_root_that_chromium_is_missing_and_does_not_install_it(tmp_path):
    if not shutil.which("make"):
        pytest.skip("make is missing")
    for name, line in {"apt-get": f"touch {tmp_path}/installed", "id": "echo 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    command = [shutil.which("make"), "consumers"]
    done = subprocess.run(command, cwd=PROJECT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert "Chromium is missing" in done.stdout
    assert not (tmp_path / "installed").exists()
