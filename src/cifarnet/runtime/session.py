"""Open a model file in onnxruntime, after checking that it is ours, unaltered and not newer than this package."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cifarnet.config import plain_number
from cifarnet.contract import (
    BATCH_DIMENSION,
    CALIBRATED_NAME,
    CONTRACT_KEY,
    INPUT_NAME,
    LFS_ADVICE,
    LFS_POINTER,
    LOGITS_NAME,
    PROBABILITIES_NAME,
    Contract,
    read_contract,
    seal,
)
from cifarnet.errors import ModelError, UsageError, reason
from cifarnet.system import usable_cores

MAX_BYTES = 2_000_000_000
"""Maximum file size: protobuf limits an ONNX file without external data to 2 GB."""
MAX_THREADS = 1024
"""Maximum number of threads that can be asked for."""
Signature = list[list[tuple[str, str, list[Any]]]]
"""Name, type and shape of the inputs and of the outputs."""
SEAL_BYTES = len(seal(b""))
"""Bytes at the end of a file with the digest of all others."""
FIRST_BYTE = b"\x08"
"""First byte of an ONNX file: the tag of the field ir_version."""
WAY_OUT = "use a file written by `cifarnet export --onnx`"


@dataclass(frozen=True)
class OpenedModel:
    """A model in onnxruntime and its contract.

    Pickled with the content of its file, so that the copy does not depend on the path.
    """

    contract: Contract
    session: Any
    content: bytes = field(repr=False)
    threads: int
    optimized: bool

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the function and arguments that open the same model again."""
        return partial(open_model, threads=self.threads, optimized=self.optimized), (self.content,)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs; ``calibrated`` is present if the file has a temperature."""
        return tuple(output.name for output in self.session.get_outputs())

    def run(self, images: NDArray[np.uint8], outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Run the model on images uint8 (n, h, w, 3), RGB, 0-255, and return each output, float32 (n, classes).

        ``outputs`` are names of outputs, by default all. Raises ``ModelError`` if onnxruntime fails or an output has
        another shape.
        """
        try:
            results: list[NDArray[np.float32]] = self.session.run(outputs or self.outputs, {INPUT_NAME: images})
        except Exception as error:  # onnxruntime's errors have no other common class
            raise ModelError(f"the model fails in onnxruntime ({reason(error)}); {WAY_OUT}") from error
        expected = (len(images), len(self.contract.labels))
        if any(each.shape != expected for each in results):
            shapes = " and ".join(str(each.shape) for each in results)
            raise ModelError(f"the model returns shapes {shapes}; expected {expected}: {WAY_OUT}")
        return results

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits, float32 (n, classes), of images uint8 (n, h, w, 3). Raises as ``run``."""
        return self.run(images, (LOGITS_NAME,))[0]


def open_model(source: Path | bytes, *, threads: int = 1, optimized: bool = True) -> OpenedModel:
    """Open a model file, given as a path or as bytes.

    ``threads`` is the number of threads per call, one per core at most, 0 for as many; ``optimized`` enables
    onnxruntime's graph optimizations. Raises ``ModelError`` unless it is an unaltered file of ours of a known version,
    and ``UsageError`` for an invalid number of threads.
    """
    threads = plain_number(threads)
    if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
        raise UsageError(f"threads is {threads!r}; expected 1 to {MAX_THREADS:,}, or 0 for one per core: change it")
    name, content = ("the model", source) if isinstance(source, bytes) else (str(source), _read(source))
    _require_sealed(content, name)
    try:
        session = _session(content, threads=threads, optimized=optimized)
        sides = (session.get_inputs(), session.get_outputs())
        signature = [[(each.name, each.type, each.shape) for each in side] for side in sides]
        metadata = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's errors have no other common class
        raise ModelError(f"{name} is refused by onnxruntime ({reason(error)}); {WAY_OUT}") from error
    contract = read_contract(metadata.get(CONTRACT_KEY, ""), name)
    _require_promised(signature, contract, name)
    return OpenedModel(contract, session, content, threads, optimized)


def read_model(source: Path | bytes) -> tuple[bytes, Contract]:
    """Return the content of a model file and its contract. Raises ``ModelError`` as ``open_model``."""
    opened = open_model(source, optimized=False)
    return opened.content, opened.contract


def _require_sealed(content: bytes, name: str) -> None:
    if content.startswith(LFS_POINTER):
        raise ModelError(f"{name} is no ONNX file ({LFS_ADVICE})")
    if not content.startswith(FIRST_BYTE):
        raise ModelError(f"{name} is no ONNX file; expected one: {WAY_OUT}")
    if content[-SEAL_BYTES:] != seal(memoryview(content)[:-SEAL_BYTES]):
        raise ModelError(
            f"{name} does not end in the SHA-256 of its content; expected a complete, unaltered file: {WAY_OUT}"
        )


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path} is a folder; expected an ONNX file, as a run's {path / 'model.onnx'}: name it")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise ModelError(f"{path} is no regular file; expected an ONNX file: check the path")
        if status.st_size > MAX_BYTES:
            raise ModelError(f"{path} has {status.st_size:,} bytes; expected at most {MAX_BYTES:,}: {WAY_OUT}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        way_out = f"check the path, or {WAY_OUT}" if isinstance(error, FileNotFoundError) else "check the path"
        raise ModelError(f"{path} cannot be read ({reason(error)}); expected an ONNX file: {way_out}") from error


def _session(content: bytes, *, threads: int, optimized: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(threads, usable_cores() or threads)  # it would start any number
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised instead
    options.add_session_config_entry("session.force_spinning_stop", "1")  # an idle app must not use CPU
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    # The fallback would retry the same provider and print to stdout.
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _require_promised(found: Signature, contract: Contract, name: str) -> None:
    names = (LOGITS_NAME, PROBABILITIES_NAME, *((CALIBRATED_NAME,) if contract.temperature is not None else ()))
    outputs = [(output, "tensor(float)", [BATCH_DIMENSION, len(contract.labels)]) for output in names]
    expected = [[(INPUT_NAME, "tensor(uint8)", [BATCH_DIMENSION, *contract.image_shape])], outputs]
    if found != expected:
        raise ModelError(f"{name} maps {found[0]} to {found[1]}; expected {expected[0]} to {expected[1]}: {WAY_OUT}")
