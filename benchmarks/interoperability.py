"""Who opens an exported file: ``python -m benchmarks.interoperability FLOAT32.onnx INT8.onnx``.

The first test images of CIFAR-10 go through each library, in a process of its own, and through ``cifarnet.Classifier``.
Libraries that are not installed are left out: ``pip install openvino opencv-python-headless tract onnxslim``.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import RESULTS
from cifarnet.contract import INPUT_NAME, PROBABILITIES_NAME
from cifarnet.data import load_dataset
from cifarnet.runtime import Classifier
from cifarnet.system import processor

FILE = RESULTS / "interoperability.json"
IMAGES = 64
NEWER_OPSET = 21

Library = Callable[[Path, NDArray[np.uint8]], NDArray[np.float32]]
"""Maps a model file and images uint8 (n, 32, 32, 3) to probabilities float32 (n, classes)."""


def _openvino(path: Path, images: NDArray[np.uint8]) -> Any:
    import openvino

    return openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[PROBABILITIES_NAME]


def _opencv(engine: str) -> Library:
    def run(path: Path, images: NDArray[np.uint8]) -> Any:
        import cv2

        network = cv2.dnn.readNetFromONNX(str(path), engine=getattr(cv2.dnn, engine))
        network.setInput(images, INPUT_NAME)
        return network.forward(PROBABILITIES_NAME)

    return run


def _tract(path: Path, images: NDArray[np.uint8]) -> Any:
    import tract

    outputs = tract.onnx().load(str(path)).into_model().into_runnable().run([images])
    return outputs[1].to_numpy()


def _in_onnxruntime(model: onnx.ModelProto, images: NDArray[np.uint8]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([PROBABILITIES_NAME], {INPUT_NAME: images})[0]


def _onnxslim(path: Path, images: NDArray[np.uint8]) -> Any:
    import onnxslim

    return _in_onnxruntime(onnxslim.slim(onnx.load(path)), images)


def _converter(path: Path, images: NDArray[np.uint8]) -> Any:
    from onnx import version_converter

    return _in_onnxruntime(version_converter.convert_version(onnx.load(path), NEWER_OPSET), images)


def _reference(path: Path, images: NDArray[np.uint8]) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(onnx.load(path)).run([PROBABILITIES_NAME], {INPUT_NAME: images})[0]


LIBRARIES: Mapping[str, tuple[str, Library]] = {
    "OpenVINO": ("openvino", _openvino),
    "OpenCV dnn, new engine": ("opencv-python-headless", _opencv("ENGINE_NEW")),
    "OpenCV dnn, classic engine": ("opencv-python-headless", _opencv("ENGINE_CLASSIC")),
    "tract (Rust)": ("tract", _tract),
    "onnxslim, then onnxruntime": ("onnxslim", _onnxslim),
    f"ONNX version converter to opset {NEWER_OPSET}, then onnxruntime": ("onnx", _converter),
    "ONNX reference evaluator": ("onnx", _reference),
}
"""Package and function of each library."""


def _compare(name: str, path: Path) -> dict[str, Any]:
    """Return the difference of one library from ``Classifier``, or its error."""
    package, run = LIBRARIES[name]
    images = load_dataset("cifar10").test.images[:IMAGES]
    expected = Classifier(path).probabilities(images)
    try:
        found = np.asarray(run(path, images)).reshape(expected.shape)
    except Exception as error:  # noqa: BLE001  # any library, any error: it is the result
        return {"version": version(package), "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {
        "version": version(package),
        "difference": float(np.abs(found - expected).max()),
        "same_class": int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
    }


def _in_process(name: str, path: Path) -> dict[str, Any] | None:
    """Return the result of one library, or None if it is not installed."""
    command = [sys.executable, "-m", "benchmarks.interoperability", str(path), "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "PackageNotFoundError" in done.stderr:
        return None
    if done.returncode:
        return {"error": f"the process ended with code {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_compare(arguments.only, arguments.models[0])))
        return
    found = {Classifier(path).contract["precision"]: _all(path) for path in arguments.models}
    FILE.write_text(json.dumps({"images": IMAGES, "processor": processor(), "libraries": found}, indent=2) + "\n")


def _all(path: Path) -> dict[str, Any]:
    results = {name: _in_process(name, path) for name in LIBRARIES}
    return {name: result for name, result in results.items() if result is not None}


def table() -> str:
    """Return the Markdown table of the stored results."""
    stored = json.loads(FILE.read_text())
    precisions = [*stored["libraries"]]
    names = [*next(iter(stored["libraries"].values()))]
    lines = [f"| opened by | version | {' | '.join(precisions)} |", f"|---|---|{'---|' * len(precisions)}"]
    for name in names:
        results = [stored["libraries"][precision][name] for precision in precisions]
        cells = [_cell(result, stored["images"]) for result in results]
        lines.append(f"| {name} | {results[0].get('version', '')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: Mapping[str, Any], images: int) -> str:
    if "error" in result:
        return "fails"
    return f"{result['difference']:.1e}, {result['same_class']} of {images} the same class"


if __name__ == "__main__":
    main()
