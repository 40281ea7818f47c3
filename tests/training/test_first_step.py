"""The first step that `cifarnet compare` compares has the loss and the gradients of the objective."""

import keras
import numpy as np
import pytest

from cifarnet.data import hold_out
from cifarnet.evaluation.comparison.compare import gradient_difference
from cifarnet.model.network import build_model, logits_of
from cifarnet.training.first_step import _first_batch, first_step
from cifarnet.training.optimizer import objective
from tests.small_runs import with_training


@pytest.mark.skipif(keras.config.backend() != "torch", reason="derived by torch")
def test_loss_and_gradients_are_those_of_the_objective_and_not_those_of_another_seed(job, dataset):
    import torch

    found, other = first_step(job, dataset), first_step(with_training(job, seed=1), dataset)
    network = logits_of(build_model(job.model, seed=0))
    parts = hold_out(dataset.train, job.train.validation_fraction, 0, len(dataset.labels))
    images, labels = map(torch.as_tensor, _first_batch(job, dataset.train, parts))
    loss = objective(network(images, training=True), labels, torch.ones(len(labels))).loss / len(labels)
    loss.backward()
    expected = {variable.path: variable.value.grad.numpy() for variable in network.trainable_variables}
    np.testing.assert_allclose(found.loss, loss.item(), rtol=1e-6)
    # One float32 operation rounds by 6e-8, and the sums may be ordered otherwise.
    assert gradient_difference(found.gradients, expected) <= 1e-6
    assert gradient_difference(found.gradients, other.gradients) > 0.1
    assert abs(found.loss - other.loss) > 1e-2
