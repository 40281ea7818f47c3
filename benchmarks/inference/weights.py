"""``python -m benchmarks.inference.weights MODEL.onnx FOLDER``: what an exported file holds, for the other contenders.

Writes ``weights.npz``, kernels and biases as Keras lays them out in the order of the layers, and ``model.json``, the
fields of ``cifarnet.ModelConfig``. A process of its own, so that the driver loads no framework.
"""

import json
import sys
from pathlib import Path

import numpy as np

import cifarnet


def main(model: Path, folder: Path) -> None:
    """Write both."""
    config, weights = cifarnet.import_weights(model)
    np.savez(folder / "weights.npz", **weights)
    (folder / "model.json").write_text(json.dumps(config.to_json()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
