"""The app in C++ gives the golden outputs and says one line about a file that it cannot use."""

import base64
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from cifarnet.apps.conformance import check_outputs

from .conftest import EXPORT, require


def compiled(folder):
    """Return the program, compiled as the README of the apps says."""
    compiler, package = shutil.which("g++"), find_spec("openvino")
    require(compiler, "g++", "apt-get install g++")
    require(package, "OpenVINO", "pip install openvino")
    openvino, program = Path(package.origin).parent, folder / "classify"
    libraries = [*(openvino / "libs").glob("libopenvino.so.*"), f"-Wl,-rpath,{openvino / 'libs'}"]
    source = EXPORT / "cpp" / "classify.cpp"
    command = [compiler, "-std=c++17", "-O2", source, "-o", program, f"-I{openvino / 'include'}", *libraries]
    subprocess.run(command, check=True, timeout=300)
    return program


def run(app, model, images):
    return subprocess.run([app, model], input=images, capture_output=True, check=False, timeout=60)


def test_the_app_conforms_takes_a_file_without_calibration_and_says_one_line_about_what_it_cannot_use(
    golden, entries, tmp_path
):
    app = compiled(tmp_path)
    done = run(app, golden / "model.onnx", b"".join(base64.b64decode(each["pixels"]) for each in entries.values()))
    lines = done.stdout.decode().splitlines()
    outputs = {name: {"logits": list(map(float, line.split()))} for name, line in zip(entries, lines[::2], strict=True)}
    assert check_outputs(outputs, golden).conforms
    outputs["exact.png"]["logits"][0] += 1e-3
    assert not check_outputs(outputs, golden).conforms
    assert lines[1] == f"frog {100 * np.max(entries['exact.png']['calibrated']):.1f}%"

    model = onnx.load(golden / "model.onnx")  # without calibration, as `export_model` writes it
    assert model.graph.output.pop().name == "calibrated"
    onnx.save(model, tmp_path / "model.onnx")
    shutil.copy(golden / "model.json", tmp_path)
    done = run(app, tmp_path / "model.onnx", base64.b64decode(entries["exact.png"]["pixels"]))
    assert (done.returncode, done.stdout.decode().split()[-2]) == (0, "frog")

    (tmp_path / "model.json").write_text('{"labels":["cat","dog"]}')
    for path, images, line in (
        (golden / "model.onnx", b"abc", "the last image has 3 bytes; expected 3072, height * width * 3: convert it"),
        (tmp_path / "model.onnx", b"", f"{tmp_path}/model.onnx does not match the labels beside it"),
        (tmp_path / "gone.onnx", b"", f"{tmp_path}/gone.onnx cannot be used ("),
    ):
        done = run(app, path, images)
        assert (done.returncode, done.stdout) == (1, b"")
        (found,) = done.stderr.decode().splitlines()
        assert found.startswith(f"error: {line}")
