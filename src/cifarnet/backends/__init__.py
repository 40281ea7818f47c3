"""Choose the framework under Keras, once and before Keras exists, and hand out its adapter.

Each adapter is one file with the same few names, written out in ``protocol.py``. A framework is imported by
its own adapter alone.
"""

import functools
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cifarnet.atomic import reason
from cifarnet.errors import BackendError
from cifarnet.system import OWNS_PROCESS, corrected_xla_flags, versions

from .microbatches import current_part, keras_defaults
from .protocol import AdamStep, Adapter, Engine, Steps, Sums

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
    "keras_defaults",
    "not_installed",
    "require_usable",
    "settle",
]

NAMES = ("jax", "torch", "tensorflow")
"""Backends in the order in which they are tried when none is asked for."""

KERAS_DEFAULTS = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}
"""The ``keras.json`` that Keras leaves behind on its first import, whatever it runs on: nobody's wish."""
KERAS_CHOICES = {
    "floatx": ("float32", "float16", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}
"""The values in ``keras.json`` with which Keras can be imported."""


def installed() -> tuple[str, ...]:
    """Return the backends whose framework can be imported here, without importing it."""
    return tuple(name for name in NAMES if importlib.util.find_spec(name) is not None)


def choose(name: str | None = None) -> str:
    """Fix the framework under Keras for the rest of this process and return its name.

    ``name`` wins over the variable ``KERAS_BACKEND``, that over ``keras.json``; with none of them the first
    installed of jax, torch and tensorflow is taken. Raises ``BackendError`` for an unknown or missing framework,
    and where Keras already runs on another.
    """
    if _running() is None:
        _require_keras_starts()
    wanted = name or os.environ.get("KERAS_BACKEND") or _configured() or _first_installed()
    require_usable(wanted)
    running = _running()
    if running not in (None, wanted):
        raise BackendError(f"Keras already runs on {running}; {wanted} was asked for: start a new process for it")
    os.environ["KERAS_BACKEND"] = wanted
    if wanted == "jax":
        _correct_xla_flags()
    return wanted


def _correct_xla_flags() -> None:
    given = os.environ.get("XLA_FLAGS", "")
    flags = corrected_xla_flags(given, versions(("jaxlib",)).get("jaxlib"))
    if flags != given:  # read when JAX is first used, and by its compilation cache after that
        os.environ["XLA_FLAGS"] = flags


def settle() -> str:
    """Return the framework that Keras runs on, choosing one if Keras is not there yet. Raises ``BackendError``."""
    return choose(_running())


@functools.cache  # layers ask for it at each call, and the choice is made once
def adapter() -> Adapter:
    """Return the adapter of the chosen framework, importing that framework. Raises ``BackendError``."""
    found = cast("Adapter", importlib.import_module(f".{settle()}", __name__))
    if OWNS_PROCESS.is_set():
        found.prepare_process()
    return found


def require_usable(wanted: str) -> None:
    """Raise ``BackendError`` unless ``wanted`` is a backend and its framework is installed; import nothing."""
    if wanted not in NAMES:
        raise BackendError(f"the backend {wanted!r} is not supported; expected one of {', '.join(NAMES)}")
    missing = [module for module in (wanted, "keras", "h5py") if importlib.util.find_spec(module) is None]
    if missing:
        raise BackendError(not_installed(missing, f"the backend {wanted}", wanted))


def _running() -> str | None:
    keras = sys.modules.get("keras")
    return None if keras is None else str(keras.config.backend())


def _configured() -> str | None:
    settings = keras_settings()
    backend = None if settings == KERAS_DEFAULTS else settings.get("backend")
    # A framework that is not here may have been named for another environment of the same person.
    return backend if backend in installed() else None


def _require_keras_starts() -> None:
    try:
        keras_settings()
    except BackendError as error:
        if not isinstance(error.__cause__, ValueError):  # Keras takes what is no JSON for an empty file
            raise


def keras_settings_path() -> Path:
    """Return where Keras looks for its settings."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".keras") / "keras.json"


def keras_settings() -> dict[str, Any]:
    """Return what a person's ``keras.json`` says; nothing where there is none.

    Raises ``BackendError`` for one that cannot be read, or with which Keras cannot be imported.
    """
    path = keras_settings_path()
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")).items())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise BackendError(
            f"{path} could not be read ({reason(error)}); expected JSON with a backend: mend or remove it"
        ) from error
    for name, choices in KERAS_CHOICES.items():
        if found.get(name, choices[0]) not in choices:
            raise BackendError(f"{path} has {name} {found[name]!r}; expected {' or '.join(choices)}: mend or remove it")
    if not isinstance(found.get("epsilon", 0.0), float):
        raise BackendError(f"{path} has epsilon {found['epsilon']!r}; expected a float: mend or remove it")
    return found


def _first_installed() -> str:
    found = installed()
    if not found:
        raise BackendError(f"no framework is installed; expected one of {', '.join(NAMES)}: {install_line(NAMES[0])}")
    return found[0]


def not_installed(packages: Sequence[str], wanted: str, extra: str) -> str:
    """Return that ``packages``, which ``wanted`` needs and ``extra`` brings, are missing, and what to type."""
    *first, last = packages
    names = f"{', '.join(first)} and {last} are" if first else f"{last} is"
    return f"{names} not installed; expected for {wanted}: {install_line(extra)}"


def install_line(name: str) -> str:
    """Return what a person types to get an extra: a framework with all else that training needs, or another one."""
    return f'pip install "cifarnet[{name}]", or in a clone pip install --editable ".[{name}]"'
