"""Open a model file: refuse what is not ours, altered or newer, then hand it to onnxruntime."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cifarnet.contract import (
    BATCH_DIMENSION,
    CALIBRATED_NAME,
    CONTRACT_KEY,
    INPUT_NAME,
    LFS_ADVICE,
    LFS_POINTER,
    LOGITS_NAME,
    PROBABILITIES_NAME,
    Shape,
    seal,
)
from cifarnet.errors import ModelError, UsageError

from .contract import read_contract

MAX_BYTES = 2_000_000_000
"""A file without external data is smaller, by the encoding's own limit."""
MAX_THREADS = 1024
"""Beyond any processor: a larger number is a slip, and onnxruntime would start them all."""
Sides = list[list[tuple[str, str, list[Any]]]]
"""Name, type and shape of each input, and of each output."""
SEAL_BYTES = len(seal(b""))
"""Bytes at the end of a file that hold the digest of all others."""
FIRST_BYTE = b"\x08"
"""Begins the version of the format, which every writer of ONNX puts first."""
WAY_OUT = "use a file that `cifarnet export --onnx` wrote"


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to run, and what its file says of itself.

    It is pickled as the content of its file, not as a path: the copy gives the same answers in another process, on
    another machine, and once another file has the path.
    """

    contract: dict[str, Any]
    session: Any
    content: bytes = field(repr=False)
    threads: int
    optimised: bool

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to open the same model again."""
        return partial(open_model, threads=self.threads, optimised=self.optimised), (self.content,)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return tuple(self.contract["labels"])

    @cached_property
    def image_shape(self) -> Shape:
        """Height, width and channels of one image."""
        _, height, width, channels = self.contract["input"]["shape"]
        return height, width, channels

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, two of a file without a temperature and three of another."""
        return _outputs(self.contract)

    def run(self, images: NDArray[np.uint8], outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Return what the model says of images uint8 (n, h, w, 3), RGB, 0-255: of each output float32 (n, classes).

        ``outputs`` are names of some of them, if not all are wanted. Raises ``ModelError`` where onnxruntime gives up
        or the graph answers in another shape.
        """
        try:
            answers: list[NDArray[np.float32]] = self.session.run(outputs or self.outputs, {INPUT_NAME: images})
        except Exception as error:  # onnxruntime's errors share no class but Exception
            raise ModelError(f"the model stops in onnxruntime ({_reason(error)}); {WAY_OUT}") from error
        expected = (len(images), len(self.labels))
        if any(each.shape != expected for each in answers):
            shapes = " and ".join(str(each.shape) for each in answers)
            raise ModelError(f"the model answers in shapes {shapes}; expected {expected}: {WAY_OUT}")
        return answers

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits alone, float32 (n, classes), of images uint8 (n, h, w, 3). Raises as ``run`` does."""
        return self.run(images, (LOGITS_NAME,))[0]


def open_model(source: Path | bytes, *, threads: int = 1, optimised: bool = True) -> OpenedModel:
    """Open a model file, or its content.

    ``threads`` is the number that one call of the model uses, 0 for one per core; ``optimised`` is onnxruntime's
    graph optimisation. Raises ``ModelError`` for anything but an unaltered file of ours of a version known here, and
    ``UsageError`` for a number of threads that cannot be.
    """
    if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
        raise UsageError(f"threads is {threads!r}; expected 1 to {MAX_THREADS:,}, or 0 for one per core: change it")
    name, content = _name(source), source if isinstance(source, bytes) else _read(source)
    _require_sealed(content, name)
    try:
        session = _session(content, threads=threads, optimised=optimised)
        sides, metadata = _sides(session), session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's errors share no class but Exception
        raise ModelError(f"{name} is refused by onnxruntime ({_reason(error)}); {WAY_OUT}") from error
    contract = read_contract(metadata.get(CONTRACT_KEY, ""), name)
    _require_promised(sides, contract, name)
    return OpenedModel(contract, session, content, threads, optimised)


def read_model(source: Path | bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the content of a model file and its contract. Raises ``ModelError`` as ``open_model``."""
    opened = open_model(source, optimised=False)
    return opened.content, opened.contract


def _require_sealed(content: bytes, name: str) -> None:
    """Raise ``ModelError`` unless all bytes have the digest that the file ends in: onnxruntime sees no others."""
    if content.startswith(LFS_POINTER):
        raise ModelError(f"{name} is no ONNX file ({LFS_ADVICE})")
    if not content.startswith(FIRST_BYTE):
        raise ModelError(f"{name} is no ONNX file; expected one: {WAY_OUT}")
    if content[-SEAL_BYTES:] != seal(memoryview(content)[:-SEAL_BYTES]):
        raise ModelError(
            f"{name} does not end in the SHA-256 of its content; expected a whole, unaltered file of cifarnet's: "
            f"{WAY_OUT}"
        )


def _outputs(contract: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the outputs that a file with this contract has."""
    is_calibrated = contract.get("calibration") is not None
    return (LOGITS_NAME, PROBABILITIES_NAME, *((CALIBRATED_NAME,) if is_calibrated else ()))


def _name(source: Path | bytes) -> str:
    return "the model" if isinstance(source, bytes) else str(source)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path} is a folder; expected an ONNX file, as a run's {path / 'model.onnx'}: name it")
        if not stat.S_ISREG(status.st_mode):  # a pipe would keep us waiting, a device may have no end
            raise ModelError(f"{path} is no regular file; expected an ONNX file: check the path")
        if status.st_size > MAX_BYTES:
            raise ModelError(f"{path} has {status.st_size:,} bytes; expected at most {MAX_BYTES:,}: {WAY_OUT}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise ModelError(f"{path} cannot be read ({_reason(error)}); expected an ONNX file: check the path") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def _session(content: bytes, *, threads: int, optimised: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; a library does not talk
    options.add_session_config_entry("session.force_spinning_stop", "1")  # an idle app takes no processor
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    # The fallback would be the same provider once more, and is announced on stdout.
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _sides(session: Any) -> Sides:
    sides = (session.get_inputs(), session.get_outputs())
    return [[(each.name, each.type, each.shape) for each in side] for side in sides]


def _require_promised(found: Sides, contract: dict[str, Any], name: str) -> None:
    rows = [BATCH_DIMENSION, len(contract["labels"])]
    outputs = [(output, "tensor(float)", rows) for output in _outputs(contract)]
    expected = [[(INPUT_NAME, "tensor(uint8)", contract["input"]["shape"])], outputs]
    if found != expected:
        raise ModelError(f"{name} maps {found[0]} to {found[1]}; expected {expected[0]} to {expected[1]}: {WAY_OUT}")
