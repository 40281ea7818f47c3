"""Print the most probable class of each image, or that the model is not sure.

Needs numpy, onnxruntime and Pillow, but not cifarnet.
"""

import argparse
import json
import signal
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read_picture(path, height, width):
    """Return uint8 (height, width, 3): the image upright, blended over white, its central square resized."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range is not defined")
    if image.mode.startswith("I;16"):  # the high byte, and white where it is transparent
        values = np.asarray(image)
        is_transparent = values == image.info.get("transparency", -1)
        image = Image.fromarray(np.where(is_transparent, 255, values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((width, height), Image.Resampling.BILINEAR))


def open_model(path):
    """Return the model, and from its metadata height and width of the input, labels and selective prediction."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        contract = json.loads(session.get_modelmeta().custom_metadata_map["cifarnet"])
        _, height, width, _ = contract["input"]["shape"]
        return session, (height, width), contract["labels"], (contract.get("calibration") or {}).get("abstention")
    except Exception as error:  # onnxruntime's errors share no class but Exception
        raise SystemExit(
            f"error: {path} cannot be used ({reason(error)}); expected a model from `cifarnet export --onnx`"
        ) from error


def open_picture(path, size):
    """Return what `read_picture` does, or end with a line that names the file."""
    try:
        return read_picture(path, *size)
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise SystemExit(f"error: {path} cannot be used ({reason(error)}); expected an image file") from error


def reason(error):
    """Return what an error says, in one line."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).partition("\n")[0]


def main():
    """Classify the images named on the command line."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends with its reader, such as `head`
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a file from `cifarnet export --onnx`")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--abstain", action="store_true", help="give no answer below the threshold that the file names")
    parser.add_argument("--json", action="store_true", help="print the logits and calibrated probabilities instead")
    wanted = parser.parse_args()
    session, size, labels, abstention = open_model(wanted.model)
    if wanted.abstain and abstention is None:
        raise SystemExit(f"error: {wanted.model} names no threshold to abstain by: leave --abstain out")
    names = [path.name for path in wanted.images]
    if wanted.json and len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise SystemExit(f"error: two images are named {name}; expected different names with --json: rename one")
    pixels = np.stack([open_picture(path, size) for path in wanted.images])
    # A file of `export_model` has calibrated probabilities only if validation images were given.
    confidence = session.get_outputs()[-1].name
    logits, confidences = session.run(["logits", confidence], {"images": pixels})
    answers = list(zip(wanted.images, logits, confidences, strict=True))
    if wanted.json:
        numbers = {path.name: {"logits": a.tolist(), confidence: b.tolist()} for path, a, b in answers}
        print(json.dumps(numbers))
        return
    for path, _, row in answers:
        unsure = "not sure, perhaps " if wanted.abstain and row.max() < abstention["threshold"] else ""
        print(f"{path}: {unsure}{labels[row.argmax()]} {100 * row.max():.1f}%")


if __name__ == "__main__":
    main()
