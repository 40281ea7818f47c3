"""One Keras 3 image classifier that trains on JAX, PyTorch or TensorFlow.

The public names below are imported when they are first used, so that ``import cifarnet`` costs milliseconds and a
backend can still be chosen after it.
"""

import importlib
from typing import Any

__all__ = [
    "CifarnetError",
    "Classifier",
    "Job",
    "ModelConfig",
    "Prediction",
    "Run",
    "Silent",
    "TrainConfig",
    "WarmStart",
    "build_model",
    "carry_out",
    "choose_backend",
    "early_stopping",
    "evaluate",
    "export_model",
    "export_run",
    "find_run",
    "import_weights",
    "load_dataset",
    "prepare_process",
    "recipe",
    "start",
    "warm_start_from",
]

_HOMES = {
    "CifarnetError": "errors:CifarnetError",
    "Classifier": "runtime:Classifier",
    "Job": "run.job:Job",
    "ModelConfig": "config:ModelConfig",
    "Prediction": "runtime.classifier:Prediction",
    "Run": "run.folder:Run",
    "Silent": "training.observer:Silent",
    "TrainConfig": "config:TrainConfig",
    "WarmStart": "training.warm_start:WarmStart",
    "build_model": "model.network:build_model",
    "carry_out": "training.train:carry_out",
    "choose_backend": "backends:choose",
    "early_stopping": "training.fit:early_stopping",
    "evaluate": "evaluation.scoring:evaluate",
    "export_model": "export.keras_model:export_model",
    "export_run": "export.export:export_run",
    "find_run": "run.folder:find_run",
    "import_weights": "export.weights:import_weights",
    "load_dataset": "data:load_dataset",
    "prepare_process": "system:prepare_process",
    "recipe": "recipes:recipe",
    "start": "training.train:start",
    "warm_start_from": "training.warm_start:warm_start_from",
}
"""Module and name behind each public name."""

_NEED_KERAS = frozenset(
    ("build_model", "carry_out", "early_stopping", "export_model", "export_run", "import_weights", "start")
)
"""Names whose modules import Keras, which would take its own default where no framework has been chosen."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    if name in _NEED_KERAS:
        importlib.import_module(".backends", __name__).ensure_backend()
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return __all__
