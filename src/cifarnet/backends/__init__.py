"""Choose the Keras backend, once and before Keras is imported, and return its adapter.

Each adapter is one module that implements ``protocol.Adapter``. A framework is imported only by its own adapter.
"""

import functools
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, cast

from cifarnet.arguments import expanded
from cifarnet.errors import BackendError, reason
from cifarnet.interrupt import hidden_stderr
from cifarnet.system import OWNS_PROCESS, corrected_xla_flags, versions

from .defaults import default_settings, numpy_defaults
from .microbatches import MicroBatch, current_micro_batch
from .protocol import AdamStep, Adapter, Engine, Plan, Steps, Sums
from .workers import ALONE, Workers

RECOMMENDED = "tensorflow"
"""Backend whose extra is recommended where there is none: its package for Linux has no CUDA libraries."""
NAMES = ("jax", "torch", "tensorflow")
"""Supported backends; by default the first installed one is used."""

KERAS_DEFAULTS = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}
"""The ``keras.json`` that Keras writes on its first import, whatever its backend. It does not count as a choice."""
KERAS_CHOICES = {
    "floatx": ("float32", "float16", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}
"""Valid values in ``keras.json``; Keras cannot be imported with others."""
VERBOSE = ("0", "1")
"""Values of ``TF_CPP_MIN_LOG_LEVEL`` that ask for TensorFlow's messages."""


def installed() -> tuple[str, ...]:
    """Return the installed backends, without importing their frameworks."""
    return tuple(name for name in NAMES if importlib.util.find_spec(name) is not None)


def choose(name: str | None = None) -> str:
    """Set the Keras backend for the rest of this process and return its name.

    ``name`` takes precedence over the environment variable ``KERAS_BACKEND``, which takes precedence over
    ``keras.json``. By default the first installed of jax, torch and tensorflow is used. Raises ``BackendError`` if the
    framework is unknown or missing, or if Keras already runs on another one.
    """
    if _running() is None:
        _require_keras_starts()
    if name is None:
        require_usable_variable()
    wanted = name or os.environ.get("KERAS_BACKEND") or _configured() or _first_installed()
    require_usable(wanted)
    running = _running()
    if running not in (None, wanted):
        raise BackendError(f"Keras already runs on {running}; {wanted} was asked for: start a new process for it")
    os.environ["KERAS_BACKEND"] = wanted
    if wanted == "jax":
        flags = corrected_xla_flags(os.environ.get("XLA_FLAGS", ""), versions(("jaxlib",)).get("jaxlib"))
        if flags:  # read when JAX is first used, and later by its compilation cache
            os.environ["XLA_FLAGS"] = flags
    asked_for = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in VERBOSE
    if wanted == "tensorflow" and OWNS_PROCESS.is_set() and not asked_for and _quiet not in sys.meta_path:
        sys.meta_path.insert(0, _quiet)
    return wanted


class _QuietTensorFlow(MetaPathFinder):
    """Import TensorFlow, whenever that happens, without its messages about the processor.

    Version 2.21 prints those about oneDNN at every ``TF_CPP_MIN_LOG_LEVEL``.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "tensorflow" else None
        if spec is not None and spec.loader is not None:
            vars(spec.loader)["exec_module"] = hidden_stderr()(spec.loader.exec_module)
        return spec


_quiet = _QuietTensorFlow()


def ensure_backend() -> str:
    """Return the Keras backend, choosing one if Keras is not imported yet. Raises ``BackendError``."""
    return choose(_running())


@functools.cache  # layers call it every time
def adapter() -> Adapter:
    """Return the adapter of the chosen framework, which is imported. Raises ``BackendError``."""
    chosen = cast("Adapter", importlib.import_module(f".{ensure_backend()}", __name__))
    if OWNS_PROCESS.is_set():
        chosen.prepare_process()
    return chosen


def require_usable(wanted: str, origin: str = "") -> None:
    """Raise ``BackendError`` unless ``wanted`` is a backend and its framework is installed. Nothing is imported.

    ``origin`` follows the name in the message, such as ``" in KERAS_BACKEND"``.
    """
    if wanted not in NAMES:
        raise BackendError(f"the backend {wanted!r}{origin} is not supported; expected one of {', '.join(NAMES)}")
    missing = [module for module in (wanted, "keras", "h5py") if importlib.util.find_spec(module) is None]
    if missing:
        raise BackendError(not_installed(missing, f"the backend {wanted}{origin}", wanted))


def require_usable_variable() -> None:
    """Raise ``BackendError`` if ``KERAS_BACKEND`` names a backend that is unknown or not installed."""
    if wanted := os.environ.get("KERAS_BACKEND"):
        require_usable(wanted, " in KERAS_BACKEND")


def _running() -> str | None:
    keras = sys.modules.get("keras")
    return None if keras is None else str(keras.config.backend())


def _configured() -> str | None:
    settings = keras_settings()
    backend = None if settings == KERAS_DEFAULTS else settings.get("backend")
    # keras.json may name a framework of another environment of the same user.
    return backend if backend in installed() else None


def _require_keras_starts() -> None:
    try:
        keras_settings()
    except BackendError as error:
        if not isinstance(error.__cause__, ValueError):  # Keras treats invalid JSON as an empty file
            raise


def keras_settings_path() -> Path:
    """Return the path of Keras' settings file."""
    home = os.environ.get("KERAS_HOME")
    return expanded(home or "~/.keras") / "keras.json"


def keras_settings() -> dict[str, Any]:
    """Return the settings in the user's ``keras.json``, or an empty dictionary if there is no such file.

    Raises ``BackendError`` if the file cannot be read, or if Keras cannot be imported with it.
    """
    path = keras_settings_path()
    try:
        settings = dict(json.loads(path.read_text(encoding="utf-8")).items())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise BackendError(
            f"{path} could not be read ({reason(error)}); expected JSON with a backend: fix or remove it"
        ) from error
    for name, choices in KERAS_CHOICES.items():
        if settings.get(name, choices[0]) not in choices:
            raise BackendError(
                f"{path} has {name} {settings[name]!r}; expected {' or '.join(choices)}: fix or remove it"
            )
    if not isinstance(settings.get("epsilon", 0.0), float):
        raise BackendError(f"{path} has epsilon {settings['epsilon']!r}; expected a float: fix or remove it")
    return settings


def _first_installed() -> str:
    names = installed()
    if not names:
        raise BackendError(
            f"no framework is installed; expected one of {', '.join(NAMES)}: {install_line(RECOMMENDED)}"
        )
    return names[0]


def not_installed(packages: Sequence[str], wanted: str, extra: str) -> str:
    """Return the message that ``packages``, required for ``wanted``, are missing; ``extra`` installs them."""
    *first, last = packages
    names = f"{', '.join(first)} and {last} are" if first else f"{last} is"
    return f"{names} not installed; expected for {wanted}: {install_line(extra)}"


def install_line(name: str) -> str:
    """Return the shell command that installs an extra of this package, which is on no index."""
    return f'pip install ".[{name}]" in your clone of cifarnet'
