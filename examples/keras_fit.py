"""Train with Keras' own ``compile`` and ``fit``, then export through the parity check.

KERAS_BACKEND=jax python examples/keras_fit.py
KERAS_BACKEND=torch python examples/keras_fit.py --data synthetic --epochs 3
"""

import argparse

import numpy as np

import cifarnet

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="cifar10", help="cifar10, synthetic, or a folder with one subfolder per class")
parser.add_argument("--epochs", type=int, default=1000)
parser.add_argument("--output", default="model.onnx")
arguments = parser.parse_args()

cifarnet.choose_backend()  # KERAS_BACKEND, keras.json or the first installed backend; before Keras is imported
import keras  # noqa: E402

dataset = cifarnet.load_dataset(arguments.data)
model = cifarnet.build_model(cifarnet.ModelConfig(classes=len(dataset.labels)))
model.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
# Keras' validation_split takes the last images, and folders are sorted by class: shuffle once.
order = np.random.default_rng(0).permutation(len(dataset.train))
model.fit(
    dataset.train.images[order],
    dataset.train.labels[order],
    validation_split=0.3,
    batch_size=30,
    epochs=arguments.epochs,
    callbacks=[cifarnet.early_stopping()],
    verbose=2,
)
exported = cifarnet.export_model(
    model, arguments.output, dataset.test.images, dataset.test.labels, class_names=dataset.labels
)
print(f"{exported.path}: test accuracy {exported.parity.accuracy:.2%}, as in Keras")
print(cifarnet.Classifier(exported.path)(dataset.test.images[0]).label)
