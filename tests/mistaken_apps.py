"""Apps in code of their own, as people write it: a careful one, and for each known mistake one that commits it."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageOps

from cifarnet.shipped import shipped

GOLDEN = shipped() / "golden"
ENTRIES = {Path(entry["file"]).name: entry for entry in json.loads((GOLDEN / "golden.json").read_text())["images"]}
BILINEAR = Image.Resampling.BILINEAR

# From a file to pixels


def opened(name, *, orient=True, color=(255, 255, 255), clip=False, drop=False):
    """Return a picture as RGB, by the steps of a careful app unless told otherwise."""
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
    return Image.fromarray(np.floor(layers[..., :3] * alpha + np.array(color) * (1 - alpha) + 0.5).astype(np.uint8))


def cropped(image, side):
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def prepared(name, *, resample=BILINEAR, **ways):
    return np.asarray(cropped(image := opened(name, **ways), min(image.size)).resize((32, 32), resample))


def squeezed(name):
    return np.asarray(opened(name).resize((32, 32), BILINEAR))


def resized_and_cropped(name):
    image = opened(name)
    factor = 32 / min(image.size)
    return np.asarray(cropped(image.resize((int(image.width * factor), int(image.height * factor)), BILINEAR), 32))


def sampled(name):
    """Bilinear without antialias, by Pillow's other way to it, which rounds otherwise than ours."""
    square = cropped(image := opened(name), min(image.size))
    factor = square.width / 32
    matrix = (factor, 0, 0, 0, factor, 0)
    return np.asarray(square.transform((32, 32), Image.Transform.AFFINE, matrix, BILINEAR))


def normalised(name, *, imagenet):
    mean, std = (
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        if imagenet
        else ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
    )
    return (prepared(name) / 255 - mean) / std


def wrapped(values):
    return values.astype(np.int64).astype(np.uint8)


def from_channels_first(name):
    return np.frombuffer(prepared(name).transpose(2, 0, 1).tobytes(), np.uint8).reshape(32, 32, 3)


# Models: the file itself, and two that somebody has cut or rebuilt


def in_bytes(values):
    return run(GOLDEN / "model.onnx", np.asarray(values, np.uint8))


def in_floats(values):
    return run(GOLDEN / "floats.onnx", np.asarray(values, np.float32))


def without_first_layer(values):
    """Run what is left of the network when its scaling is taken out: cut and joined here, node by node."""
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


def as_probabilities(answers, temperature=1.0):
    return {name: probabilities_of(row, temperature).tolist() for name, row in answers.items()}


def with_calibrated(answers, calibrate=lambda logits: probabilities_of(logits, TEMPERATURE)):
    """Return the answers of an app that gives its logits and, by ``calibrate``, what it calls calibrated."""
    return {name: {"logits": row, "calibrated": calibrate(np.array(row)).tolist()} for name, row in answers.items()}


MISTAKEN_APPS = {
    "ignores the EXIF orientation": lambda: app(lambda name: prepared(name, orient=False)),
    "clips 16-bit pixels": lambda: app(lambda name: prepared(name, clip=True)),
    "lays transparent parts over black": lambda: app(lambda name: prepared(name, color=(0, 0, 0))),
    "lays transparent parts over grey": lambda: app(lambda name: prepared(name, color=(128, 128, 128))),
    "drops the alpha channel": lambda: app(lambda name: prepared(name, drop=True)),
    "squeezes the whole picture": lambda: app(squeezed),
    "scales the whole picture first": lambda: app(resized_and_cropped),
    "resizes with a bilinear filter that is not antialiased": lambda: app(sampled),
    "resizes with the nearest pixel": lambda: app(lambda name: prepared(name, resample=Image.Resampling.NEAREST)),
    "resizes with a box filter": lambda: app(lambda name: prepared(name, resample=Image.Resampling.BOX)),
    "resizes with a bicubic filter": lambda: app(lambda name: prepared(name, resample=Image.Resampling.BICUBIC)),
    "resizes with a Lanczos filter": lambda: app(lambda name: prepared(name, resample=Image.Resampling.LANCZOS)),
    "hands over BGR": lambda: app(lambda name: prepared(name)[:, :, [2, 1, 0]]),
    "hands over channels first": lambda: app(from_channels_first),
    "hands over columns as rows": lambda: app(lambda name: prepared(name).swapaxes(0, 1)),
    "divides by 255, which the model does again": lambda: app(lambda name: prepared(name) / 255, in_floats),
    "divides by 255, which the model does again, and casts": lambda: app(lambda name: prepared(name) / 255),
    "scales to -1...1, which": lambda: app(lambda name: prepared(name) / 127.5 - 1, in_floats),
    "leaves out the division": lambda: app(prepared, without_first_layer),
    "scales to 0...1 in place": lambda: app(lambda name: prepared(name) / 255, without_first_layer),
    "applies softmax twice": lambda: as_probabilities(as_probabilities(app())),
    "divides by the temperature: that": lambda: as_probabilities(app(), TEMPERATURE),
    "leaves the temperature out": lambda: with_calibrated(app(), probabilities_of),
    "divides by the temperature twice": lambda: with_calibrated(
        app(), lambda logits: probabilities_of(logits, TEMPERATURE**2)
    ),
    "multiplies by the temperature": lambda: with_calibrated(
        app(), lambda logits: probabilities_of(logits, 1 / TEMPERATURE)
    ),
    "divides the probabilities": lambda: with_calibrated(
        app(), lambda logits: probabilities_of(probabilities_of(logits), TEMPERATURE)
    ),
} | {
    f"normalises with {source}'s mean and std, {how}": make
    for source in ("ImageNet", "CIFAR-10")
    for how, make in {
        "before the model's own scaling": lambda source=source: app(
            lambda name: normalised(name, imagenet=source == "ImageNet"), in_floats
        ),
        "before the model's own scaling, and casts": lambda source=source: app(
            lambda name: wrapped(normalised(name, imagenet=source == "ImageNet"))
        ),
        "in place of": lambda source=source: app(
            lambda name: normalised(name, imagenet=source == "ImageNet"), without_first_layer
        ),
    }.items()
}
"""Each mistake as an app that commits it alone, by the beginning of its name."""
