"""One Keras 3 image classifier that trains on JAX, PyTorch or TensorFlow.

The public names below are imported when they are first used, so that ``import cifarnet`` costs milliseconds and a
backend can still be chosen after it.
"""

import importlib
from typing import Any

__all__ = [
    "CifarnetError",
    "Classifier",
    "Dataset",
    "ModelConfig",
    "Observer",
    "Prediction",
    "ProgressPrinter",
    "Recipe",
    "Run",
    "TrainConfig",
    "build_model",
    "choose_backend",
    "early_stopping",
    "evaluate",
    "export_model",
    "export_run",
    "find_run",
    "import_weights",
    "load_dataset",
    "recipe",
    "resume",
    "train",
]

_HOMES = {
    "CifarnetError": "errors:CifarnetError",
    "Classifier": "runtime:Classifier",
    "Dataset": "dataset:Dataset",
    "ModelConfig": "config:ModelConfig",
    "Observer": "training.observer:Observer",
    "Prediction": "runtime.prediction:Prediction",
    "ProgressPrinter": "training.observer:ProgressPrinter",
    "Recipe": "recipes:Recipe",
    "Run": "run.folder:Run",
    "TrainConfig": "config:TrainConfig",
    "build_model": "model.network:build_model",
    "choose_backend": "backends:choose",
    "early_stopping": "training.keras_objects:early_stopping",
    "evaluate": "evaluation.scoring:evaluate",
    "export_model": "export.export_model:export_model",
    "export_run": "export.export_run:export_run",
    "find_run": "run.find:find_run",
    "import_weights": "training.import_weights:import_weights",
    "load_dataset": "data:load_dataset",
    "recipe": "recipes:recipe",
    "resume": "training.train:resume",
    "train": "training.train:train",
}
"""Module and name behind each public name."""

_NEED_KERAS = frozenset(
    ("build_model", "early_stopping", "export_model", "export_run", "import_weights", "resume", "train")
)
"""Names whose modules import Keras, which would use its own default if no backend has been chosen."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    if name in _NEED_KERAS:
        importlib.import_module(".backends", __name__).ensure_backend()
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return __all__
