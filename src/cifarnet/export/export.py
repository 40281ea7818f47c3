"""Export a run: write the graph, check its parity with the trained model, then publish the files."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import keras
import onnx

from cifarnet.atomic import locked, naming, written_aside
from cifarnet.backends import choose
from cifarnet.config import TrainConfig
from cifarnet.contract import CONTRACT_SUFFIX, PARITY_SUFFIX
from cifarnet.data import evenly_chosen, hold_out_of
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import ConfigError, ModelError, ParityError, UsageError
from cifarnet.evaluation.scoring import evaluate
from cifarnet.run.folder import EXPORT_LOCK, Run, require_writable_model
from cifarnet.run.origin import require_outside
from cifarnet.runtime import open_model, read_model
from cifarnet.system import defer_interrupt, processor, versions
from cifarnet.training.train import calibration_of, load_best_and_epoch, record_of, require_same_data

from .contract import describe
from .file import contract_text, serialize
from .latency import Latency, compare_latency
from .parity import Parity, Tolerances, check_parity, keras_outputs
from .quantize import Variant, quantized
from .writer import OPSET, write_graph

SUFFIXES = {"float32": "", "float16": ".fp16", "int8": ".int8"}
"""Suffix of the default file name ``model.onnx`` for each precision."""
FLOAT16_PROBABILITY = 0.02
"""Maximum difference of a probability in float16, with its 11-bit significand. Measured: 2e-3."""
CALIBRATION_IMAGES, SELECTION_IMAGES = 512, 2000
"""Training images that calibrate int8 ranges, and validation images that select the best variant."""
RENAMES_S = 60.0
"""Maximum seconds to wait while another export renames its files."""

Notice = Callable[[str], object]
"""Receives progress messages."""


def no_notice(text: str) -> None:
    """Ignore a progress message."""


@dataclass(frozen=True)
class Exported:
    """A model file that passed the parity check."""

    path: Path
    size_bytes: int
    sha256: str
    precision: str
    parity: Parity
    latencies: tuple[Latency, ...]
    """Latency compared with float32 on this machine; empty for float32 itself."""


def export_run(
    run: Run,
    dataset: Dataset | None = None,
    *,
    precision: str = "float32",
    output: Path | None = None,
    max_drop: float = 0.005,
    flip: bool = False,
    notice: Notice = no_notice,
) -> Exported:
    """Export the best weights of ``run`` to an ONNX file, after a parity check on the test split of ``dataset``.

    ``dataset`` must be the one that the run was trained on; by default it is opened again where it was.
    ``precision`` is float32 (equal to the trained model within rounding), float16 or int8 (which may lose ``max_drop``
    accuracy, a fraction). ``flip`` adds test-time augmentation to the graph. Writes X.onnx, its contract X.json and the
    measurements X.parity.json; they replace those of an earlier export once all three are complete.

    Raises ``ParityError`` if the parity check fails, and then the files of an earlier export stay; ``RunError`` for a
    run without best weights or with another dataset, ``ModelError`` for weights that do not fit it, ``ConfigError`` for
    settings out of range and ``UsageError`` for a path that cannot be written.
    """
    tolerances = _tolerances(precision, max_drop)
    dataset = dataset or run.record.origin.load_dataset()
    require_same_data(run.record.data, dataset)
    path = writable_path(run, precision, output)
    best = load_best_and_epoch(run)
    model, record = best.model, record_of(run, best.epoch)
    if record.calibration_for(flip=flip) is None:
        notice(f"fitting the temperature on the validation split{' with TTA' if flip else ''}")
    calibration = calibration_of(run, model, dataset, flip=flip, epoch=best.epoch)
    contract, temperature = describe(record, precision, calibration, flip=flip), calibration.temperature
    graph, opset = _graph(model, contract, dataset, notice)
    notice(f"checking {precision} on {len(dataset.test):,} test images")
    try:
        parity = check_parity(
            keras_outputs(model, flip=flip), serialize(graph, contract, opset), dataset.test, tolerances, temperature
        )
    except ParityError as error:
        if not path.exists():
            raise
        raise ParityError(f"{error}; {path} is still the file of an earlier export") from error
    contract["proof"] = {
        "images": parity.images,
        "accuracy": parity.accuracy,
        "bars": tolerances.at(temperature).to_json(),
        "checks": [check.name for check in parity.checks],
    }
    content = serialize(graph, contract, opset)
    latencies = () if precision == "float32" else compare_latency(content, _float32(model, contract))
    digest = hashlib.sha256(content).hexdigest()
    exported = Exported(path, len(content), digest, precision, parity, latencies)
    _write(exported, content, contract)
    return exported


def _tolerances(precision: str, max_drop: float) -> Tolerances:
    if precision not in SUFFIXES or not 0 <= max_drop < 1:
        raise ConfigError(
            f"precision is {precision} and max_drop {max_drop}; expected one of {', '.join(SUFFIXES)} and a "
            "fraction from 0 up to but not including 1"
        )
    if precision == "float32":
        return Tolerances()
    probability = FLOAT16_PROBABILITY if precision == "float16" else None
    return Tolerances(
        probability=probability, calibrated=probability, margin=None, accuracy_drop=max_drop, equal_accuracy=False
    )


def writable_path(run: Run, precision: str, output: Path | None = None) -> Path:
    """Return the path that an export of ``run`` writes, ``output`` if given.

    Raises ``UsageError`` or ``RunError`` for a path that cannot be written or lies among the images of the run, before
    minutes of checking.
    """
    path = output or run.model.with_suffix(SUFFIXES.get(precision, "") + run.model.suffix)
    require_writable_model(path)
    _require_own(path)
    require_outside(path.parent, run.record.data.source, "--output")
    if path.parent.is_dir():
        with _naming_lock(path):  # fails now if the file system does not support locks
            return path
    return path


def _naming_lock(path: Path) -> AbstractContextManager[None]:
    """Return the lock that keeps the three files of one export together."""
    lock = path.parent / EXPORT_LOCK
    in_use = f"{lock} was held by another export for {RENAMES_S:.0f} s; expected milliseconds: stop that export"
    return locked(lock, in_use, "write to a local disk (--output)", timeout_s=RENAMES_S)


def _require_own(path: Path) -> None:
    """Raise ``UsageError`` if ``path`` exists and was not written by an export."""
    if os.path.lexists(path):
        try:
            read_model(path)
        except ModelError as error:
            raise UsageError(
                f"the export would replace {path}, which is not an exported model ({error}); expected a free name: "
                "move that file or give another name"
            ) from error


def _graph(
    model: keras.Model, contract: Mapping[str, Any], dataset: Dataset, notice: Notice
) -> tuple[onnx.GraphProto, int]:
    """Return the graph in the contract's precision and its opset version."""
    if contract["precision"] != "int8":
        return _written(model, contract, contract["precision"]), OPSET
    best = _best_variant(_float32(model, contract), contract, dataset, notice)
    return best.graph, best.opset


def _float32(model: keras.Model, contract: Mapping[str, Any]) -> bytes:
    """Return the float32 model file."""
    return serialize(_written(model, contract, "float32"), contract)


def _written(model: keras.Model, contract: Mapping[str, Any], precision: str) -> onnx.GraphProto:
    return write_graph(model, precision, contract["calibration"]["temperature"], flip=contract["flip"])


def _best_variant(float32: bytes, contract: Mapping[str, Any], dataset: Dataset, notice: Notice) -> Variant:
    """Return the int8 variant with the lowest loss on the validation split."""
    parts = hold_out_of(dataset, TrainConfig.from_json(contract["training"]["train"]))
    calibration = dataset.train.images[evenly_chosen(parts.train, CALIBRATION_IMAGES)]
    chosen = evenly_chosen(parts.validation, SELECTION_IMAGES)
    validation = Split(dataset.train.images[chosen], dataset.train.labels[chosen])
    variants: list[tuple[float, Variant]] = []
    for variant in quantized(float32, calibration):
        opened = open_model(serialize(variant.graph, contract, variant.opset), threads=0)
        loss = evaluate(opened.logits, validation).loss
        notice(f"int8, {variant.name}: loss {loss:.4f} on {len(validation):,} validation images")
        variants.append((loss if math.isfinite(loss) else math.inf, variant))
    return min(variants, key=itemgetter(0))[1]


def _write(exported: Exported, content: bytes, contract: Mapping[str, Any]) -> None:
    """Write the three files to temporary names, then rename them.

    A crash between two renames is detectable: the parity file has the SHA-256 of its model, and the old contract is
    removed before the model is replaced. A concurrent export to the same name waits.
    """
    path = exported.path
    beside = path.with_suffix(CONTRACT_SUFFIX)
    measured = {
        "precision": exported.precision,
        "size_bytes": exported.size_bytes,
        "sha256": exported.sha256,
        "backend": choose(),
        "versions": versions(),
        "processor": processor(),
        **exported.parity.to_json(),
        "latencies": [asdict(latency) for latency in exported.latencies],
    }
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_aside(path.with_suffix(PARITY_SUFFIX), (json.dumps(measured, indent=2) + "\n").encode()) as name_parity,
        written_aside(beside, (contract_text(contract) + "\n").encode()) as name_contract,
        written_aside(path, content) as name_model,
        _naming_lock(path),
        defer_interrupt(),
    ):
        name_parity()
        with naming(beside):
            beside.unlink(missing_ok=True)
        name_model()
        name_contract()
