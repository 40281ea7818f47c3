"""The apps for Python and for Node give the golden outputs, and a wrong one would be noticed."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tests.runtime import models

from cifarnet.apps.conformance import check_outputs
from cifarnet.preprocessing import pixels
from cifarnet.runtime import Classifier

EXPORT = Path(__file__).parents[2] / "export"
SIZES = [(1, 1), (1, 9), (31, 32), (33, 32), (64, 64), (65, 200), (97, 61), (500, 333), (1023, 768)]
"""Widths and heights for the resizing alone: enlarging, by whole and broken factors, odd margins."""


@pytest.fixture(params=["python", "node"])
def app(request):
    """Return the command that starts an app."""
    if request.param == "python":
        return [sys.executable, EXPORT / "python" / "classify.py"]
    return [request.getfixturevalue("node"), EXPORT / "node" / "classify.js"]


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def complaint(*command):
    """Return the one line that an app says before it gives up."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def rewrite(golden, folder, change):
    """Write the golden model into a folder, with another contract in it and beside it."""
    contract = json.loads((golden / "model.json").read_text())
    change(contract)
    model = onnx.load(golden / "model.onnx")
    (entry,) = (each for each in model.metadata_props if each.key == "cifarnet")
    entry.value = json.dumps(contract)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_text(entry.value)


def test_an_app_conforms(app, golden):
    outputs = json.loads(output_of(*app, golden / "model.onnx", *(golden / "images").iterdir(), "--json"))
    verdict = check_outputs(outputs, golden)
    assert (verdict.conforms, verdict.kind, [other.kind for other in verdict.others]) == (
        True,
        "logits",
        ["calibrated"],
    )
    for kind in ("logits", "calibrated"):
        outputs["exact.png"][kind][0] += 1e-3
        assert not check_outputs(outputs, golden).conforms
        outputs["exact.png"][kind][0] -= 1e-3


def test_an_app_reads_the_size_of_the_images_from_the_model(app, golden, tmp_path):
    (tmp_path / "model.onnx").write_bytes(models.sized(80))
    classifier = Classifier(tmp_path / "model.onnx")
    (tmp_path / "model.json").write_text(json.dumps(classifier.contract))
    image = golden / "images" / "square.png"
    found = json.loads(output_of(*app, tmp_path / "model.onnx", image, "--json"))["square.png"]["logits"]
    np.testing.assert_allclose(found, classifier.logits(image)[0], rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found, Classifier(models.sized(32)).logits(image)[0], rtol=0, atol=1e-5)


def test_an_app_prints_the_most_probable_class_and_abstains_below_the_threshold_of_the_file(app, golden, entries):
    contract = json.loads((golden / "model.json").read_text())
    calibrated = entries["exact.png"]["calibrated"]
    best = f"{contract['labels'][np.argmax(calibrated)]} {100 * max(calibrated):.1f}%"
    assert output_of(*app, golden / "model.onnx", golden / "images" / "exact.png").endswith(f"/exact.png: {best}\n")
    lines = output_of(*app, golden / "model.onnx", *(golden / "images").iterdir(), "--abstain").splitlines()
    threshold = contract["calibration"]["abstention"]["threshold"]
    answered = {Path(line.split(": ")[0]).name: ": not sure, perhaps " not in line for line in lines}
    assert answered == {name: max(entry["calibrated"]) >= threshold for name, entry in entries.items()}
    assert f"{golden}/images/exact.png: {best}" in lines
    assert sorted(answered.values()).index(True) == 11


def test_an_app_ends_with_its_reader(app, golden):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*app, golden / "model.onnx", golden / "images" / "exact.png"]
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(command, check=False, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.stderr == ""


def test_an_app_refuses_to_abstain_without_a_threshold_in_the_file(app, golden, tmp_path):
    rewrite(golden, tmp_path, lambda contract: contract["calibration"].update(abstention=None))
    message = f"error: {tmp_path}/model.onnx names no threshold to abstain by: leave --abstain out"
    assert complaint(*app, tmp_path / "model.onnx", golden / "images" / "exact.png", "--abstain") == message


@pytest.mark.parametrize(
    ("model", "image", "wrong"),
    [
        ("images/exact.png", "images/exact.png", "images/exact.png"),
        ("model.onnx", "images/gone.png", "images/gone.png"),
        ("model.onnx", "golden.json", "golden.json"),
    ],
)
def test_an_app_names_an_invalid_file_in_one_line(app, golden, model, image, wrong):
    line = complaint(*app, golden / model, golden / image)
    assert line.startswith(f"error: {golden / wrong} cannot be used (")
    assert "; expected a" in line


def test_an_app_refuses_two_images_of_one_name_where_names_are_keys(app, golden):
    image = golden / "images" / "exact.png"
    line = complaint(*app, golden / "model.onnx", image, image, "--json")
    assert line == "error: two images are named exact.png; expected different names with --json: rename one"


def test_the_python_app_sees_16_bits_as_the_library_does_and_refuses_32(golden, tmp_path):
    app, model = [sys.executable, EXPORT / "python" / "classify.py"], golden / "model.onnx"
    values = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    Image.fromarray(values).save(tmp_path / "a.png", transparency=int(values[0, 1]))
    found = json.loads(output_of(*app, model, tmp_path / "a.png", "--json"))["a.png"]["logits"]
    np.testing.assert_allclose(found, Classifier(model).logits(tmp_path / "a.png")[0], atol=1e-5)
    for mode in "IF":
        Image.new(mode, (32, 32), 100).save(tmp_path / "a.tif")
        assert f"(pixels of mode {mode}, whose range is not defined)" in complaint(*app, model, tmp_path / "a.tif")


def test_an_app_names_what_a_model_file_lacks(app, golden, tmp_path):
    rewrite(golden, tmp_path, lambda contract: contract.pop("labels"))
    line = complaint(*app, tmp_path / "model.onnx", golden / "images" / "exact.png")
    assert line.startswith(f"error: {tmp_path}/model.")
    assert "cannot be used (it lacks 'labels'); expected" in line


def test_an_app_takes_a_file_without_calibration_as_export_model_writes_it(app, golden, tmp_path):
    rewrite(golden, tmp_path, lambda contract: contract.pop("calibration"))
    model = onnx.load(tmp_path / "model.onnx")
    assert model.graph.output.pop().name == "calibrated"
    onnx.save(model, tmp_path / "model.onnx")
    exact = json.loads(output_of(*app, tmp_path / "model.onnx", golden / "images" / "exact.png", "--json"))["exact.png"]
    assert list(exact) == ["logits", "probabilities"]
    assert "error: " in complaint(*app, tmp_path / "model.onnx", golden / "images" / "exact.png", "--abstain")


def test_an_app_without_images_prints_its_usage(app):
    done = subprocess.run(app, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode
    assert "model" in done.stderr
    assert "images" in done.stderr


def test_the_python_app_imports_neither_cifarnet_nor_a_framework():
    tree = ast.parse((EXPORT / "python" / "classify.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


RESIZE = """
const { toModelInput } = await import(process.argv[1]);
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const data = Buffer.concat(chunks);
for (let at = 0; at < data.length; ) {
  const [width, height] = [data.readUInt32LE(at), data.readUInt32LE(at + 4)];
  const picture = { width, height, data: data.subarray(at + 8, (at += 8 + width * height * 4)) };
  process.stdout.write(toModelInput(picture, JSON.parse(process.argv[2])));
}
"""


def resized_in_javascript(node, images, shape=(32, 32, 3)):
    packed = b"".join(np.array(image.shape[1::-1], "<u4").tobytes() + image.tobytes() for image in images)
    command = [node, "--input-type=module", "--eval", RESIZE, (EXPORT / "browser" / "resize.js").as_uri()]
    command.append(json.dumps(["batch", *shape]))
    done = subprocess.run(command, input=packed, check=True, capture_output=True, timeout=120)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape)


@pytest.mark.parametrize("shape", [(32, 32, 3), (96, 96, 3)])
def test_javascript_resizes_byte_for_byte_like_pillow(node, shape):
    rng = np.random.Generator(np.random.PCG64(0))
    images = [rng.integers(0, 256, (height, width, 4), np.uint8) for width, height in SIZES]
    expected = np.stack([pixels(Image.fromarray(image), shape) for image in images])
    np.testing.assert_array_equal(resized_in_javascript(node, images, shape), expected)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(resized_in_javascript(node, [image[::-1] for image in images], shape), expected)


def test_javascript_blends_every_color_and_alpha_over_white_like_pillow(node):
    colors, alphas = np.meshgrid(np.arange(256), np.arange(256))
    table = np.dstack([colors, 255 - colors, colors ^ 0x55, alphas]).astype(np.uint8)
    tiles = [table[y : y + 32, x : x + 32] for y in range(0, 256, 32) for x in range(0, 256, 32)]
    expected = np.stack([pixels(Image.fromarray(tile)) for tile in tiles])
    np.testing.assert_array_equal(resized_in_javascript(node, tiles), expected)


def test_node_decodes_jpegs_like_pillow_to_within_one_step(node, golden, tmp_path):
    y, x = np.mgrid[0:300, 0:400]
    waves = np.stack([np.sin(x / 37 + y / 91), np.sin(x / 17 - y / 29), np.cos(x / 51) * np.sin(y / 13)], axis=-1)
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 12, waves.shape)
    photo = Image.fromarray(np.clip(128 + 80 * waves + noise, 0, 255).astype(np.uint8))
    photos = {
        tmp_path / f"{quality}.jpg": (quality, subsampling) for quality, subsampling in ((95, 0), (75, 2), (50, 2))
    }
    for path, (quality, subsampling) in photos.items():
        photo.save(path, quality=quality, subsampling=subsampling)
    theirs = json.loads(output_of(node, EXPORT / "node" / "classify.js", golden / "model.onnx", *photos, "--json"))
    classifier = Classifier(golden / "model.onnx")
    for path in photos:
        # Both decode with libjpeg-turbo and were equal when this was written. 0.16 is one step everywhere.
        np.testing.assert_allclose(theirs[path.name]["logits"], classifier.logits(path)[0], rtol=0, atol=0.16)
