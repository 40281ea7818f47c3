"""What this process runs on: packages and machine, as a record of a run tells them."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import Any

PACKAGES = (
    *("cifarnet", "keras", "jax", "jaxlib", "torch", "tensorflow", "tensorflow-cpu"),
    *("numpy", "h5py", "onnx", "onnxruntime"),
)
"""Packages whose versions can change a figure."""

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Names that Linux has for instructions that multiply bfloat16, on x86 and on Arm."""
FAULTY_JAXLIB = frozenset({"0.10.2"})
"""Versions of jaxlib that can compute wrong sums on a CPU (jax-ml/jax#39103); 0.10.1 and 0.11.0 are right."""
YNNPACK_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
"""XLA's flag for what its YNNPACK library computes: the wrong sums are among its reductions."""
CPUINFO = Path("/proc/cpuinfo")
"""What Linux tells of each core."""
OWNS_PROCESS = Event()
"""Set where the process does nothing but what cifarnet does."""
RESULT = "cifarnet-result: "
"""Opens each line of a process of ours that is JSON for the process that started it: frameworks print too."""
KIBIBYTE = 1024
"""Unit in which Linux tells memory, bytes; macOS tells bytes."""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of each of ``packages`` that is installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def corrected_xla_flags(flags: str, jaxlib: str | None) -> str:
    """Return ``XLA_FLAGS`` with YNNPACK's reductions off, if the installed version ``jaxlib`` gets them wrong.

    A person's own choice for YNNPACK stays, and so does the name of a file of flags. No other version gets the flag:
    XLA ends the process on one that it does not know.
    """
    is_file = bool(flags.strip()) and not flags.lstrip().startswith("--")
    if jaxlib not in FAULTY_JAXLIB or YNNPACK_FLAG in flags or is_file:
        return flags
    return f"{flags} {YNNPACK_FLAG}=-reduce".strip()


def prepare_process() -> None:
    """Let cifarnet set up the whole process for training: threads, memory and messages of the framework.

    For a program that does nothing else, as the commands do: training is faster then. To be called before Keras is
    imported. Without it cifarnet leaves alone what affects more than itself.
    """
    OWNS_PROCESS.set()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read on import: TensorFlow would talk of the processor


def told(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what a process of ours told on stdout, whatever a framework printed between."""
    return (json.loads(line.removeprefix(RESULT)) for line in lines if line.startswith(RESULT))


def tell(**what: Any) -> None:
    """Tell the process that started this one, in a line that ``told`` reads."""
    print(RESULT + json.dumps(what), flush=True)  # noqa: T201  # what the parent process reads


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    # platform.processor() is empty on Debian, where the kernel tells.
    return _told_by_kernel("model name") or platform.processor() or platform.machine()


def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for products of bfloat16, so far as the kernel tells."""
    return not BFLOAT16_FLAGS.isdisjoint((_told_by_kernel("flags") or _told_by_kernel("Features")).split())


def _told_by_kernel(field: str) -> str:
    """Return what Linux says of the first core under ``field``, or nothing."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def usable_cores() -> int | None:
    """Return the number of cores that this process may use."""
    # A process can be confined to fewer cores than the machine has; macOS does not tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def peak_memory_bytes() -> int | None:
    """Return the most memory that this process has held so far, or nothing where the system does not tell."""
    # getrusage is the second choice: on Linux it counts the peak of the process that started this one as well.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return KIBIBYTE * peaks[0] if peaks else _most_resident_bytes()


def _most_resident_bytes() -> int | None:
    try:
        import resource  # of POSIX alone
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else KIBIBYTE * peak
