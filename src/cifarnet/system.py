"""Versions, CPU, memory and process-wide settings."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

PACKAGES = (
    *("cifarnet", "keras", "jax", "jaxlib", "torch", "tensorflow", "tensorflow-cpu"),
    *("numpy", "h5py", "onnx", "onnxruntime"),
)
"""Packages whose versions may affect results; they are stored in the run record."""

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Linux' names of the x86 and Arm instruction sets for bfloat16 products."""
FAULTY_JAXLIB = frozenset({"0.10.2"})
"""Versions of jaxlib that can compute wrong sums on a CPU (jax-ml/jax#39103); 0.10.1 and 0.11.0 are correct."""
YNNPACK_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
"""XLA flag that selects what the YNNPACK library computes. The wrong sums are among its reductions."""
CPUINFO = Path("/proc/cpuinfo")
"""Linux' description of each CPU core."""
OWNS_PROCESS = Event()
"""Set if ``prepare_process`` was called."""
RESULT = "cifarnet-result: "
"""Prefix of a line of JSON from a child process, because frameworks print to stdout as well."""
IMAGE_PIXELS = 32 * 32
"""Pixels of an image for which batch sizes were measured."""
KIBIBYTE = 1024
"""Unit of memory sizes on Linux, in bytes; macOS uses bytes."""


def images_at_once(count: int, shape: tuple[int, ...]) -> int:
    """Return how many images of ``shape`` (height, width, ...) have no more pixels than ``count`` of 32x32, 1 or more.

    A network's activations for them need no more memory, either.
    """
    return max(min(count, count * IMAGE_PIXELS // (shape[0] * shape[1])), 1)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of each of ``packages`` that is installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes longer to import than the rest of this module

    installed = {"python": platform.python_version()}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def corrected_xla_flags(flags: str, jaxlib: str | None) -> str:
    """Return ``XLA_FLAGS`` with YNNPACK's reductions disabled, if the installed ``jaxlib`` computes them wrong.

    A user's setting for YNNPACK and the name of a flag file are kept. Other versions of jaxlib do not get the flag,
    because XLA aborts on an unknown one.
    """
    is_file = bool(flags.strip()) and not flags.lstrip().startswith("--")
    if jaxlib not in FAULTY_JAXLIB or YNNPACK_FLAG in flags or is_file:
        return flags
    return f"{flags} {YNNPACK_FLAG}=-reduce".strip()


def prepare_process() -> None:
    """Allow process-wide settings that make training faster: threads, memory and log level of the framework.

    Call it before Keras is imported, in a program that only uses cifarnet; the commands do. By default cifarnet does
    not change process-wide settings.
    """
    OWNS_PROCESS.set()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read on import; hides messages about the CPU


def results_in(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the values that a child process printed with ``print_result``, and ignore all other lines."""
    return (json.loads(line.removeprefix(RESULT)) for line in lines if line.startswith(RESULT))


def print_result(**values: Any) -> None:
    """Print values for the parent process, which reads them with ``results_in``."""
    print(RESULT + json.dumps(values), flush=True)  # noqa: T201  # the parent process reads it


def processor() -> str:
    """Return the name of the CPU, or its architecture if the name is unknown."""
    # platform.processor() is empty on Debian.
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def multiplies_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16 products; False if unknown."""
    return not BFLOAT16_FLAGS.isdisjoint((_cpuinfo("flags") or _cpuinfo("Features")).split())


def _cpuinfo(field: str) -> str:
    """Return a field of the first core in ``/proc/cpuinfo``, or an empty string."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def usable_cores() -> int | None:
    """Return the number of CPU cores available to this process, or None if unknown."""
    # A process may be restricted to some of the cores; macOS does not report it.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def threads_of_environment(variables: Iterable[str]) -> int | None:
    """Return the number in the first of the environment ``variables`` that has one, otherwise the usable cores."""
    given = (os.environ.get(variable, "").strip() for variable in variables)
    return next((int(number) for number in given if number.isdecimal() and int(number)), usable_cores())


def peak_memory_bytes() -> int | None:
    """Return the peak resident memory of this process in bytes, or None if unknown."""
    # getrusage is the second choice, because on Linux it includes the peak of the parent process.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return KIBIBYTE * peaks[0] if peaks else _peak_of_getrusage()


def _peak_of_getrusage() -> int | None:
    try:
        import resource  # POSIX only
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else KIBIBYTE * peak
