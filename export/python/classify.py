"""Say the most probable class of each image.

Needs numpy, onnxruntime, and Pillow to read images; not cifarnet.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read_picture(path):
    """Return uint8 (32, 32, 3): the picture upright, over white, its centre square scaled down."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 bits: the high byte
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR))


def main():
    """Classify what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a file from `cifarnet export --onnx`")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="print the logits of each image instead")
    wanted = parser.parse_args()
    session = onnxruntime.InferenceSession(wanted.model, providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["cifarnet"])["labels"]
    logits, probabilities = session.run(None, {"images": np.stack([read_picture(path) for path in wanted.images])})
    if wanted.json:
        print(json.dumps({path.name: row.tolist() for path, row in zip(wanted.images, logits, strict=True)}))
        return
    for path, row in zip(wanted.images, probabilities, strict=True):
        print(f"{path}: {labels[row.argmax()]} {100 * row.max():.1f} %")


if __name__ == "__main__":
    main()
