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
    "evaluate",
    "export_run",
    "find_run",
    "import_weights",
    "open_dataset",
    "prepare_process",
    "recipe",
    "start",
    "warm_start_from",
]

_HOMES = {
    "CifarnetError": "errors:CifarnetError",
    "Classifier": "runtime:Classifier",
    "Job": "job:Job",
    "ModelConfig": "config:ModelConfig",
    "Prediction": "spec:Prediction",
    "Run": "run:Run",
    "Silent": "training:Silent",
    "TrainConfig": "config:TrainConfig",
    "WarmStart": "warm_start:WarmStart",
    "build_model": "model:build_model",
    "carry_out": "training:carry_out",
    "choose_backend": "backends:choose",
    "evaluate": "evaluation:evaluate",
    "export_run": "export:export_run",
    "find_run": "run:find_run",
    "import_weights": "export:import_weights",
    "open_dataset": "data:open_dataset",
    "prepare_process": "environment:prepare_process",
    "recipe": "recipes:recipe",
    "start": "training:start",
    "warm_start_from": "warm_start:warm_start_from",
}
"""Module and name behind each public name."""

_NEED_KERAS = frozenset(("export", "model", "training"))
"""Modules that import Keras, which would take its own default where no framework has been chosen."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    if module in _NEED_KERAS:
        importlib.import_module(".backends", __name__).settle()
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return __all__
