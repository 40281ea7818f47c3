"""A short timing of the running backend: ``python -m cifarnet.training.timing`` prints one JSON object."""

import json
import time

import numpy as np

from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.model import build_model, logits_of

from .objective import objective
from .optimizer import build_optimizer

WARM_UP_STEPS = 3
TIMED_STEPS = 40


def images_per_second(steps: int = TIMED_STEPS) -> float:
    """Train the recipe ``seed`` on noise for ``steps`` batches after a warm-up and return images per second."""
    config = TrainConfig()
    network = logits_of(build_model(ModelConfig()))
    engine = adapter().compile(network, build_optimizer(config, network), objective)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (config.batch_size, *ModelConfig().image_shape), np.uint8)
    labels = rng.integers(0, 10, config.batch_size, np.int32)
    batch = (images, labels, np.ones(config.batch_size, np.float32), config.learning_rate)
    for _ in range(WARM_UP_STEPS):
        float(engine.train_step(*batch).loss_sum)  # reading the sum waits for the device
    began = time.perf_counter()
    for _ in range(steps):
        sums = engine.train_step(*batch)
    float(sums.loss_sum)
    return steps * config.batch_size / (time.perf_counter() - began)


if __name__ == "__main__":
    report = {"backend": choose(), "devices": adapter().devices(), "images_per_s": round(images_per_second())}
    print(json.dumps(report))  # noqa: T201  # what the parent process reads
