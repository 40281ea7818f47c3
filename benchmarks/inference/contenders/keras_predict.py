"""Keras: `predict` as its guides have it, or `predict_on_batch`, which its guides advise for small inputs."""

import keras

from benchmarks.harness.turns import Task, Turns
from benchmarks.inference.serving import network_of, serve
from benchmarks.networks.keras_stock import set_weights, stock_network


def contend(task: Task, turns: Turns) -> None:
    """Answer until there is no further turn."""
    network = trained_network(task)
    if task.options["method"] == "predict_on_batch":
        serve(network.predict_on_batch, task, turns)
    size = task.settings["batch"]
    serve(lambda images: network.predict(images, batch_size=size, verbose=0), task, turns)


def trained_network(task: Task) -> keras.Model:
    """Return the stock network, softmax included, with the trained weights."""
    model, weights = network_of(task)
    network = stock_network(model, softmax=True)
    set_weights(network, weights)
    return network
