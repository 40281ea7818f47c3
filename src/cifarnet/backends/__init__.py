"""Choose the framework under Keras, once and before Keras exists, and hand out its adapter.

Each adapter is one file with the same few names, written out in ``interface.py``. A framework is imported by
its own adapter alone.
"""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import cast

from cifarnet.errors import BackendError

from .interface import AdamStep, Adapter, Engine, Steps, Sums
from .step import current_part

__all__ = [
    "NAMES",
    "AdamStep",
    "Adapter",
    "Engine",
    "Steps",
    "Sums",
    "adapter",
    "choose",
    "current_part",
    "install_line",
    "installed",
    "require_usable",
    "settle",
]

NAMES = ("jax", "torch", "tensorflow")
"""Backends in the order in which they are tried when none is asked for."""

READ_ON_IMPORT = {"tensorflow": {"TF_CPP_MIN_LOG_LEVEL": "2"}}
"""Variables that a framework reads when Keras imports it: without this one TensorFlow talks of the processor."""
WRITTEN_BY_KERAS = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}
"""The ``keras.json`` that Keras leaves behind on its first import, whatever it runs on: nobody's wish."""


def installed() -> tuple[str, ...]:
    """Return the backends whose framework can be imported here, without importing it."""
    return tuple(name for name in NAMES if importlib.util.find_spec(name) is not None)


def choose(name: str | None = None) -> str:
    """Fix the framework under Keras for the rest of this process and return its name.

    ``name`` wins over the variable ``KERAS_BACKEND``, that over ``keras.json``; with none of them the first
    installed of jax, torch and tensorflow is taken. Raises ``BackendError`` for an unknown or missing framework,
    and where Keras already runs on another.
    """
    wanted = name or os.environ.get("KERAS_BACKEND") or _configured() or _first_installed()
    require_usable(wanted)
    running = _running()
    if running not in (None, wanted):
        raise BackendError(f"Keras already runs on {running}; {wanted} was asked for: start a new process for it")
    os.environ["KERAS_BACKEND"] = wanted
    for variable, value in READ_ON_IMPORT.get(wanted, {}).items():
        os.environ.setdefault(variable, value)
    return wanted


def settle() -> str:
    """Return the framework that Keras runs on, choosing one if Keras is not there yet. Raises ``BackendError``."""
    return choose(_running())


def adapter() -> Adapter:
    """Return the adapter of the chosen framework, importing that framework. Raises ``BackendError``."""
    return cast("Adapter", importlib.import_module(f".{settle()}", __name__))


def require_usable(wanted: str) -> None:
    """Raise ``BackendError`` unless ``wanted`` is a backend and its framework is installed; import nothing."""
    if wanted not in NAMES:
        raise BackendError(f"the backend {wanted!r} is not supported; expected one of {', '.join(NAMES)}")
    missing = [module for module in (wanted, "keras", "h5py") if importlib.util.find_spec(module) is None]
    if missing:
        raise BackendError(
            f"{' and '.join(missing)} not installed; expected for the backend {wanted}: {install_line(wanted)}"
        )


def _running() -> str | None:
    keras = sys.modules.get("keras")
    return None if keras is None else str(keras.config.backend())


def _configured() -> str | None:
    home = os.environ.get("KERAS_HOME")
    path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        backend = None if document == WRITTEN_BY_KERAS else document.get("backend")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise BackendError(
            f"{path} could not be read ({error}); expected JSON with a backend: mend or remove it"
        ) from error
    # A framework that is not here may have been named for another environment of the same person.
    return backend if backend in installed() else None


def _first_installed() -> str:
    found = installed()
    if not found:
        raise BackendError(f"no framework is installed; expected one of {', '.join(NAMES)}: {install_line(NAMES[0])}")
    return found[0]


def install_line(name: str) -> str:
    """Return what a person types to get an extra: a framework with all else that training needs, or another one."""
    return f'pip install "cifarnet[{name}]", or in a clone pip install --editable ".[{name}]"'
