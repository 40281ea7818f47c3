"""TensorFlow by hand: one `tf.function` that takes many steps over resident images, with the fused Adam operation."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.harness.turns import Task, Turns
from benchmarks.training.course import Course, Epoch, Sums, train_by_hand


def contend(task: Task, turns: Turns) -> None:
    """Train until there is no further turn."""
    course = Course.of(task)
    train_by_hand(course, TensorFlowTrainer(course), turns)


class TensorFlowTrainer:
    """Variables, moments and images."""

    def __init__(self, course: Course) -> None:
        tf.random.set_seed(course.config["seed"])
        self._course, self._model, self._decay = course, course.model, course.config["weight_decay"]
        self._images, self._labels = tf.constant(course.images), tf.constant(course.labels)
        self._validation = [
            (tf.constant(course.validation_images[part]), tf.constant(course.validation_labels[part]))
            for part in course.validation_batches()
        ]
        self._parameters = self._initial_parameters()
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self._parameters]
        self._powers = tf.Variable(1.0), tf.Variable(1.0)
        self._train = tf.function(self._traced_epoch)
        self._measure = tf.function(self._traced_measure)

    def train_epoch(self, epoch: Epoch) -> Sums:
        """Train on every image once."""
        return Sums(*(float(each) for each in self._train(*map(tf.constant, epoch))))

    def validate(self) -> Sums:
        """Measure on the validation images."""
        found = [self._measure(*batch) for batch in self._validation]
        return Sums(*(sum(float(each) for each in column) for column in zip(*found, strict=True)))

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return copies of the weights."""
        return {str(index): variable.numpy() for index, variable in enumerate(self._parameters)}

    def _initial_parameters(self) -> list[tf.Variable]:
        rng, size = np.random.default_rng(self._course.config["seed"]), self._model["kernel_size"]
        widths = [self._model["image_shape"][-1], *self._model["filters"]]
        shapes: list[tuple[int, ...]] = [(size, size, before, after) for before, after in pairwise(widths)]
        height, width = self._features()
        units = [height * width * widths[-1], *self._model["dense_units"], self._model["classes"]]
        parameters = []
        for shape in [*shapes, *pairwise(units)]:
            kernel = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
            parameters += [tf.Variable(kernel, dtype=tf.float32), tf.Variable(tf.zeros(shape[-1]))]
        return parameters

    def _features(self) -> tuple[int, int]:
        height, width = self._model["image_shape"][:2]
        shrink = 0 if self._model["padding"] == "same" else self._model["kernel_size"] - 1
        for _ in self._model["filters"]:
            height, width = (height - shrink) // 2, (width - shrink) // 2
        return height, width

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
