"""What is installed here, whether it goes together, and how fast each backend is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet

from .backends import installed

KNOWN_BAD = (
    ("keras", "<3.11.3", "numpy", ">=0", "loading a model file of another person can run its code (CVE-2025-9905)"),
    ("tensorflow", "<2.18", "numpy", ">=2", "built against numpy 1, it fails on import"),
    ("tensorflow-cpu", "<2.18", "numpy", ">=2", "built against numpy 1, it fails on import"),
    ("torch", "<2.3", "numpy", ">=2", "built against numpy 1, it cannot exchange arrays"),
    ("jax", "<0.4.26", "numpy", ">=2", "built against numpy 1, it fails on import"),
)
"""Pairs of packages and version ranges that do not work together, with the reason."""

TIMING_LIMIT_S = 300
"""Longest wait for one backend's timing, its start included."""


@dataclass(frozen=True)
class Timing:
    """How one backend did in a process of its own."""

    backend: str
    images_per_s: int | None = None
    """Training images per second; nothing when it failed."""
    devices: list[str] = field(default_factory=list)
    failure: str = ""
    """The last line that a failed process wrote."""


def known_bad_pairs(found: dict[str, str]) -> list[str]:
    """Return one sentence for each known-bad pair among the versions ``found``."""
    return [
        f"{one} {found[one]} with {other} {found[other]}: {reason}"
        for one, range_of_one, other, range_of_other, reason in KNOWN_BAD
        if one in found
        and other in found
        and SpecifierSet(range_of_one).contains(found[one], prereleases=True)
        and SpecifierSet(range_of_other).contains(found[other], prereleases=True)
    ]


def time_backends(names: Iterable[str] | None = None) -> Iterable[Timing]:
    """Yield the timing of each backend in ``names`` (every installed one by default), one process after the other."""
    return (_time_backend(name) for name in (installed() if names is None else names))


def _time_backend(name: str) -> Timing:
    command = [sys.executable, "-m", "cifarnet.training.timing"]
    environment = os.environ | {"KERAS_BACKEND": name}
    try:
        done = subprocess.run(  # noqa: S603  # our own module in our own interpreter
            command,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMING_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Timing(name, failure=f"no answer within {TIMING_LIMIT_S} s")
    if done.returncode:
        return Timing(name, failure=(done.stderr.strip().splitlines() or ["no message"])[-1])
    answer = json.loads(done.stdout.splitlines()[-1])
    return Timing(name, images_per_s=answer["images_per_s"], devices=answer["devices"])


def fastest(timings: Iterable[Timing]) -> str | None:
    """Return the backend with the most images per second, or nothing when none worked."""
    worked = {timing.backend: timing.images_per_s for timing in timings if timing.images_per_s is not None}
    return max(worked, key=lambda name: worked[name]) if worked else None
