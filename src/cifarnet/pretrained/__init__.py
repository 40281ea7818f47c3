"""The bundled CIFAR-10 classifier, which ``python -m benchmarks.pretrained`` trains.

Beside this module lie the exported model, the record of its training run (``run.json``) and the digests of the images
that it was trained on (``seen.npy``).
"""

from pathlib import Path
from typing import Final

NAME: Final = "pretrained"
"""Name of this classifier on the command line."""
FOLDER: Final = Path(__file__).parent
MODEL: Final = FOLDER / "model.onnx"
DESCRIPTION: Final = "the bundled CIFAR-10 classifier"
