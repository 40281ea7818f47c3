"""A few epochs on real CIFAR-10, a subset of it, through the same code as the recipe."""

import numpy as np
import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.dataset import Dataset, Split
from cifarnet.recipes import Recipe
from cifarnet.training.begin import begin
from cifarnet.training.train import resume


def first_images(split, count):
    return Split(np.array(split.images[:count]), np.array(split.labels[:count]))


@pytest.fixture(scope="module")
def subset(real_images):
    train, test = first_images(real_images.train, 3000), first_images(real_images.test, 1000)
    return Dataset("cifar10, a subset", train, test, real_images.labels)


def test_a_few_epochs_on_real_images_do_better_than_chance(subset, tmp_path):
    settings = TrainConfig(epochs=3, schedule_epochs=3)
    job = Recipe(name="seed", model=ModelConfig(filters=(16, 32, 64)), train=settings)
    record = resume(begin(job, subset, tmp_path), subset).record
    assert record.metrics.test.accuracy > 0.25  # one in ten by chance
