"""Independent apps for the golden images: a correct one, and one for each known mistake."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageOps

from cifarnet.apps import package_data

GOLDEN = package_data() / "golden"
ENTRIES = {Path(entry["file"]).name: entry for entry in json.loads((GOLDEN / "golden.json").read_text())["images"]}
BILINEAR = Image.Resampling.BILINEAR

# From a file to pixels


def opened(name, *, orient=True, clip=False, drop=False):
    """Return an image as RGB; by default with the steps of a correct app."""
    with Image.open(GOLDEN / "images" / name) as image:
        image.load()
    if orient:
        image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        deep = np.asarray(image)
        image = Image.fromarray((np.minimum(deep, 255) if clip else deep // 256).astype(np.uint8))
    layers = np.asarray(image.convert("RGBA"), np.float64)
    if drop:
        return Image.fromarray(layers[..., :3].astype(np.uint8))
    alpha = layers[..., 3:] / 255
    return Image.fromarray(np.floor(layers[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8))


def cropped(image, side):
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def prepared(name, **ways):
    return np.asarray(cropped(image := opened(name, **ways), min(image.size)).resize((32, 32), BILINEAR))


def squeezed(name):
    return np.asarray(opened(name).resize((32, 32), BILINEAR))


def sampled(name):
    """Resize bilinearly without antialiasing, by another method of Pillow, which rounds differently."""
    square = cropped(image := opened(name), min(image.size))
    factor = square.width / 32
    matrix = (factor, 0, 0, 0, factor, 0)
    return np.asarray(square.transform((32, 32), Image.Transform.AFFINE, matrix, BILINEAR))


def normalized(name):
    return (prepared(name) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def from_channels_first(name):
    return np.frombuffer(prepared(name).transpose(2, 0, 1).tobytes(), np.uint8).reshape(32, 32, 3)


# Models: the file itself, one with a float input, and one without the scaling layer


def in_bytes(values):
    return run(GOLDEN / "model.onnx", np.asarray(values, np.uint8))


def in_floats(values):
    return run(GOLDEN / "floats.onnx", np.asarray(values, np.float32))


def without_first_layer(values):
    """Run the network without its scaling nodes."""
    model = onnx.load(GOLDEN / "floats.onnx")
    transpose, first, second, *_ = model.graph.node
    assert [transpose.op_type, first.op_type, second.op_type] == ["Transpose", "Mul", "Add"]
    transpose.output[:] = second.output
    model.graph.node.remove(first)
    model.graph.node.remove(second)
    return run(model.SerializeToString(), np.asarray(values, np.float32))


@cache
def session_of(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def run(model, values):
    return session_of(model).run(["logits"], {"images": values[None]})[0][0]


TEMPERATURE = json.loads((GOLDEN / "model.json").read_text())["calibration"]["temperature"]


def probabilities_of(logits, temperature=1.0):
    powers = np.exp(np.asarray(logits, np.float64) / temperature)
    return powers / powers.sum()


def app(read=prepared, model=in_bytes):
    return {name: model(read(name)).tolist() for name in ENTRIES}


def as_probabilities(outputs):
    return {name: probabilities_of(row).tolist() for name, row in outputs.items()}


def with_calibrated(outputs, calibrate=lambda logits: probabilities_of(logits, TEMPERATURE)):
    """Return outputs with the logits and calibrated probabilities computed by ``calibrate``."""
    return {name: {"logits": row, "calibrated": calibrate(np.array(row)).tolist()} for name, row in outputs.items()}


APPS_WITH_A_MISTAKE = {
    "passes BGR": lambda: app(lambda name: prepared(name)[:, :, [2, 1, 0]]),
    "passes channels first": lambda: app(from_channels_first),
    "divides by 255, which the model does again": lambda: app(lambda name: prepared(name) / 255, in_floats),
    "divides by 255, which the model does again, and casts": lambda: app(lambda name: prepared(name) / 255),
    "bypasses the scaling": lambda: app(prepared, without_first_layer),
    "normalizes with ImageNet's mean and std": lambda: app(normalized, in_floats),
    "ignores the EXIF orientation": lambda: app(lambda name: prepared(name, orient=False)),
    "drops the alpha channel": lambda: app(lambda name: prepared(name, drop=True)),
    "clips 16-bit pixels": lambda: app(lambda name: prepared(name, clip=True)),
    "resizes without cropping": lambda: app(squeezed),
    "resizes with a bilinear filter that is not antialiased": lambda: app(sampled),
    "applies softmax twice": lambda: as_probabilities(as_probabilities(app())),
    "omits the temperature": lambda: with_calibrated(app(), probabilities_of),
}
"""Apps that make one mistake each, by the first words of its description."""
