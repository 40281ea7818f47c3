"""Export a Keras model that was not trained by this package, through the same parity check."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from cifarnet.arguments import PATH, described, takes
from cifarnet.backends import default_settings, ensure_backend
from cifarnet.contract import fault_of_labels
from cifarnet.dataset import Split
from cifarnet.errors import DataError, ModelError, UsageError
from cifarnet.evaluation.calibration import calibrate
from cifarnet.evaluation.scoring import predict
from cifarnet.run.folder import RECORD
from cifarnet.run.record import Calibration
from cifarnet.run.typed_json import members
from cifarnet.runtime import open_model
from cifarnet.training.seen import count_seen, digests

from .describe import describe_interface
from .parity import check_parity, model_outputs
from .publish import Exported, describe_parity, possible_path, require_free, write_export
from .tolerances import Tolerances
from .writer import image_shape, serialize, write_graph


@takes(path=PATH)
@default_settings()
def export_model(
    model: keras.Model,
    path: str | Path,
    images: NDArray[np.uint8],
    labels: ArrayLike,
    *,
    class_names: Sequence[str],
    validation: tuple[NDArray[np.uint8], ArrayLike] | None = None,
) -> Exported:
    """Export a Keras model to an ONNX file, after a parity check on ``images``, the test set.

    ``model`` is a Sequential or functional model of images (height, width, 3), pixels 0-255, that contains its own
    scaling, such as a ``Rescaling`` layer. It ends in a softmax, in a dense layer that returns logits, or, for two
    classes, in one sigmoid, the probability of the second. ``images`` is uint8 (n, height, width, 3), RGB, 0-255, and
    ``labels`` holds n indices into ``class_names``; the model should not have been trained on these images.
    ``validation`` is another such pair, on which the temperature of the output ``calibrated`` is fitted; without it the
    file has no such output.

    Writes X.onnx, its contract X.json and the measurements X.parity.json, where ``path`` is X.onnx; they replace those
    of an earlier export once all three are complete. Writes no file and raises ``ParityError`` if a probability differs
    by more than 1e-5, the number of correct predictions changes, or a prediction changes whose two highest
    probabilities were not within 1e-4 of each other; ``ModelError`` with the name of the layer for a model that cannot
    be exported, ``DataError`` for images, labels or class names that do not fit it, and ``UsageError`` for a path that
    is in a run folder or cannot be written.

    Supported layers: InputLayer, Rescaling, Normalization, Conv2D, DepthwiseConv2D, SeparableConv2D, MaxPooling2D,
    AveragePooling2D, GlobalMaxPooling2D, GlobalAveragePooling2D, BatchNormalization, LayerNormalization, Activation,
    ReLU, LeakyReLU, ELU, Softmax, ZeroPadding2D, Cropping2D, UpSampling2D, Flatten, Reshape, Dense, Add, Multiply,
    Concatenate, nested models of these, and layers that do nothing at inference: dropout, noise and random augmentation
    except RandomCrop. Activations: elu, gelu, leaky_relu, linear, relu, relu6, selu, sigmoid, silu, softmax, tanh.
    """
    path = _outside_runs(possible_path(path))
    ensure_backend()
    shape, names = image_shape(model), _names(class_names)
    test = _split(images, labels, shape, len(names))
    held_out = None if validation is None else _held_out(validation, test, shape, len(names))
    graph, tolerances = write_graph(model, temperature=None), Tolerances()
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if classes != len(names):
        raise ModelError(f"the model has {classes} classes; expected {len(names)}, one for each of class_names")
    require_free(path)
    contract = describe_interface(shape, names, calibrated=held_out is not None)
    if held_out is not None:
        contract = contract.changed(calibration=members(_calibration(graph, names, held_out)))
        graph = write_graph(model, temperature=contract.temperature)
    outputs, temperature = model_outputs(model, len(names)), contract.temperature
    parity = check_parity(outputs, serialize(graph, contract), test, tolerances, temperature)
    contract = contract.changed(proof=describe_parity(parity, tolerances.at(temperature)))
    content = serialize(graph, contract)
    exported = Exported(path, len(content), hashlib.sha256(content).hexdigest(), "float32", parity, ())
    write_export(exported, content, contract)
    return exported


def _outside_runs(path: Path) -> Path:
    if (path.parent / RECORD).exists():
        raise UsageError(
            f"the file would be written to {path.parent}, a run folder, whose model is that of the run; expected "
            "another folder: give another path"
        )
    return path


def _names(class_names: Any) -> list[str]:
    """Return the class names. A set has no order, and the order of a dict may differ from its indices."""
    if not isinstance(class_names, list | tuple):
        raise DataError(
            f"class_names is {described(class_names)}; expected a list of names in the order of the model's "
            "outputs: pass that"
        )
    if fault := fault_of_labels(class_names):
        raise DataError(f"class_names has {fault}")
    return [*class_names]


def _held_out(validation: Any, test: Split, shape: tuple[int, ...], classes: int) -> Split:
    if not isinstance(validation, list | tuple) or len(validation) != 2:
        raise DataError("validation is not a pair; expected (images, labels), or None: pass such a pair")
    images, labels = validation
    split = _split(images, labels, shape, classes)
    if copies := count_seen(test.images, digests(split.images)):
        raise DataError(
            f"{copies} of the {len(test)} test images are validation images too; expected none, since the temperature "
            "is fitted on these: pass others"
        )
    return split


def _split(images: Any, labels: ArrayLike, shape: tuple[int, ...], classes: int) -> Split:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        kind = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(
            f"the images are {kind}; expected a uint8 array (n, {', '.join(map(str, shape))}) of pixels 0-255: put "
            "scaling into the model as a keras.layers.Rescaling"
        )
    try:
        found = np.asarray(labels)
    except ValueError:  # of lists of different lengths
        found = np.empty(0)
    if found.shape not in ((len(images),), (len(images), 1)) or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"the labels are {found.dtype} {found.shape}; expected integers ({len(images)},), one for each image: pass "
            "indices into class_names"
        )
    if found.min() < 0 or found.max() >= classes:
        raise DataError(
            f"the labels are {found.min()} to {found.max()}; expected 0 to {classes - 1}, indices into class_names"
        )
    return Split(np.asarray(images), found.reshape(-1).astype(np.int32))


def _calibration(graph: onnx.GraphProto, names: Sequence[str], split: Split) -> Calibration:
    contract = describe_interface(split.images.shape[1:], names, calibrated=False)
    opened = open_model(serialize(graph, contract), threads=0)
    return calibrate(predict(opened.logits, split.images), split.labels)
