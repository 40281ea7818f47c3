"""Open a model file: refuse what is not ours, altered or newer, then hand it to onnxruntime."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cifarnet.errors import ModelError
from cifarnet.spec import (
    CONTRACT_KEY,
    CONTRACT_VERSION,
    DIGEST_KEY,
    INPUT_NAME,
    LOGITS_NAME,
    PROBABILITIES_NAME,
    seal,
)

from .envelope import Envelope, read_envelope

STANDARD_DOMAINS = frozenset(("", "ai.onnx"))
MAX_BYTES = 2_000_000_000
"""A file without external data is smaller, by the encoding's own limit."""
WAY_OUT = "use a file that `cifarnet export --onnx` wrote"


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to run, and what its file says of itself."""

    contract: dict[str, Any]
    session: Any

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return tuple(self.contract["labels"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        _, height, width, channels = self.contract["input"]["shape"]
        return height, width, channels

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and probabilities, each float32 (n, classes), of images uint8 (n, h, w, 3)."""
        logits, probabilities = self.session.run([LOGITS_NAME, PROBABILITIES_NAME], {INPUT_NAME: images})
        return logits, probabilities

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits alone, float32 (n, classes)."""
        return self.run(images)[0]


def open_model(source: Path | bytes, *, threads: int = 1, optimised: bool = True) -> OpenedModel:
    """Open a model file, or its content.

    ``threads`` is the number that one call of the model uses, 0 for one per core; ``optimised`` is onnxruntime's
    graph optimisation. Raises ``ModelError`` for anything but an unaltered file of ours of a version known here.
    """
    content, contract = read_model(source)
    name = _name(source)
    session = _session(content, name, threads=threads, optimised=optimised)
    _require_promised(session, contract, name)
    return OpenedModel(contract, session)


def read_model(source: Path | bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the content of a model file and its contract, once graph and contract have the digest that it names.

    Raises ``ModelError`` for anything but an unaltered file of ours of a version known here.
    """
    name, content = _name(source), source if isinstance(source, bytes) else _read(source)
    try:
        envelope = read_envelope(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name} is no ONNX file, or a truncated one ({error}); expected a whole one") from error
    _require_one_plain_graph(envelope, name)
    if CONTRACT_KEY not in envelope.metadata:
        raise ModelError(f"{name} is an ONNX file without cifarnet's contract; expected one with it: {WAY_OUT}")
    text = envelope.metadata[CONTRACT_KEY]
    contract = _parsed(text, name)
    if seal(text, envelope.graphs[0]) != envelope.metadata.get(DIGEST_KEY):
        raise ModelError(f"{name} was altered: it does not have the digest that it names; {WAY_OUT}")
    return content, contract


def _name(source: Path | bytes) -> str:
    return "the model" if isinstance(source, bytes) else str(source)


def _read(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BYTES:
            raise ModelError(f"{path} has {size_bytes:,} bytes; expected at most {MAX_BYTES:,}: {WAY_OUT}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); expected an ONNX file: check the path") from error


def _require_one_plain_graph(envelope: Envelope, name: str) -> None:
    if len(envelope.graphs) != 1:
        raise ModelError(f"{name} holds {len(envelope.graphs)} graphs; expected an ONNX file with one: {WAY_OUT}")
    foreign = set(envelope.domains) - STANDARD_DOMAINS
    if foreign or envelope.functions:
        raise ModelError(
            f"{name} needs operators of its own ({', '.join(sorted(foreign)) or 'functions'}); expected the standard "
            f"ones alone: {WAY_OUT}"
        )


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        contract = json.loads(text)
        version, labels, shape = contract["version"], contract["labels"], contract["input"]["shape"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{name} has a damaged contract ({error!r}); expected JSON: {WAY_OUT}") from error
    if type(version) is not int or version < 1 or version > CONTRACT_VERSION:
        raise ModelError(
            f"{name} has contract version {version!r}; expected 1 to {CONTRACT_VERSION}: install a newer cifarnet"
        )
    is_shape = isinstance(shape, list) and len(shape) == 4 and all(type(size) is int for size in shape[1:])
    if not (
        is_shape and isinstance(labels, list) and len(labels) > 1 and all(isinstance(name, str) for name in labels)
    ):
        raise ModelError(f"{name} has a damaged contract (labels or shape); expected class names and sizes: {WAY_OUT}")
    return dict(contract)


def _session(content: bytes, name: str, *, threads: int, optimised: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; a library does not talk
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle app takes no processor
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class but Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{name} is refused by onnxruntime ({reason}); {WAY_OUT}") from error
    return session


def _require_promised(session: Any, contract: dict[str, Any], name: str) -> None:
    found = [
        [(each.name, each.type, each.shape[1:]) for each in side()]
        for side in (session.get_inputs, session.get_outputs)
    ]
    classes = [len(contract["labels"])]
    outputs = [(output, "tensor(float)", classes) for output in (LOGITS_NAME, PROBABILITIES_NAME)]
    expected = [[(INPUT_NAME, "tensor(uint8)", contract["input"]["shape"][1:])], outputs]
    if found != expected:
        raise ModelError(f"{name} maps {found[0]} to {found[1]}; expected {expected[0]} to {expected[1]}: {WAY_OUT}")
