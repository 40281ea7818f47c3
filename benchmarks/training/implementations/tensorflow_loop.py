"""A hand-written TensorFlow loop: one `tf.function` over the steps of an epoch, with the fused Adam operation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.harness.worker import Rounds, Task
from benchmarks.networks import initial_kernels
from benchmarks.training.workload import Epoch, Sums, Workload, train_in_rounds


def run(task: Task, rounds: Rounds) -> None:
    workload = Workload(task)
    train_in_rounds(workload, TensorFlowTrainer(workload), rounds, task.folder)


class TensorFlowTrainer:
    """Variables, moments and images."""

    def __init__(self, workload: Workload) -> None:
        tf.random.set_seed(workload.config["seed"])
        self._workload, self._model, self._decay = workload, workload.model, workload.config["weight_decay"]
        self._images, self._labels = tf.constant(workload.images), tf.constant(workload.labels)
        self._validation = [
            (tf.constant(workload.validation_images[part]), tf.constant(workload.validation_labels[part]))
            for part in workload.validation_batches()
        ]
        self._parameters = self._initial_parameters()
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self._parameters]
        self._powers = tf.Variable(1.0), tf.Variable(1.0)
        self._train = tf.function(self._traced_epoch)
        self._measure = tf.function(self._traced_measure)

    def train_epoch(self, epoch: Epoch) -> Sums:
        return Sums(*(float(each) for each in self._train(*map(tf.constant, epoch))))

    def validate(self) -> Sums:
        found = [self._measure(*batch) for batch in self._validation]
        return Sums(*(sum(float(each) for each in column) for column in zip(*found, strict=True)))

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        return {str(index): variable.numpy() for index, variable in enumerate(self._parameters)}

    def _initial_parameters(self) -> list[tf.Variable]:
        parameters = []
        for kernel in initial_kernels(self._model, self._workload.config["seed"]):
            parameters += [tf.Variable(kernel), tf.Variable(tf.zeros(kernel.shape[-1]))]
        return parameters

    def _traced_epoch(self, indices: Any, weights: Any, rates: Any) -> tuple[Any, Any]:
        loss_sum, correct = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(rates)[0]):  # becomes a loop inside the graph
            images, labels = tf.gather(self._images, indices[step]), tf.gather(self._labels, indices[step])
            with tf.GradientTape() as tape:
                losses, hits = self._losses(images, labels, training=True)
                step_sum = tf.reduce_sum(losses * weights[step])
                loss = step_sum / tf.reduce_sum(weights[step])
            self._update(tape.gradient(loss, self._parameters), rates[step])
            loss_sum, correct = loss_sum + step_sum, correct + tf.reduce_sum(hits * weights[step])
        return loss_sum, correct

    def _update(self, gradients: list[Any], rate: Any) -> None:
        first_power, second_power = self._powers
        first_power.assign(first_power * 0.9)
        second_power.assign(second_power * 0.999)
        for parameter, (first, second), gradient in zip(self._parameters, self._moments, gradients, strict=True):
            if parameter.shape.rank > 1:
                parameter.assign(parameter * (1 - rate * self._decay))
            tf.raw_ops.ResourceApplyAdam(
                var=parameter.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=first_power,
                beta2_power=second_power,
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-7,
                grad=gradient,
            )

    def _traced_measure(self, images: Any, labels: Any) -> tuple[Any, Any]:
        losses, hits = self._losses(images, labels, training=False)
        return tf.reduce_sum(losses), tf.reduce_sum(hits)

    def _losses(self, images: Any, labels: Any, *, training: bool) -> tuple[Any, Any]:
        logits = self._logits(images, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return losses, tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), labels), tf.float32)

    def _logits(self, images: Any, *, training: bool) -> Any:
        features, layers = tf.cast(images, tf.float32) * (2 / 255) - 1, iter(self._parameters)
        for kernel, bias in zip(layers, layers, strict=True):
            if kernel.shape.rank == 4:
                features = tf.nn.conv2d(features, kernel, 1, self._model["padding"].upper())
                features = tf.nn.max_pool2d(tf.nn.relu(tf.nn.bias_add(features, bias)), 2, 2, "VALID")
                continue
            if features.shape.rank == 4:
                features = tf.reshape(features, (-1, kernel.shape[0]))
            features = tf.nn.bias_add(features @ kernel, bias)
            if kernel is not self._parameters[-2]:
                features = tf.nn.relu(features)
                features = tf.nn.dropout(features, self._model["dropout"]) if training else features
        return features
