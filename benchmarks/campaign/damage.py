"""The damaged inputs of the fuzzing campaign, and everything that reads them.

Files are damaged byte by byte; documents value by value, as JSON: a run's record, the contract of a model file, and the
fields of its graph.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import json_format
from hypothesis import strategies as st
from PIL import Image
from tests import report_runs
from tests.runtime import models
from tests.runtime.fuzzing import JSON, damaged, image_files, places, replaced

from benchmarks.campaign.fuzz import Kind
from cifarnet.backends import choose
from cifarnet.config import ModelConfig
from cifarnet.data import load_dataset
from cifarnet.data.class_folders import open_labeled_images
from cifarnet.errors import CifarnetError
from cifarnet.evaluation.reproduce import planned_epochs
from cifarnet.evaluation.target import run_target
from cifarnet.export.inspect import inspect_model
from cifarnet.model.network import build_model
from cifarnet.model.weights import load_weights, save_weights
from cifarnet.report.evidence import read_evidence
from cifarnet.run.folder import Run
from cifarnet.run.state import best_epoch_of
from cifarnet.runtime import Classifier
from cifarnet.training.checkpoint import DIGEST_BYTES, Checkpoint, Position, load_checkpoint, save_checkpoint
from cifarnet.training.seen import digests, seen_by, write_seen
from cifarnet.training.warm_start import warm_start_from, warm_start_of

MOST_VALUES = 200_000
CONTRACT = models.contract(calibration=models.CALIBRATION)
RED = np.full((40, 50, 3), (200, 10, 10), np.uint8)
DTYPES = (
    *["uint8"] * 4,
    *("int8", "uint16", ">u2", "float16", "float32", ">f8", "bool", "complex64", "O", "S3", "U2", "M8[s]", "i4,f4"),
)


class Readers:
    """Everything that reads an input, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.classifier = folder, Classifier(models.calibrated())
        self.model = build_model(ModelConfig(filters=(6,), dense_units=(16,)))
        self.run = Run(folder / "runs" / "mine")
        dataset = report_runs.dataset_of()
        report_runs.run_of(self.run.path, dataset)
        write_seen(self.run, digests(dataset.train.images))
        save_weights(self.model, self.run.best_weights)
        self.run.model.write_bytes(models.calibrated())
        arrays = {f"layer/{name}": np.arange(12, dtype=np.float32) for name in ("kernel", "bias")}
        history = self.run.read_history()[:2]
        save_checkpoint(self.run.checkpoints, Checkpoint(Position(3), {"patience": 2}, arrays, arrays, history, [1.0]))
        [self.checkpoint] = self.run.checkpoints.glob("*.checkpoint")
        self.unfinished = Run(folder / "unfinished" / "mine")
        shutil.copytree(self.run.path, self.unfinished.path)
        self.unfinished.write_record(self.run.record.without_results())
        self.photos = folder / "photos"
        for label in ("a", "b"):
            (self.photos / label).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(RED).save(self.photos / label / f"{number}.png")

    def kinds(self) -> dict[str, Kind]:
        """Return every kind of input with its reader."""
        images, photos = damaged(image_files()), sorted(self.photos.rglob("*.png"))
        files = [models.content(), models.calibrated(), models.model().SerializeToString()]
        record, payload = self.run.path / "run.json", self.checkpoint.read_bytes()
        shapes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 32]), max_size=5).filter(
            lambda shape: math.prod(shape) < MOST_VALUES
        )
        arrays = st.tuples(shapes, st.sampled_from(DTYPES), st.integers(0, 255), st.integers(0, 5))
        graph = damaged([models.model().graph.SerializeToString()]).map(models.resealed)
        fields = mutated(json_format.MessageToDict(models.graph())).map(_graph_of)
        contract = mutated(CONTRACT).map(lambda text: models.content(models.graph(temperature=3.0), text.decode()))
        folders = st.lists(st.tuples(st.sampled_from(photos), images), max_size=2)
        return {
            "image file": Kind(images, self.classifier, 2000),
            "bytes as image": Kind(st.binary(max_size=300), self.classifier, 2000),
            "array": Kind(arrays, self.read_array, 2000),
            "model file": Kind(damaged(files), self.read_model_file, 2000),
            "sealed graph, bytes": Kind(graph, self.read_model_file, 1000),
            "sealed graph, fields": Kind(fields, self.read_model_file, 1000),
            "contract": Kind(contract, self.read_model_file, 1000),
            "class folders": Kind(folders, self.read_folders, 500),
            "run.json, bytes": Kind(damaged([record.read_bytes()]), self.reads(record), 500),
            "run.json, values": Kind(mutated(json.loads(record.read_text())), self.reads(record), 500),
            "history.csv": _damaged_file(self.unfinished.path / "history.csv", self.reads, 1000),
            "checkpoint": _damaged_file(self.checkpoint, self.reads, 1000),
            "sealed checkpoint": Kind(
                damaged([payload[DIGEST_BYTES:]]).map(_sealed), self.reads(self.checkpoint), 1000
            ),
            "seen.npy": _damaged_file(self.run.seen, self.reads, 1000),
            "weights": _damaged_file(self.run.best_weights, self.reads, 500),
        }

    def read_array(self, drawn: tuple[list[int], str, int, int]) -> None:
        """Classify an array of any shape, kind and layout, alone and in a list."""
        shape, dtype, value, layout = drawn
        array = np.full(shape, value).astype(dtype)
        layouts = [array, array[::-1] if array.ndim else array, array.T, np.ma.masked_array(array), array.tolist()]
        chosen = layouts[min(layout, 4)]
        _each(lambda: self.classifier(chosen), lambda: self.classifier([chosen]))

    def read_model_file(self, content: bytes) -> None:
        """Open a model file, classify by it and inspect it."""
        path = self.folder / "model.onnx"
        path.write_bytes(content)
        _each(lambda: Classifier(content)(RED), lambda: inspect_model(path))

    def read_folders(self, files: list[tuple[Path, bytes]]) -> None:
        """Open class folders with some damaged files."""
        whole = {path: path.read_bytes() for path, _ in files}
        try:
            for path, content in files:
                path.write_bytes(content)
            _each(lambda: load_dataset(self.photos), lambda: open_labeled_images(self.photos, ["a", "b", "c"]))
        finally:
            for path, content in whole.items():
                path.write_bytes(content)

    def reads(self, path: Path) -> Callable[[bytes], None]:
        """Return a function that reads a run by everything, with other content in one of its files."""
        whole = path.read_bytes()
        run = self.unfinished if self.unfinished.path in path.parents else self.run

        def read(content: bytes) -> None:
            path.write_bytes(content)
            try:
                self._read_run(run)
            finally:
                path.write_bytes(whole)

        return read

    def _read_run(self, run: Run) -> None:
        _each(
            run.read_history,
            lambda: run.record,
            lambda: best_epoch_of(run),
            lambda: run_target(run, choose()).origin,
            lambda: planned_epochs(run, None),
            lambda: read_evidence(run, "onnxruntime"),
            lambda: warm_start_of(run),
            lambda: warm_start_from(run),
            lambda: load_checkpoint(run.checkpoints),
            lambda: load_weights(self.model, run.best_weights),
            lambda: seen_by(run),
        )


def mutated(document: Any) -> st.SearchStrategy[bytes]:
    """Draw a JSON document with one to three values replaced or removed."""
    change = st.tuples(st.sampled_from(places(document)), st.one_of(JSON, st.just(...)))
    return st.lists(change, min_size=1, max_size=3).map(lambda changes: _changed(document, changes))


def _changed(document: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
    document = json.loads(json.dumps(document))
    for place, value in changes:
        try:
            document = replaced(document, place, value)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    return json.dumps(document).encode()


def _graph_of(text: bytes) -> bytes:
    """Return a model file with the graph of a JSON document, as far as the values are of their fields' types."""
    graph, document = onnx.GraphProto(), json.loads(text)
    for name, value in document.items() if isinstance(document, dict) else ():
        try:
            json_format.ParseDict({name: value}, graph, ignore_unknown_fields=True)
        except json_format.ParseError:
            continue
    return models.resealed(graph.SerializeToString())


def _damaged_file(path: Path, reads: Callable[[Path], Callable[[bytes], None]], batch: int) -> Kind:
    return Kind(damaged([path.read_bytes()]), reads(path), batch)


def _sealed(payload: bytes) -> bytes:
    return hashlib.sha256(payload).hexdigest().encode() + payload


def _each(*calls: Callable[[], object]) -> None:
    """Make every call, whatever our own errors the others raise; the first of those is raised at last."""
    first: CifarnetError | None = None
    for call in calls:
        try:
            call()
        except CifarnetError as error:
            first = first or error
    if first:
        raise first
