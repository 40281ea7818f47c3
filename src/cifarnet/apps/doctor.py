"""Check the environment: conflicting packages, known issues, and the speed of each backend."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cifarnet.backends import KERAS_DEFAULTS, keras_settings, keras_settings_path, require_usable_variable
from cifarnet.errors import BackendError
from cifarnet.system import FAULTY_JAXLIB, corrected_xla_flags, results_in

ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
"""Packages that install the same module and overwrite each other's files."""

TIMING_LIMIT_S = 300
"""Timeout of one backend's timing in seconds, including its start."""


@dataclass(frozen=True)
class Timing:
    """Training speed of one backend, measured in a subprocess."""

    backend: str
    images_per_s: int | None = None
    """Training images per second, or None if the process failed."""
    devices: list[str] = field(default_factory=list)
    failure: str = ""
    """Last line of stderr of a failed process."""


def known_bad_pairs(found: dict[str, str]) -> list[str]:
    """Return a sentence with the remedy for each pair of conflicting packages in ``found``, versions by name."""
    here = [name for name in ONNXRUNTIMES if name in found]
    return [
        f"{here[0]} {found[here[0]]} with {name} {found[name]}: both install the module onnxruntime, so either may "
        f"run; pip uninstall {' '.join(here)}, then pip install {name} alone"
        for name in here[1:]
    ]


def notes(found: dict[str, str]) -> Iterator[str]:
    """Yield a sentence for each known issue of the versions ``found``, of ``KERAS_BACKEND`` and of Keras' settings."""
    try:
        require_usable_variable()
    except BackendError as error:
        yield str(error)
    jaxlib, flags = found.get("jaxlib"), os.environ.get("XLA_FLAGS", "")
    if jaxlib in FAULTY_JAXLIB:
        corrected = corrected_xla_flags(flags, jaxlib)
        remedy = (
            f"cifarnet corrects this with XLA_FLAGS={corrected!r}"
            if corrected != flags
            else f"XLA_FLAGS is {flags!r} and is not changed; cifarnet refuses JAX if sums are wrong with it"
        )
        yield f"jaxlib {jaxlib} computes wrong sums on a CPU: {remedy}"
    others = {name: value for name, value in keras_settings().items() if value != KERAS_DEFAULTS.get(name, value)}
    if changed := [f"{name} {value}" for name, value in others.items() if name != "backend"]:
        yield f"{keras_settings_path()} has {', '.join(changed)}: cifarnet's models ignore this"


def time_backend(name: str) -> Timing:
    """Return the training speed of a backend, measured in a subprocess."""
    command = [sys.executable, "-m", "cifarnet.training.timing"]
    environment = os.environ | {"KERAS_BACKEND": name}
    try:
        done = subprocess.run(  # noqa: S603  # our module in this interpreter
            command,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMING_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Timing(name, failure=f"no result within {TIMING_LIMIT_S} s")
    if done.returncode:
        return Timing(name, failure=(done.stderr.strip().splitlines() or ["no message"])[-1])
    result = next(results_in(done.stdout.splitlines()), None)
    if result is None:
        return Timing(name, failure="the process ended without a result")
    return Timing(name, images_per_s=result["images_per_s"], devices=result["devices"])


def fastest(timings: Iterable[Timing]) -> str | None:
    """Return the backend with the most images per second, or None if all failed."""
    worked = {timing.backend: timing.images_per_s for timing in timings if timing.images_per_s is not None}
    return max(worked, key=lambda name: worked[name]) if worked else None
