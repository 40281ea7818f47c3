"""The golden folder is what its script writes, and its model is a valid model file."""

import base64
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from cifarnet import Classifier
from cifarnet.apps.conformance import TOLERANCES
from cifarnet.contract import OUTPUTS
from cifarnet.preprocessing import read_pixels

REFERENCE_TOLERANCE = 1e-6
"""The reference is computed in float64 and rounded to float32 once, below 8 here: half a unit of the last digit is
2.4e-7. Where a sum is made in another order, the last digit may differ."""


def files_of(folder):
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if path.suffix != ".py" and "__pycache__" not in path.parts}


def decoded(path):
    """Return all that a reader sees of an image file; how it was compressed may depend on a library's version."""
    with Image.open(path) as image:
        frames = [
            np.asarray(image.convert("RGBA")) for index in range(getattr(image, "n_frames", 1)) if not image.seek(index)
        ]
        return image.format, image.size, image.getexif().get(0x0112), np.stack(frames)


def tensor(path):
    return numpy_helper.to_array(onnx.load_tensor(path))


def test_the_script_makes_the_same_files_images_and_outputs(golden, entries, tmp_path):
    """Under torch: any framework holds the same weights."""
    command = [sys.executable, golden / "make.py", tmp_path]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"KERAS_BACKEND": "torch"})
    assert files_of(golden) == files_of(tmp_path)
    assert sum((golden / path).stat().st_size for path in files_of(golden)) < 300_000
    for name in ("model.onnx", "model.json", "floats.onnx", "test_data_set_0/input_0.pb"):
        assert (golden / name).read_bytes() == (tmp_path / name).read_bytes(), name
    for path in sorted((golden / "images").iterdir()):
        *facts, pixels = decoded(path)
        *facts_again, pixels_again = decoded(tmp_path / "images" / path.name)
        assert facts == facts_again, path.name
        np.testing.assert_array_equal(pixels, pixels_again, path.name)
    again = json.loads((tmp_path / "golden.json").read_text())["images"]
    for entry, other in zip(entries.values(), again, strict=True):
        assert [entry[name] for name in ("file", "what", "pixels")] == [
            other[name] for name in ("file", "what", "pixels")
        ]
        for output in OUTPUTS:
            np.testing.assert_allclose(entry[output], other[output], rtol=0, atol=REFERENCE_TOLERANCE)


def test_the_images_cover_every_difficult_format(golden):
    kinds = set()
    for path in (golden / "images").iterdir():
        with Image.open(path) as image:
            kinds |= {image.format, image.mode, "turned" if image.getexif().get(0x0112) else "upright"}
            kinds |= {"exact"} if image.size == (32, 32) else {"odd"} if any(side % 2 for side in image.size) else set()
    assert kinds >= {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "PNG", "JPEG", "GIF", "WEBP", "turned", "exact", "odd"}


def test_cifarnet_gives_the_golden_pixels_and_outputs(golden, entries):
    classifier = Classifier(golden / "model.onnx")
    images = [golden / entry["file"] for entry in entries.values()]
    for entry, image in zip(entries.values(), images, strict=True):
        assert base64.b64decode(entry["pixels"]) == read_pixels(image).tobytes(), image
    for output, tolerance in TOLERANCES.items():
        found, expected = getattr(classifier, output)(images), [entry[output] for entry in entries.values()]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(found, expected[::-1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("index", [0, 1])
def test_the_onnx_test_data_agree_with_the_model(golden, index):
    folder = golden / f"test_data_set_{index}"
    session = onnxruntime.InferenceSession(golden / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: tensor(folder / "input_0.pb")})
    for position, output in enumerate(session.get_outputs()):
        expected = tensor(folder / f"output_{position}.pb")
        np.testing.assert_allclose(found[position], expected, rtol=0, atol=TOLERANCES[output.name])
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(found[position - 1], expected, rtol=0, atol=TOLERANCES[output.name])


def test_the_model_with_a_float_input_is_the_same_network(golden, entries):
    pixels = np.stack([np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8) for entry in entries.values()])
    pixels = pixels.reshape(-1, 32, 32, 3)
    sessions = [
        onnxruntime.InferenceSession(golden / name, providers=["CPUExecutionProvider"])
        for name in ("model.onnx", "floats.onnx")
    ]
    found = sessions[0].run(None, {"images": pixels})
    twins = sessions[1].run(None, {"images": pixels.astype(np.float32)})
    for output, twin in zip(found, twins, strict=True):
        np.testing.assert_array_equal(output, twin)
