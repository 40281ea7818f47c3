"""The built wheel predicts with the base install alone, without packages for training."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import COLOURS

pytestmark = pytest.mark.nightly  # pip takes the dependencies from the network
PROJECT = Path(__file__).parents[2]
ABSENT = ("keras", "onnx", "h5py", "torch", "jax", "tensorflow", "matplotlib", "pytest")
"""Packages that are not in the base install."""


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a program that knows nothing of the source tree."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERAS_BACKEND")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def called(*command: object, cwd: Path) -> str:
    """Run a program that has to succeed, and return its stdout."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def base_install(tmp_path_factory) -> Path:
    """Return the folder of programs of a new environment in which the built wheel and its dependencies are alone."""
    folder = tmp_path_factory.mktemp("wheel")
    called(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, PROJECT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    called(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "--disable-pip-version-check")
    called(*pip, "install", "--quiet", "--constraint", PROJECT / "constraints.txt", wheel, cwd=folder)
    return programs


def test_the_base_install_predicts(base_install, model_path, photos, tmp_path):
    Image.new("RGB", (500, 300), (0, 0, 250)).save(tmp_path / "sky.png")
    printed = called(base_install / "cifarnet", "predict", model_path, "sky.png", photos, "--json", cwd=tmp_path)
    found = [(each["file"], each["label"]) for each in map(json.loads, printed.splitlines())]
    assert found[:2] == [("sky.png", "blue"), (f"{photos}/a.png", "red")]
    assert len(found) == 6


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "--data", "synthetic"], "tensorflow"),
        (["train", "--data", "synthetic", "--backend", "torch"], "torch"),
        (["train", "--data", "synthetic", "--track", "tensorboard"], "tensorboard"),
        (["inspect", "model.onnx"], "evidence"),
        (["evaluate", "model.onnx", "--images", "classes"], "evidence"),
        (["robustness", "model.onnx", "--data", "synthetic"], "evidence"),
    ],
)
def test_the_base_install_names_the_extra_that_a_command_lacks_in_one_line(
    base_install, model_path, photos, tmp_path, arguments, extra
):
    for label in COLOURS:
        shutil.copytree(photos, tmp_path / "classes" / label)
    done = run(base_install / "cifarnet", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    *before, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f'pip install ".[{extra}]"' in line
    assert all(each == "decoding" or each.startswith("note: ") for each in before)


def test_the_base_install_is_the_wheel_knows_its_types_and_has_nothing_that_trains(base_install, tmp_path):
    program = "from pathlib import Path; import cifarnet; print(Path(cifarnet.__file__).parent)"
    place = Path(called(base_install / "python", "-c", program, cwd=tmp_path).strip())
    assert place.is_relative_to(base_install.parent)
    assert (place / "py.typed").exists()
    program = f"from importlib.util import find_spec; print([name for name in {ABSENT} if find_spec(name)])"
    assert called(base_install / "python", "-c", program, cwd=tmp_path).strip() == "[]"


DEMO = """
import json
from cifarnet.apps import package_data
from cifarnet.apps.demo import open_demo
folder = package_data() / "golden"
with open_demo(folder / "model.onnx", 0) as server:
    print(json.dumps(server.classify((folder / "images" / "exact.png").read_bytes())["probabilities"]))
"""


def test_the_base_install_classifies_for_the_page(base_install, tmp_path):
    expected = json.loads((PROJECT / "export" / "golden" / "golden.json").read_text())["images"][0]["calibrated"]
    assert json.loads(called(base_install / "python", "-c", DEMO, cwd=tmp_path)) == pytest.approx(expected, abs=1e-5)


def test_the_base_install_judges_an_app_by_the_golden_images_that_it_brings(base_install, tmp_path):
    entries = json.loads((PROJECT / "export" / "golden" / "golden.json").read_text())["images"]
    answers = {Path(entry["file"]).name: entry["logits"] for entry in entries}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    printed = called(base_install / "cifarnet", "conformance", "answers.json", cwd=tmp_path)
    assert printed == f"conforms: logits of {len(entries)} images, largest difference 0.0e+00\n"
