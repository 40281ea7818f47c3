"""A short benchmark of the backend: ``python -m cifarnet.training.timing``."""

import time

import numpy as np

from cifarnet.backends import Steps, adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.model.network import build_model, logits_of
from cifarnet.system import prepare_process, print_result

from .optimizer import build_optimizer, objective

STEPS_PER_CALL = 10
TIMED_CALLS = 4


def images_per_second(calls: int = TIMED_CALLS) -> float:
    """Train the recipe ``seed`` on noise, after a warm-up, and return the number of images per second."""
    config = TrainConfig()
    network = logits_of(build_model(ModelConfig()))
    engine = adapter().compile(network, build_optimizer(config, network), objective)
    rng = np.random.default_rng(0)
    shape = (STEPS_PER_CALL, config.batch_size)
    steps = Steps(
        rng.integers(0, 256, (*shape, *ModelConfig().image_shape), np.uint8),
        rng.integers(0, 10, shape, np.int32),
        np.ones(shape, np.float32),
        np.full(STEPS_PER_CALL, config.learning_rate, np.float32),
    )
    engine.train(steps)
    began = time.perf_counter()
    for _ in range(calls):
        engine.train(steps)
    return calls * STEPS_PER_CALL * config.batch_size / (time.perf_counter() - began)


if __name__ == "__main__":
    prepare_process()
    print_result(backend=choose(), devices=adapter().devices(), images_per_s=round(images_per_second()))
