"""Two workers of one thread against one process of two: ``python -m benchmarks.workers [--toy]``.

Each round trains every setup for a few calls of its engine, on noise, in new processes. The samples are stored in
``workers.jsonl`` in the folder of ``--results``. The second table is calculated from the first: it was not measured.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import PROJECT, RESULTS
from benchmarks.harness.records import Results, ResultsFile, command_line, markdown, percent, shown
from cifarnet.backends import Steps, adapter, choose
from cifarnet.config import TrainConfig
from cifarnet.recipes import recipe
from cifarnet.system import prepare_process

ROUNDS, CALLS, STEPS = 5, 6, 4
"""Rounds; timed calls of the engine in each, after one that compiles; steps per call."""
TOY = {"filters": (4,), "dense_units": (8,)}
BACKENDS, RECIPES = ("torch", "jax"), ("seed", "fast")
SETUPS = {"one process, two threads": (1, 2), "two workers, one thread each": (2, 1)}
"""Number of workers, and threads of each."""
NETWORKS_GBIT_S = (10, 100)
MOST_WORKERS = 64
CALCULATED = (
    "Calculated, not measured: every worker computes one micro-batch per step at the speed of one of the two workers "
    "above, then receives the gradients of all others at the full rate of its network; latency is left out. The batch "
    "grows with the workers: 64 of them need 960 images for `seed` and 16,384 for `fast`, more than in the recipes."
)


def worker(name: str, output: Path, *, toy: bool) -> None:
    """Train for a few calls, and let the first worker write the images per second and the bytes per step."""
    prepare_process()
    choose()
    from cifarnet.training.launch import join

    workers = join()  # before Keras, which may use JAX
    from cifarnet.model.network import build_model, logits_of
    from cifarnet.training.optimizer import build_optimizer, compile_engine

    settings = recipe(name).changed(TOY if toy else {})
    train, ghost_batch = settings.train, settings.model.ghost_batch
    network = logits_of(build_model(settings.model))
    parts = max(2, len(adapter().micro_batches(train.batch_size, ghost_batch)))  # the same work for all
    optimizer = build_optimizer(train, network)
    engine = compile_engine(network, optimizer, settings, np.zeros(0, np.int32), parts=parts, workers=workers)
    steps = _noise(train, settings.model.image_shape)
    engine.train(steps)
    began = time.perf_counter()
    for _ in range(1 if toy else CALLS):
        engine.train(steps)
    seconds = time.perf_counter() - began
    if workers.is_first:
        numbers = sum(math.prod(variable.shape) for variable in network.variables) + 2
        images = (1 if toy else CALLS) * STEPS * train.batch_size
        output.write_text(json.dumps({"images_per_s": images / seconds, "row_bytes": 4 * numbers, "parts": parts}))


def _noise(config: TrainConfig, shape: tuple[int, ...]) -> Steps:
    rng, sizes = np.random.default_rng(0), (STEPS, config.batch_size)
    return Steps(
        rng.integers(0, 256, (*sizes, *shape), np.uint8),
        rng.integers(0, 10, sizes, np.int32),
        np.ones(sizes, np.float32),
        np.full(STEPS, config.learning_rate, np.float32),
    )


def measure(results: ResultsFile, rounds: int, *, toy: bool) -> None:
    """Run all setups in each round."""
    cells = [(backend, name) for backend in BACKENDS[: 1 if toy else None] for name in RECIPES[: 1 if toy else None]]
    for backend, name in cells:
        for setup in SETUPS:
            results.add("start", contender=setup, cell=f"{backend}, {name}", group="cifarnet")
    for _ in range(rounds):
        for backend, name in cells:
            for setup, (count, threads) in SETUPS.items():
                found = _measured(backend, name, count, threads, toy=toy)
                results.add("turn", contender=setup, cell=f"{backend}, {name}", **found)


def _measured(backend: str, name: str, count: int, threads: int, *, toy: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        arguments = ["--recipe", name, "--output", str(output), *["--toy"] * toy]
        command = ["-m", "benchmarks.workers", *arguments]
        start = (
            "from cifarnet.training.launch import start_workers; "
            f"raise SystemExit(start_workers({count}, {backend!r}, {command}))"
        )
        environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": str(threads)}
        subprocess.run([sys.executable, "-c", start], cwd=PROJECT, env=environment, check=True)
        found: dict[str, float] = json.loads(output.read_text())
        return found


def table(path: Path = RESULTS / "workers.jsonl") -> str:
    """Return the measured medians, and the calculated share of time that more workers would compute."""
    results = Results.read(path)
    measured, calculated = [], []
    for cell in results.cells():
        one, two = (results.median(cell, setup, "images_per_s") for setup in SETUPS)
        row_bytes, parts = (results.values(cell, next(iter(SETUPS)), key)[0] for key in ("row_bytes", "parts"))
        measured.append([cell, shown(one), shown(two), f"{row_bytes * math.ceil(parts / 2) / 1e6:.1f} MB"])
        images = recipe(cell.split(", ")[1]).train.batch_size / parts
        computing_s = images / ((two or 1.0) / 2)
        for rate in NETWORKS_GBIT_S:
            counts = [2**power for power in range(1, int(math.log2(MOST_WORKERS)) + 1)]
            shares = [computing_s / (computing_s + 8 * row_bytes * (count - 1) / (rate * 1e9)) for count in counts]
            calculated.append([cell, f"{rate} Gbit/s", *(percent(share, 0) for share in shares)])
    titles = ("images per second", *SETUPS, "received by each worker per step")
    counts_title = [f"{2**power} workers" for power in range(1, int(math.log2(MOST_WORKERS)) + 1)]
    efficiency = markdown(("share of the time that a worker computes", "network", *counts_title), calculated)
    return "\n\n".join([markdown(titles, measured), CALCULATED, efficiency, *results.footer()])


def main() -> None:
    parser: argparse.ArgumentParser = command_line("workers", __doc__)
    parser.add_argument("--recipe", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.output:
        worker(given.recipe, given.output, toy=given.toy)
        return
    rounds = given.rounds or (1 if given.toy else ROUNDS)
    results = ResultsFile(given.results / "workers.jsonl", "workers", {"rounds": rounds})
    measure(results, rounds, toy=given.toy)
    results.close()
    print(table(results.path))


if __name__ == "__main__":
    main()
