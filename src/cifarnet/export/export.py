"""From a run to a proven model file: write, prove, and only then give it its name."""

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
from cifarnet.contract import CONTRACT_SUFFIX, PARITY_SUFFIX, Dataset, Split
from cifarnet.data import evenly_chosen, hold_out_of
from cifarnet.errors import ConfigError, ModelError, ParityError, RunError, UsageError
from cifarnet.evaluation.scoring import evaluate
from cifarnet.interruption import defer_interrupt
from cifarnet.run_folder import EXPORT_LOCK, Run, require_writable_model
from cifarnet.runtime import open_model, read_model
from cifarnet.system import processor, versions
from cifarnet.training.train import calibration_name, calibration_of, load_best_and_epoch, record_of, require_same_data

from .contract import describe
from .file import contract_text, serialise
from .latency import Latency, compare_latency
from .parity import Bars, Parity, keras_heads, prove
from .quantize import Variant, quantised
from .writer import OPSET, write_graph

SUFFIXES = {"float32": "", "float16": ".fp16", "int8": ".int8"}
"""What stands between ``model`` and ``.onnx`` in the default name, by what the graph computes in."""
FLOAT16_PROBABILITY = 0.02
"""Largest difference of a probability through float16, whose numbers have 11 bits. Measured: 2e-3."""
CALIBRATION_IMAGES, SELECTION_IMAGES = 512, 2000
"""Training images that set the ranges of int8, and held-out images that choose among its variants."""
RENAMES_S = 60.0
"""Seconds that three renames of another export may take."""

Notice = Callable[[str], object]
"""Told what is being done, for whoever waits."""


def no_notice(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Exported:
    """A model file that went through the gate."""

    path: Path
    size_bytes: int
    sha256: str
    precision: str
    parity: Parity
    latencies: tuple[Latency, ...]
    """Against float32 on this machine; empty for float32 itself."""


def export_run(
    run: Run,
    dataset: Dataset,
    *,
    precision: str = "float32",
    output: Path | None = None,
    max_drop: float = 0.005,
    flip: bool = False,
    notice: Notice = no_notice,
) -> Exported:
    """Write the best weights of ``run`` as an ONNX file, once it is proven on every test image of ``dataset``.

    ``precision`` is float32 (equal to the trained model within rounding), float16 or int8 (which may lose ``max_drop``
    of the accuracy, as a fraction). With ``flip`` the file says the mean of an image and its mirror image. Beside the
    file X.onnx lie X.json, its contract, and X.parity.json, what was measured. They replace those of an earlier export
    once all three are complete. Raises ``ParityError`` when a bar is not held, and then the files of an earlier export
    stay; ``RunError`` for a run without best weights or of other images, ``ModelError`` for weights that do not fit it,
    ``ConfigError`` for settings outside their range and ``UsageError`` for a name that cannot be given.
    """
    bars = _bars(precision, max_drop)
    require_same_data(run.read_record(), dataset)
    path = writable_path(run, precision, output)
    best = load_best_and_epoch(run)
    model, record = best.model, record_of(run, best.epoch)
    if calibration_name(flip=flip) not in record:
        notice(f"fitting the temperature on the held-out images{' with mirror images' if flip else ''}, once")
    calibration = calibration_of(run, model, dataset, flip=flip, epoch=best.epoch)
    try:
        contract = describe(record, precision, calibration, flip=flip)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run} has a damaged run.json ({error!r}); expected the record of a run: start anew") from error
    temperature = calibration["temperature"]
    graph, opset = _graph(model, contract, dataset, notice)
    notice(f"proving {precision} on {len(dataset.test):,} test images")
    try:
        parity = prove(
            keras_heads(model, flip=flip), serialise(graph, contract, opset), dataset.test, bars, temperature
        )
    except ParityError as error:
        if not path.exists():
            raise
        raise ParityError(f"{error}; {path} is still the file of an earlier export") from error
    contract["proof"] = {
        "images": parity.images,
        "accuracy": parity.accuracy,
        "bars": bars.at(temperature).to_json(),
        "checks": [check.name for check in parity.checks],
    }
    content = serialise(graph, contract, opset)
    latencies = () if precision == "float32" else compare_latency(content, _plain(model, contract))
    digest = hashlib.sha256(content).hexdigest()
    exported = Exported(path, len(content), digest, precision, parity, latencies)
    _write(exported, content, contract)
    return exported


def _bars(precision: str, max_drop: float) -> Bars:
    if precision not in SUFFIXES or not 0 <= max_drop < 1:
        raise ConfigError(
            f"precision is {precision}, the largest drop {max_drop}; expected one of {', '.join(SUFFIXES)} and a "
            "fraction from 0 up to but not including 1"
        )
    if precision == "float32":
        return Bars()
    probability = FLOAT16_PROBABILITY if precision == "float16" else None
    return Bars(
        probability=probability, calibrated=probability, margin=None, accuracy_drop=max_drop, equal_accuracy=False
    )


def writable_path(run: Run, precision: str, output: Path | None = None) -> Path:
    """Return the file that an export of ``run`` writes, ``output`` if given, in a folder that is there.

    Raises ``UsageError`` and ``RunError`` for a name that cannot be given: before minutes of proving.
    """
    path = output or run.model.with_suffix(SUFFIXES.get(precision, "") + run.model.suffix)
    require_writable_model(path)
    _require_own(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent} could not be made ({error.strerror}): choose another folder") from error
    with _naming_lock(path):  # where the file system cannot lock, that is told now
        return path


def _naming_lock(path: Path) -> AbstractContextManager[None]:
    """Return the lock under which ``path`` and the files beside it get their names, those of one export together."""
    lock = path.parent / EXPORT_LOCK
    in_use = f"{lock} was held by another export for {RENAMES_S:.0f} s; expected milliseconds: stop that one"
    return locked(lock, in_use, "write to a local disk (--output)", timeout_s=RENAMES_S)


def _require_own(path: Path) -> None:
    """Raise ``UsageError`` where ``path`` is there and is no whole file of an export."""
    if os.path.lexists(path):
        try:
            read_model(path)
        except ModelError as error:
            raise UsageError(
                f"an export would replace {path}, which is not a file of an export ({error}); expected a free name: "
                "move that file away or give another name"
            ) from error


def _graph(
    model: keras.Model, contract: Mapping[str, Any], dataset: Dataset, notice: Notice
) -> tuple[onnx.GraphProto, int]:
    """Return the graph in the contract's precision, and the operator set that it needs."""
    if contract["precision"] != "int8":
        return _written(model, contract, contract["precision"]), OPSET
    best = _best_variant(_plain(model, contract), contract, dataset, notice)
    return best.graph, best.opset


def _plain(model: keras.Model, contract: Mapping[str, Any]) -> bytes:
    """Return the float32 file that a smaller one is made from and compared with."""
    return serialise(_written(model, contract, "float32"), contract)


def _written(model: keras.Model, contract: Mapping[str, Any], precision: str) -> onnx.GraphProto:
    return write_graph(model, precision, contract["calibration"]["temperature"], flip=contract["flip"])


def _best_variant(plain: bytes, contract: Mapping[str, Any], dataset: Dataset, notice: Notice) -> Variant:
    """Return the variant with the lowest loss on held-out images; the test images have no say in it."""
    parts = hold_out_of(dataset, TrainConfig.from_json(contract["training"]["train"]))
    calibration = dataset.train.images[evenly_chosen(parts.train, CALIBRATION_IMAGES)]
    chosen = evenly_chosen(parts.validation, SELECTION_IMAGES)
    held_out = Split(dataset.train.images[chosen], dataset.train.labels[chosen])
    variants: list[tuple[float, Variant]] = []
    for variant in quantised(plain, calibration):
        opened = open_model(serialise(variant.graph, contract, variant.opset), threads=0)
        loss = evaluate(opened.logits, held_out).loss
        notice(f"int8, {variant.name}: loss {loss:.4f} on {len(held_out):,} held-out images")
        variants.append((loss if math.isfinite(loss) else math.inf, variant))
    return min(variants, key=itemgetter(0))[1]


def _write(exported: Exported, content: bytes, contract: Mapping[str, Any]) -> None:
    """Give the three files their names once all are on the disk.

    A crash between two renames is seen by whoever reads: a parity record has the SHA-256 of its model, and the contract
    of the old model is taken away before the new model comes. Of two exports to one name the second waits.
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
