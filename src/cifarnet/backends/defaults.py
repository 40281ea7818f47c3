"""The settings of Keras, of the framework and of numpy that results must not depend on."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np

_computing = RLock()
"""Held while something computes: some of the settings, and torch's tracing, belong to the process, not to a thread."""


@contextmanager
def default_settings() -> Iterator[None]:
    """Compute with the default settings of Keras, of the framework and of numpy, in one thread at a time.

    What ``keras.json``, the calling program or a context around the call has set, such as ``torch.autocast``, does not
    apply within the block. The previous settings are restored afterwards. Other threads wait.
    """
    config = sys.modules["keras"].config
    framework = importlib.import_module(f".{config.backend()}", __package__)
    with _computing, _keras_defaults(config), framework.framework_defaults(), numpy_defaults():
        yield


@contextmanager
def numpy_defaults() -> Iterator[None]:
    """Compute with numpy's default settings for floating-point errors: a program may have set that they raise."""
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield


@contextmanager
def _keras_defaults(config: Any) -> Iterator[None]:
    before = (config.dtype_policy(), config.floatx(), config.image_data_format())
    _configure(config, "float32", "float32", "channels_last")
    try:
        yield
    finally:
        _configure(config, *before)


def _configure(config: Any, policy: Any, floatx: str, data_format: str) -> None:
    config.set_dtype_policy(policy)
    config.set_floatx(floatx)
    config.set_image_data_format(data_format)
