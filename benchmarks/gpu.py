"""Training and tests on a GPU, in ten minutes: ``python -m benchmarks.gpu``.

On each installed backend that sees a GPU, times training steps of the recipes, measures the error of a float32 matrix
product, which shows whether TF32 is off, and runs the tests of the engine. Appends a line per backend to
``results/gpu.jsonl``. Without a GPU, prints one line.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import PROJECT, RESULTS
from benchmarks.harness.records import all_versions, append, machine
from cifarnet.backends import Steps, adapter, choose, installed
from cifarnet.recipes import recipe
from cifarnet.system import prepare_process, print_result, results_in

RECIPES = ("fast", "strong")
TESTS = ("tests/every_backend/test_engine.py", "tests/every_backend/test_other_settings.py")
LIMIT_S = 95
"""Longest time of the tests of one backend, and of its measurements: three backends need less than ten minutes."""
STEPS, CALLS = 8, 5
"""Steps per call of the engine, and timed calls after one that compiles."""
SIDE = 1024
"""Rows and columns of the matrices that are multiplied."""
LARGEST_ERROR = 1e-5
"""Largest accepted error of their product, relative to its largest number: TF32 has ten bits, and 1e-4 or more."""


def on_gpu(devices: list[str]) -> bool:
    """Return whether one of a framework's ``devices`` is a GPU."""
    return any(word in device.lower() for device in devices for word in ("cuda", "gpu", "rocm"))


def product_error() -> float:
    """Return the largest error of a float32 matrix product, relative to the largest number in it."""
    from keras import ops

    one, other = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    exact = one.astype(np.float64) @ other.astype(np.float64)
    with adapter().framework_defaults():
        found = ops.convert_to_numpy(ops.matmul(one, other))
    return float(abs(found - exact).max() / abs(exact).max())


def images_per_second(name: str) -> float:
    """Train a recipe on noise, after a warm-up, and return the images per second."""
    from cifarnet.model.network import build_model, logits_of
    from cifarnet.training.optimizer import build_optimizer, compile_engine

    settings = recipe(name)
    train, network = settings.train, logits_of(build_model(settings.model))
    shape, rng = (STEPS, train.batch_size), np.random.default_rng(0)
    steps = Steps(
        rng.integers(0, 256, (*shape, *settings.model.image_shape), np.uint8),
        rng.integers(0, settings.model.classes, shape, np.int32),
        np.ones(shape, np.float32),
        np.full(STEPS, train.learning_rate, np.float32),
    )
    engine = compile_engine(network, build_optimizer(train, network), settings, steps.labels.ravel())
    engine.train(steps)
    began = time.perf_counter()
    for _ in range(CALLS):
        engine.train(steps)
    return CALLS * STEPS * train.batch_size / (time.perf_counter() - began)


def measure() -> None:
    """Print the devices of the backend of this process and, on a GPU, the measurements."""
    prepare_process()
    choose()
    devices = adapter().devices()
    print_result(devices=devices)
    if on_gpu(devices):
        error = product_error()
        print_result(product_error=error, tf32_is_off=error <= LARGEST_ERROR)
        for name in RECIPES:
            print_result(**{f"{name}_images_per_s": images_per_second(name)})


def child(backend: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run Python on ``backend``; return its exit code, None after ``LIMIT_S``, its output and the last line."""
    command, environment = [sys.executable, "-m", *arguments], os.environ | {"KERAS_BACKEND": backend}
    try:
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        return None, output.decode() if isinstance(output, bytes) else output, f"took longer than {LIMIT_S} s"
    last = (done.stdout + done.stderr).strip().splitlines()[-1:]
    return done.returncode, done.stdout, "".join(last)


def line_of(backend: str) -> dict[str, Any] | None:
    """Return the line to store for ``backend``, or None if it sees no GPU."""
    code, output, last = child(backend, "benchmarks.gpu", "--measure")
    found: dict[str, Any] = {"backend": backend}
    for result in results_in(output.splitlines()):
        found |= result
    if code == 0 and not on_gpu(found["devices"]):
        return None
    tests_code, _, summary = child(backend, "pytest", "-q", *TESTS)
    failed = {} if code == 0 else {"failed": last}
    return found | failed | {"tests_passed": tests_code == 0, "tests": summary}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS / "gpu.jsonl", help="file that lines are appended to")
    given = parser.parse_args()
    if given.measure:
        measure()
        return
    lines = [line for backend in installed() if (line := line_of(backend))]
    for line in lines:
        append(given.results, {"machine": machine(), "versions": all_versions()} | line)
        print(line)
    if not lines:
        print(f"no GPU is seen by the installed backends ({', '.join(installed()) or 'none'}): nothing was measured")


if __name__ == "__main__":
    main()
