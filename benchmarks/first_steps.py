"""``python -m benchmarks.first_steps SEED STEPS RECIPE``: the first training steps of a recipe's network, as JSON."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np

from cifarnet.backends import Steps, choose

STEPS_OF_AN_EPOCH = 1167
"""Of the recipe `seed` on CIFAR-10: the learning rate rises as slowly here as there."""
SMALLER = {
    "filters": (8, 16, 16),
    "ghost_batch": 16,
    "batch_size": 48,
    "learning_rate": 0.001,
    "precision": "float32",
}
"""What the other recipes' networks and trainings are here, so that few steps take seconds.

In bfloat16 a sum in another order may be rounded to the next of its few values, and the curves part at once.
At ten times the learning rate so narrow a network leaves the curve after three steps: a step that is made orthogonal
takes as much of a direction in which the gradient is mere rounding as of any other.
"""


def digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 (hex) of the arrays' bytes."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def main(seed: int, steps: int, name: str) -> None:
    """Train for so many steps and print what they gave."""
    choose()
    from keras import ops

    from cifarnet.data import batch_order, hold_out, synthetic
    from cifarnet.data.augmentation import Augmentation
    from cifarnet.job import Job
    from cifarnet.model.layers import dropout_mask
    from cifarnet.model.network import build_model, get_weights, logits_of
    from cifarnet.recipes import recipe
    from cifarnet.training.optimizer import build_optimizer, compile_engine, learning_rate_at
    from cifarnet.training.train import initial_model

    settings, split = recipe(name).changed({"seed": seed} | ({} if name == "seed" else SMALLER)), synthetic().train
    # Noise on the drawn patterns: in a flat area four pixels tie for the maximum, and then rounding decides.
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 128, split.images.shape, np.uint8)
    split = replace(split, images=split.images // 2 + noise)
    job = Job(recipe=name, model=settings.model, train=settings.train)
    parts = hold_out(split, job.train.validation_fraction, seed, job.model.classes)
    start = digest(*get_weights(initial_model(job, split, parts)).values())
    # Steps are taken from unwhitened patches and the images as they are: after ten steps of whitened views rounding
    # alone was seen to move a loss by 3e-3 to 2e-2.
    network = logits_of(build_model(job.model, seed=seed))
    step = ops.convert_to_tensor(np.array(17, np.int32))
    masks = [dropout_mask((30, 512), recipe("seed").model.dropout, seed, stream, step) for stream in (1, 2, 3)]
    engine = compile_engine(network, build_optimizer(job.train, network), job.train, job.model.ghost_batch)
    size = job.train.batch_size
    chosen = batch_order(len(split), seed, 1)[: steps * size].reshape(steps, size)
    images, labels = split.images[chosen], split.labels[chosen]
    views = Augmentation(job.train, len(split), 1)(split.images[chosen.ravel()], chosen.ravel())
    rates = [learning_rate_at(job.train, (step + 1) / STEPS_OF_AN_EPOCH) for step in range(steps)]
    sums = engine.train(Steps(images, labels, np.ones((steps, size), np.float32), np.array(rates, np.float32)))
    losses = [float(each.loss) / size for each in sums]
    masks = digest(*(ops.convert_to_numpy(mask).astype(bool) for mask in masks))
    print(json.dumps({"initial_weights": start, "dropout_masks": masks, "views": digest(views), "losses": losses}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
