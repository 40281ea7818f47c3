"""How far the three frameworks drift apart in the first steps of one training: ``python -m benchmarks.agreement``.

Each trains the network of `seed` in a process of its own, dropout on, from the same seed; the losses of each step are
stored in ``results/agreement.json``.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks import PROJECT, RESULTS
from benchmarks.harness.records import markdown, rounded
from cifarnet.backends import NAMES, Steps, choose
from cifarnet.system import processor, versions

PATH = RESULTS / "agreement.json"
STEPS = 30
SPANS = (1, 10, STEPS)
"""Numbers of first steps in the table."""
STEPS_PER_EPOCH = 1167
"""Of the recipe `seed` on CIFAR-10: the learning rate rises as slowly here as there."""
SMALLER = {
    "filters": (8, 16, 16),
    "ghost_batch": 16,
    "batch_size": 48,
    "learning_rate": 0.001,
    "precision": "float32",
}
"""Changes to the other recipes, so that few steps take seconds.

In bfloat16 a sum in another order may be rounded to the next of its few values, and the curves part at once.
At ten times the learning rate so narrow a network leaves the curve after three steps: a step that is made orthogonal
takes as much of a direction in which the gradient is mere rounding as of any other.
"""


def first_steps(backend: str, seed: int, *recipes: str) -> dict[str, dict[str, Any]]:
    """Return by recipe the losses (nats) of the first steps, and digests of initial weights, masks and views."""
    command = [sys.executable, "-m", "benchmarks.agreement", str(seed), *recipes]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{backend} failed: {done.stderr}")
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _take_first_steps(seed: int, name: str) -> dict[str, Any]:
    """Take the first steps in this process."""
    choose()
    from keras import ops

    from cifarnet.data import batch_order, hold_out, synthetic
    from cifarnet.data.augmentation import Augmentation
    from cifarnet.model.layers import dropout_mask
    from cifarnet.model.network import build_model, logits_of
    from cifarnet.model.weights import get_weights
    from cifarnet.recipes import Recipe, recipe
    from cifarnet.training.optimizer import build_optimizer, compile_engine, learning_rate_at
    from cifarnet.training.train import initial_model

    settings, split = recipe(name).changed({"seed": seed} | ({} if name == "seed" else SMALLER)), synthetic().train
    # Noise on the drawn patterns: in a flat area four pixels tie for the maximum, and then rounding decides.
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 128, split.images.shape, np.uint8)
    split = replace(split, images=split.images // 2 + noise)
    job = Recipe(name=name, model=settings.model, train=settings.train)
    parts = hold_out(split, job.train.validation_fraction, seed, job.model.classes)
    initial = get_weights(initial_model(job, split, parts))
    # Steps are taken from unwhitened patches and the images as they are: after ten steps of whitened views rounding
    # alone was seen to move a loss by 3e-3 to 2e-2.
    network = logits_of(build_model(job.model, seed=seed))
    step = ops.convert_to_tensor(np.array(17, np.int32))
    masks = [dropout_mask((30, 512), recipe("seed").model.dropout, seed, stream, step) for stream in (1, 2, 3)]
    engine = compile_engine(network, build_optimizer(job.train, network), job, split.labels)
    size = job.train.batch_size
    chosen = batch_order(len(split), seed, 1)[: STEPS * size].reshape(STEPS, size)
    images, labels = split.images[chosen], split.labels[chosen]
    views = Augmentation(job.train, len(split), 1)(split.images[chosen.ravel()], chosen.ravel())
    rates = [learning_rate_at(job.train, (step + 1) / STEPS_PER_EPOCH) for step in range(STEPS)]
    sums = engine.train(Steps(images, labels, np.ones((STEPS, size), np.float32), np.array(rates, np.float32)))
    return {
        "initial_weights": _digest(*initial.values()),
        "dropout_masks": _digest(*(ops.convert_to_numpy(mask).astype(bool) for mask in masks)),
        "views": _digest(views),
        "losses": [float(each.loss) / size for each in sums],
    }


def _digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def table() -> str:
    """Return the largest differences of the losses, one row per pair of frameworks."""
    losses = {name: found["losses"] for name, found in json.loads(PATH.read_text())["curves"].items()}
    rows = []
    for one, other in combinations(losses, 2):
        differences = np.abs(np.subtract(losses[one], losses[other]))
        largest = [differences[:span].max() for span in SPANS]
        rows.append([f"{one}, {other}", *map(rounded, largest)])
    return markdown(("backends", "first step", "first 10 steps", "first 30 steps"), rows)


def main() -> None:
    if sys.argv[1:]:
        seed, *recipes = sys.argv[1:]
        print(json.dumps({name: _take_first_steps(int(seed), name) for name in recipes}))
        return
    curves = {backend: first_steps(backend, 0, "seed")["seed"] for backend in NAMES}
    document = {"versions": versions(), "processor": processor(), "steps": STEPS, "curves": curves}
    PATH.write_text(json.dumps(document, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
