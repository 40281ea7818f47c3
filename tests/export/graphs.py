"""Ways to alter a graph."""

import numpy as np
from onnx import numpy_helper


def change(graph, name, function):
    """Replace an initializer by a function of its values."""
    (tensor,) = (each for each in graph.initializer if each.name == name)
    changed = function(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed, np.float32), name))


def node(graph, name):
    (found,) = (each for each in graph.node if each.name == name)
    return found
