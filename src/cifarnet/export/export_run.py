"""Export a run: write the graph, check its parity with the trained model, then publish the files."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from operator import itemgetter
from pathlib import Path

import keras
import onnx

from cifarnet.arguments import PATH, Kind, function, instance, number, takes
from cifarnet.backends import default_settings
from cifarnet.config import TrainConfig
from cifarnet.contract import VIEWS, Contract
from cifarnet.data import Progress, evenly_chosen, hold_out_of
from cifarnet.dataset import DATASET, Dataset, Split
from cifarnet.errors import ParityError, UsageError
from cifarnet.evaluation.scoring import evaluate
from cifarnet.run.folder import RECORD, Run
from cifarnet.run.origin import require_outside
from cifarnet.runtime import open_model
from cifarnet.system import images_at_once
from cifarnet.training.best_weights import calibration_of, load_best_and_epoch, record_of
from cifarnet.training.kept_images import is_kept, kept_test_images
from cifarnet.training.same_data import same_hold_out
from cifarnet.training.train import RUN

from .describe import describe
from .parity import check_parity, keras_outputs
from .publish import Exported, describe_parity, possible_path, require_free, write_export
from .quantize import Variant, compare_latency, quantized
from .tolerances import MAX_DROP, PRECISIONS, Tolerances, tolerances_of
from .writer import OPSET, serialize, write_graph

SUFFIXES = {"float32": "", "float16": ".fp16", "int8": ".int8"}
"""Suffix of the default file name ``model.onnx`` for each precision."""
CALIBRATION_IMAGES, SELECTION_IMAGES = 512, 2000
"""Maximum numbers of training images for int8 calibration (at 32x32 pixels, fewer if they are larger, because
onnxruntime keeps the activations of all of them in memory), and of validation images to select the best variant."""
LEAST_CALIBRATION_IMAGES = 32
"""Minimum number of training images for int8 calibration, at any image size."""
Notice = Callable[[str], object]
"""Receives progress messages."""


def no_notice(text: str) -> None:
    """Ignore a progress message."""


@takes(
    run=RUN,
    dataset=DATASET,
    precision=instance(str, f"one of {', '.join(PRECISIONS)}"),
    output=PATH,
    max_drop=number(0, "a fraction from 0 up to but not including 1"),
    views=Kind(lambda value: type(value) is int and value in VIEWS, "1, 2 or 6"),
    notice=function("a function of a text"),
)
@default_settings()
def export_run(
    run: Run,
    dataset: Dataset | None = None,
    *,
    precision: str = "float32",
    output: str | Path | None = None,
    max_drop: float = MAX_DROP,
    views: int = 1,
    notice: Notice = no_notice,
) -> Exported:
    """Export the best weights of ``run`` to an ONNX file, after a parity check on the test split of ``dataset``.

    ``dataset`` must be the one that the run was trained on; by default the images of the run are opened again.
    ``precision`` is float32 (equal to the trained model within rounding), float16 or int8 (both may lose at most
    ``max_drop`` accuracy, a fraction). With ``views`` 2 or 6 the graph applies test-time augmentation: it averages the
    logits over an image and its horizontal flip, or over these and both translated by one pixel to the upper left and
    to the lower right. Writes X.onnx, its contract X.json and the measurements X.parity.json; they replace those of an
    earlier export once all three are complete.

    Raises ``ParityError`` if the parity check fails, and keeps the files of an earlier export; ``RunError`` for a run
    without best weights or with another dataset, ``ModelError`` for weights that do not fit it, ``ConfigError`` for
    settings out of range and ``UsageError`` for a path that cannot be written.
    """
    precisions = {precision: output}
    return next(export_precisions(run, dataset, precisions, max_drop=max_drop, views=views, notice=notice))


def export_precisions(
    run: Run,
    dataset: Dataset | None,
    outputs: Mapping[str, str | Path | None],
    *,
    max_drop: float = MAX_DROP,
    views: int = 1,
    notice: Notice = no_notice,
) -> Iterator[Exported]:
    """Export the best weights of ``run`` in several precisions, and yield each result once its files are written.

    ``outputs`` has the file of each precision, or None for the default. All have the weights of one epoch, even while
    training replaces the best ones. The other arguments, and what is raised, are as in ``export_run``.
    """
    variants = [(tolerances_of(each, max_drop), writable_path(run, each, output)) for each, output in outputs.items()]
    dataset = dataset or open_run_images(run, outputs, views=views)
    if not is_kept(run.record, dataset):
        same_hold_out(run.record, dataset, run)
    for _, path in variants:
        require_outside(path.parent, dataset.source, "--output, in Python output=")  # the images may have moved
    best = load_best_and_epoch(run)
    record = record_of(run, best.epoch)
    if record.calibration_for(views) is None:
        notice(f"fitting the temperature on the validation split{' with TTA' if views > 1 else ''}")
    calibration = calibration_of(run, best.model, dataset, views=views, epoch=best.epoch)
    for precision, (tolerances, path) in zip(outputs, variants, strict=True):
        contract = describe(record, precision, calibration, views=views)
        yield _exported(best.model, contract, record.train, dataset, tolerances, path, notice)


def open_run_images(
    run: Run,
    precisions: Collection[str],
    *,
    views: int = 1,
    place: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset for an export of ``run``, from ``place`` if given, otherwise from its recorded location.

    If test images were kept in the run folder, they are used instead, except with ``place``, for int8, and for a run
    that is not calibrated yet. Raises ``DataError`` if the images are not found, and ``RunError`` if the kept ones are
    damaged.
    """
    record = run.record
    is_enough = "int8" not in precisions and record.calibration_for(views) is not None
    kept = kept_test_images(run) if place is None and is_enough else None
    return kept or record.origin.load_dataset(place, progress)


def _exported(
    model: keras.Model,
    contract: Contract,
    train: TrainConfig,
    dataset: Dataset,
    tolerances: Tolerances,
    path: Path,
    notice: Notice,
) -> Exported:
    precision = contract.precision
    graph, opset = _graph(model, contract, train, dataset, notice)
    notice(f"checking {precision} on {len(dataset.test):,} test images")
    try:
        parity = check_parity(
            keras_outputs(model, views=contract.views),
            serialize(graph, contract, opset),
            dataset.test,
            tolerances,
            contract.temperature,
        )
    except ParityError as error:
        if not path.exists():
            raise
        raise ParityError(f"{error}; {path} is still the file of an earlier export") from error
    contract = contract.changed(proof=describe_parity(parity, tolerances.at(contract.temperature)))
    content = serialize(graph, contract, opset)
    latencies = () if precision == "float32" else compare_latency(content, _float32(model, contract))
    digest = hashlib.sha256(content).hexdigest()
    exported = Exported(path, len(content), digest, precision, parity, latencies)
    write_export(exported, content, contract)
    return exported


def writable_path(run: Run, precision: str, output: str | Path | None = None) -> Path:
    """Return the path that an export of ``run`` writes, ``output`` if given.

    Raises ``UsageError`` or ``RunError`` for a path that cannot be written or lies among the images of the run.
    """
    path = possible_path(output) if output else run.model.with_suffix(SUFFIXES.get(precision, "") + run.model.suffix)
    require_outside(path.parent, run.record.data.source, "--output, in Python output=")
    if path.parent.resolve() != run.path.resolve() and (path.parent / RECORD).exists():
        raise UsageError(
            f"the file would be written to {path.parent}, another run; expected the folder of {run} or one without "
            "a run: give another name"
        )
    require_free(path)
    return path


def _graph(
    model: keras.Model, contract: Contract, train: TrainConfig, dataset: Dataset, notice: Notice
) -> tuple[onnx.GraphProto, int]:
    """Return the graph in the contract's precision and its opset version."""
    if contract.precision != "int8":
        return _written(model, contract, contract.precision), OPSET
    best = _best_variant(_float32(model, contract), contract, train, dataset, notice)
    return best.graph, best.opset


def _float32(model: keras.Model, contract: Contract) -> bytes:
    return serialize(_written(model, contract, "float32"), contract)


def _written(model: keras.Model, contract: Contract, precision: str) -> onnx.GraphProto:
    return write_graph(model, precision, contract.temperature, views=contract.views)


def _best_variant(float32: bytes, contract: Contract, train: TrainConfig, dataset: Dataset, notice: Notice) -> Variant:
    """Return the int8 variant with the lowest loss on the validation split."""
    parts = hold_out_of(dataset, train)
    count = max(images_at_once(CALIBRATION_IMAGES, dataset.train.images.shape[1:]), LEAST_CALIBRATION_IMAGES)
    calibration = dataset.train.images[evenly_chosen(parts.train, count)]
    chosen = evenly_chosen(parts.validation, SELECTION_IMAGES)
    validation = Split(dataset.train.images[chosen], dataset.train.labels[chosen])
    variants: list[tuple[float, Variant]] = []
    for variant in quantized(float32, calibration):
        opened = open_model(serialize(variant.graph, contract, variant.opset), threads=0)
        loss = evaluate(opened.logits, validation).loss
        notice(f"int8, {variant.name}: loss {loss:.4f} on {len(validation):,} validation images")
        variants.append((loss if math.isfinite(loss) else math.inf, variant))
    return min(variants, key=itemgetter(0))[1]
