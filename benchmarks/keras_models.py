"""Export networks of ``keras.applications`` on every backend: ``python -m benchmarks.keras_models``.

Each network has the same random weights on every backend, with batch normalization statistics and a head that tells the
200 images of random blocks of color apart. Its file is compared with Keras on these images, and so is the file of
Keras' own ``model.export(format="onnx")``, which needs onnxscript (torch), jax2onnx (JAX) and tf2onnx (TensorFlow).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS

RESULTS_FILE = RESULTS / "keras_models.jsonl"
NETWORKS = ("MobileNetV2", "ResNet50V2", "EfficientNetV2B0", "DenseNet121")
BACKENDS = ("jax", "torch", "tensorflow")
SHAPE, CLASSES, IMAGES = (96, 96, 3), 10, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--in-backend", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_backend:
        print(json.dumps(_row(arguments.networks[0], arguments.weights)))
        return
    for network in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            rows = [_in_backend(network, backend, Path(folder) / "weights.npz") for backend in ("torch", *BACKENDS)]
        with RESULTS_FILE.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows[1:])


def _in_backend(network: str, backend: str, weights: Path) -> dict[str, Any]:
    """Return the row of one network and backend; the first call draws the weights."""
    command = [sys.executable, "-m", "benchmarks.keras_models", network, "--in-backend", "--weights", str(weights)]
    done = subprocess.run(
        command, env=os.environ | {"KERAS_BACKEND": backend}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _row(network: str, weights: Path) -> dict[str, Any]:
    import keras
    import numpy as np

    import cifarnet
    from cifarnet.system import processor, versions

    kind = getattr(keras.applications, network)
    base = kind(weights=None, input_shape=SHAPE, classes=CLASSES)
    first = [] if "Efficient" in network else [keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")]
    model = keras.Sequential([keras.Input(SHAPE), *first, base])
    blocks = np.random.default_rng(0).integers(0, 256, (IMAGES, 6, 6, 3), np.uint8)
    images = blocks.repeat(SHAPE[0] // 6, axis=1).repeat(SHAPE[1] // 6, axis=2)
    if not weights.exists():
        _draw(model, images, weights)
        return {}
    with np.load(weights) as stored:
        model.set_weights([stored[f"arr_{index}"] for index in range(len(stored.files))])
    labels = np.arange(IMAGES) % CLASSES
    names = [f"class {index}" for index in range(CLASSES)]
    with tempfile.TemporaryDirectory() as folder:
        ours = cifarnet.export_model(model, Path(folder) / "ours.onnx", images, labels, class_names=names)
        theirs = _keras_export(model, Path(folder) / "theirs.onnx", images)
    return {
        "network": network,
        "backend": keras.config.backend(),
        "sha256": ours.sha256,
        "size_bytes": ours.size_bytes,
        "difference": max(check.probability_difference for check in ours.parity.checks),
        "keras_export": theirs,
        "machine": {"processor": processor()},
        "versions": versions(),
    }


def _draw(model: Any, images: Any, path: Path) -> None:
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith("kernel"):
            fan_in = np.prod(variable.shape[:2] if "depthwise" in variable.path else variable.shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), tuple(variable.shape)))
    layers = [each for each in model._flatten_layers() if isinstance(each, keras.layers.BatchNormalization)]
    for layer in layers:
        # Beta lets most values pass ReLU: with half of them cut off, random networks so deep are chaotic.
        layer.gamma.assign(np.ones(layer.gamma.shape))
        layer.beta.assign(np.ones(layer.beta.shape))
        layer.momentum = 0.0
    model(images, training=True)
    head = [each for each in model._flatten_layers() if isinstance(each, keras.layers.Dense)][-1]
    softmax, head.activation = head.activation, keras.activations.linear
    logits = model.predict(images, verbose=0)
    head.activation = softmax
    kernel, _ = head.get_weights()
    head.set_weights([kernel / logits.std(axis=0), -logits.mean(axis=0) / logits.std(axis=0)])
    np.savez(path, *model.get_weights())


def _keras_export(model: Any, path: Path, images: Any) -> str:
    """Return what becomes of Keras' own export."""
    import numpy as np
    import onnxruntime

    expected = model.predict(images, verbose=0)
    model(images[:1])  # jax2onnx needs a model that was called
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.export(path, format="onnx", verbose=False)
    except Exception as error:  # noqa: BLE001  # any converter, any error: it is the result
        return f"export fails: {_line(error)}"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: images.astype(np.float32)})
    except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no other common class
        return f"onnxruntime fails: {_line(error)}"
    difference = float(np.abs(found - expected).max())
    return f"{'works' if difference <= 1e-5 else 'wrong'}, {difference:.1e}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:80]}"


def table() -> str:
    """Return the Markdown table of the newest rows."""
    rows = {(row["network"], row["backend"]): row for row in map(json.loads, RESULTS_FILE.read_text().splitlines())}
    lines = [
        "| network | backend | size | largest difference | SHA-256 | Keras' own export |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_cells(rows[key]) for key in _ordered(rows))])


def _ordered(rows: Any) -> Sequence[tuple[str, str]]:
    return [key for network in NETWORKS for backend in BACKENDS if (key := (network, backend)) in rows]


def _cells(row: dict[str, Any]) -> str:
    megabytes = f"{row['size_bytes'] / 1e6:.1f} MB"
    cells = (row["network"], row["backend"], megabytes, f"{row['difference']:.1e}", f"`{row['sha256'][:12]}`")
    kind = ": ".join(row["keras_export"].split(": ")[:2])  # the error's type, without its message
    return f"| {' | '.join((*cells, kind))} |"


if __name__ == "__main__":
    main()
