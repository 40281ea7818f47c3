"""The weights of a network as NumPy arrays by name, and their files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.atomic import temporary_folder, write_atomically
from cifarnet.contract import EPOCH_ATTRIBUTE, reason_or_pointer
from cifarnet.errors import ModelError, RunError, reason

from .layers import BatchNormalization, Conv2D, Dropout


def get_weights(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Return copies of the weights by variable path, such as ``conv_1/kernel``."""
    return {path: np.array(keras.ops.convert_to_numpy(variable)) for path, variable in named_variables(model)}


def set_weights(model: keras.Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Set all weights of ``model``. Raises ``ModelError`` unless names, shapes and dtypes match exactly."""
    expected = dict(named_variables(model))
    if set(weights) != set(expected):
        raise ModelError(
            f"the weights are named {sorted(weights)}; expected {sorted(expected)}: use the weights of the same network"
        )
    for path, variable in expected.items():
        value = weights[path]
        if value.shape != tuple(variable.shape) or value.dtype != np.float32:
            raise ModelError(
                f"{path} is {value.dtype} {value.shape}; expected float32 {tuple(variable.shape)}: "
                "use the weights of the same network"
            )
    for path, variable in expected.items():
        variable.assign(weights[path])


def named_variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Yield the variables of ``model`` that are weights, with their paths; those of dropout are not."""
    layers = (layer for layer in model.layers if not isinstance(layer, Dropout))
    return ((variable.path, variable) for layer in layers for variable in layer.variables)


def save_weights(model: keras.Model, path: Path, epoch: int | None = None) -> None:
    """Write the weights atomically to ``path`` in Keras' ``.weights.h5`` format.

    ``epoch``, if given, is stored as an attribute. Raises ``RunError`` if the file cannot be written.
    """
    # Written to the system's temporary folder first: HDF5 can crash the process on a full disk, where a plain write
    # raises an error. It still can if the temporary folder is full.
    try:
        with temporary_folder() as folder:
            model.save_weights(folder / path.name)
            if epoch is not None:
                with h5py.File(folder / path.name, "r+") as file:
                    file.attrs[EPOCH_ATTRIBUTE] = epoch
            content = (folder / path.name).read_bytes()
    except OSError as error:
        raise RunError(
            f"{path.name} could not be written to a temporary folder ({reason(error)}): free some space or set TMPDIR"
        ) from error
    write_atomically(path, content)


def load_weights(model: keras.Model, path: Path) -> int | None:
    """Set all weights of ``model`` from a ``.weights.h5`` file, written on any backend.

    Returns the epoch stored in the file, or None for a file of an earlier version. Only arrays are read, no
    configuration and no code. Raises ``ModelError`` unless the file holds exactly the arrays of ``model``.
    """
    with _opened(path) as file:  # opened once, because a training run may replace the file at any time
        epoch, weights = _read_epoch(file), dict(_read_arrays(model, model.layers, file))
    set_weights(model, weights)
    return epoch


def load_features(model: keras.Model, path: Path) -> None:
    """Set all weights of ``model`` except those of dense layers, which may differ, from a ``.weights.h5`` file.

    The last blocks of ``model`` may be missing in the file; they keep their weights. Raises ``ModelError`` if the file
    cannot be read, or if its other layers do not match those of ``model``.
    """
    layers = [layer for layer in model.layers if isinstance(layer, Conv2D | BatchNormalization)]
    with _opened(path) as file:
        names = {group["vars"].attrs["name"] for group in file["layers"].values()}
        last = max((index for index, layer in enumerate(layers) if layer.name in names), default=len(layers))
        weights = dict(_read_arrays(model, layers[: last + 1], file))
    set_weights(model, get_weights(model) | weights)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a weights file, and convert errors about a damaged one into ``ModelError``."""
    try:
        with h5py.File(path) as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # HDF5 adds a time and a line break to the system's message.
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise ModelError(
            f"{path} could not be read ({reason_or_pointer(why, path)}); expected Keras weights: train again or pass "
            "another"
        ) from error


def _read_epoch(file: h5py.File) -> int | None:
    epoch = file.attrs.get(EPOCH_ATTRIBUTE)
    if epoch is None:
        return None
    if not isinstance(epoch, np.integer) or epoch < 1:
        raise ValueError(f"the epoch is {epoch!r}")
    return int(epoch)


def _read_arrays(
    model: keras.Model, layers: Sequence[keras.layers.Layer], file: h5py.File
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    groups = {group["vars"].attrs["name"]: group["vars"] for group in file["layers"].values()}
    expected = dict(named_variables(model))
    for layer in layers:
        names = [variable.path for variable in layer.variables if variable.path in expected]
        datasets = groups[layer.name]
        if len(datasets) != len(names):
            raise ModelError(
                f"{layer.name} has {len(datasets)} arrays; expected {len(names)}: use the weights of the same network"
            )
        for index, name in enumerate(names):
            yield name, _read_array(datasets[str(index)], name, tuple(expected[name].shape))


def _read_array(dataset: h5py.Dataset, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    # Checked before reading: a shape may need more memory than there is, and external data may be any file.
    if dataset.shape != shape or dataset.dtype != np.float32 or dataset.external or dataset.is_virtual:
        raise ModelError(
            f"{name} is {dataset.dtype} {dataset.shape}; expected float32 {shape}: use the weights of the same network"
        )
    return np.asarray(dataset[()])
