"""Read the Python version of CIFAR-10, which is pickled, without running anything that the pickle asks for.

The official files name three globals. Each is replaced by a class that only remembers what it was given; every other
name is refused, so no code of the file, and not even numpy's own reconstruction, ever runs.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import IntegrityError

from .records import Records, records_from_planes
from .release import PIXEL_BYTES, RecordFile, Release

_PLAIN_BYTES = ("u1", b"u1", "|u1", b"|u1")
_LABEL = b"labels"
_PIXELS = b"data"


class _Inert:
    """Remembers the arguments and the state that a pickle gives it, and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Array(_Inert):
    pass


class _Dtype(_Inert):
    pass


_KNOWN_GLOBALS: dict[tuple[str, str], type[_Inert]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Inert,
    ("numpy", "dtype"): _Dtype,
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> type[_Inert]:
        known = _KNOWN_GLOBALS.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file needs")
        return known


def size_limit_bytes(release: Release) -> int:
    """Return a generous bound for one pickled file: the pixels, and 100 bytes of label and file name per image."""
    return release.images_per_file * (PIXEL_BYTES + 100) + 65_536


def records_from_pickle(data: bytes, file: RecordFile, release: Release) -> Records:
    """Read one batch of the Python version.

    Raises IntegrityError when the pickle is damaged, asks for anything but the three known globals, or holds arrays
    of another kind.
    """
    batch = _load_inert(data, file)
    labels = _labels(batch.get(_LABEL), file, release)
    return records_from_planes(_planes(batch.get(_PIXELS), file, release), labels)


def _load_inert(data: bytes, file: RecordFile) -> dict[object, Any]:
    try:
        batch = _InertUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise IntegrityError(f"{file.stem} cannot be read: {error}: use the official archive") from error
    if not isinstance(batch, dict):
        raise _unlike(file, f"a {type(batch).__name__}", "a dictionary")
    return batch


def _planes(array: object, file: RecordFile, release: Release) -> NDArray[np.uint8]:
    """Return the pixels, uint8 (n, 3072), from what the pickle would have built an array of."""
    shape, pixels = _array_parts(array, file)
    expected = (release.images_per_file, PIXEL_BYTES)
    if shape != expected:
        raise _unlike(file, f"an array of shape {shape}", str(expected))
    if not isinstance(pixels, bytes) or len(pixels) != expected[0] * expected[1]:
        raise _unlike(file, "pixels of another length", f"{expected[0] * expected[1]} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(expected)


def _array_parts(array: object, file: RecordFile) -> tuple[object, object]:
    """Return shape and bytes of a C-ordered array of bytes; numpy's state is (version, shape, dtype, order, bytes)."""
    state = array.state if isinstance(array, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise _unlike(file, "no array of pixels", f"one under {_PIXELS!r}")
    _, shape, dtype, is_fortran, pixels = state
    if not isinstance(dtype, _Dtype) or dtype.arguments[:1] not in [(name,) for name in _PLAIN_BYTES]:
        raise _unlike(file, "an array of another dtype", "uint8")
    if is_fortran:
        raise _unlike(file, "an array in Fortran order", "C order")
    return shape, pixels


def _labels(labels: object, file: RecordFile, release: Release) -> NDArray[np.int32]:
    if not isinstance(labels, list) or len(labels) != release.images_per_file:
        raise _unlike(file, "no list of labels, or one of another length", f"{release.images_per_file} labels")
    # bool is an int to Python, and numpy would take True for 1
    if not all(type(label) is int and 0 <= label < len(release.labels) for label in labels):
        raise _unlike(file, "a label that is out of range", f"0 to {len(release.labels) - 1}")
    return np.asarray(labels, np.int32)


def _unlike(file: RecordFile, found: str, expected: str) -> IntegrityError:
    return IntegrityError(f"{file.stem} holds {found}; expected {expected}: use the official archive")
