"""What the fuzzing campaign damages, and everything that then reads it."""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from PIL import Image
from tests import report_runs
from tests.runtime import models
from tests.runtime.fuzzing import JSON, damaged, image_files, places, replaced

from benchmarks.campaign.fuzz import Kind
from cifarnet.backends import choose
from cifarnet.config import ModelConfig
from cifarnet.data import open_dataset, open_labelled_images
from cifarnet.errors import CifarnetError
from cifarnet.evaluation import temperature_of
from cifarnet.inspection import inspect_model
from cifarnet.job import best_epoch_of, job_of
from cifarnet.model import build_model, load_weights, save_weights
from cifarnet.report.evidence import read_evidence
from cifarnet.reproduction import planned_epochs
from cifarnet.run import Run, find_run
from cifarnet.runtime import Classifier
from cifarnet.seen import digests, seen_by, write_seen
from cifarnet.subject import RunSubject
from cifarnet.training.checkpoint import DIGEST_BYTES, Checkpoint, Position, load_checkpoint, save_checkpoint
from cifarnet.warm_start import warm_start_from, warm_start_of

MOST_VALUES = 200_000
CONTRACT = models.contract(calibration=models.CALIBRATION)
GRAPH = models.model().graph
RED = np.full((40, 50, 3), (200, 10, 10), np.uint8)


class Uses:
    """What is done with the inputs, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.classifier = folder, Classifier(models.calibrated())
        self.run = Run(folder / "runs" / "mine")
        dataset = report_runs.dataset_of()
        report_runs.run_of(self.run.path, dataset)
        write_seen(self.run, digests(dataset.train.images))
        self.model = build_model(ModelConfig(filters=(6,), dense_units=(16,)))
        save_weights(self.model, self.run.best_weights)
        self.run.model.write_bytes(models.calibrated())
        arrays = {f"layer/{name}": np.arange(12, dtype=np.float32) for name in ("kernel", "bias")}
        history = self.run.read_history()[:2]
        save_checkpoint(self.run.checkpoints, Checkpoint(Position(3), {"patience": 2}, arrays, arrays, history, [1.0]))
        self.photos = folder / "photos"
        for label in ("a", "b"):
            (self.photos / label).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(RED).save(self.photos / label / f"{number}.png")
        names = ("run.json", "history.csv", "best.weights.h5", "seen.npy")
        whole = {name: (self.run.path / name).read_bytes() for name in names}
        self.whole = whole
        [self.checkpoint] = self.run.checkpoints.glob("*.checkpoint")
        payload = self.checkpoint.read_bytes()

        def mutated(document: Any) -> st.SearchStrategy[bytes]:
            changes = st.lists(st.tuples(st.sampled_from(places(document)), st.one_of(JSON, st.just(...))), min_size=1)
            return changes.map(lambda made: _changed(document, made[:3]))

        images, record = image_files(), json.loads(whole["run.json"])
        shapes = st.lists(st.one_of(st.integers(0, 5), st.just(32), st.just(3)), max_size=5).filter(
            lambda shape: math.prod(shape) < MOST_VALUES
        )
        dtypes = st.sampled_from(
            [
                *["uint8"] * 4,
                *["int8", "uint16", ">u2", "float16", "float32", ">f8", "bool", "complex64", "O", "S3", "U2", "M8[s]"],
                "i4,f4",
            ]
        )
        files = [models.content(), models.calibrated(), models.model().SerializeToString()]
        self.kinds = {
            "image file": Kind(damaged(images), self.image, 2000),
            "bytes as image": Kind(st.binary(max_size=300), self.image, 2000),
            "array": Kind(st.tuples(shapes, dtypes, st.integers(0, 255), st.integers(0, 5)), self.array, 2000),
            "model file": Kind(damaged(files), self.model_file, 2000),
            "sealed graph, bytes": Kind(
                damaged([GRAPH.SerializeToString()]).map(models.resealed), self.model_file, 1000
            ),
            "sealed graph, fields": Kind(st.integers(0, 2**48).map(_altered_graph), self.model_file, 1000),
            "contract": Kind(
                mutated(CONTRACT).map(lambda text: models.content(models.graph(temperature=3.0), text.decode())),
                self.model_file,
                1000,
            ),
            "class folders": Kind(
                st.lists(st.tuples(st.sampled_from(sorted(self.photos.rglob("*.png"))), damaged(images)), max_size=2),
                self.folders,
                500,
            ),
            "run.json, bytes": Kind(damaged([whole["run.json"]]), self.record, 500),
            "run.json, values": Kind(mutated(record), self.record, 500),
            "history.csv": Kind(damaged([whole["history.csv"]]), self.history, 1000),
            "seen.npy": Kind(damaged([whole["seen.npy"]]), self.seen, 1000),
            "checkpoint": Kind(damaged([payload]), self.read_checkpoint, 1000),
            "sealed checkpoint": Kind(damaged([payload[DIGEST_BYTES:]]).map(_sealed), self.read_checkpoint, 1000),
            "weights": Kind(damaged([whole["best.weights.h5"]]), self.weights, 500),
        }

    def image(self, content: bytes) -> object:
        """Classify an image file."""
        return self.classifier(content)

    def array(self, drawn: tuple[list[int], str, int, int]) -> object:
        """Classify an array of any shape, kind and layout, alone and in a list."""
        shape, dtype, value, layout = drawn
        array = np.full(shape, value).astype(dtype)
        array = [array, array[::-1] if array.ndim else array, array.T, np.ma.masked_array(array), array.tolist()][
            min(layout, 4)
        ]
        return _each(lambda: self.classifier(array), lambda: self.classifier([array]))

    def model_file(self, content: bytes) -> object:
        """Open a model file, classify by it and inspect it."""
        path = self.folder / "model.onnx"
        path.write_bytes(content)
        return _each(lambda: Classifier(content)(RED), lambda: inspect_model(path))

    def folders(self, files: list[tuple[Path, bytes]]) -> object:
        """Open class folders of which some files are damaged."""
        before = [(path, path.read_bytes()) for path, _ in files]
        try:
            for path, content in files:
                path.write_bytes(content)
            return _each(lambda: open_dataset(self.photos), lambda: open_labelled_images(self.photos, ["a", "b", "c"]))
        finally:
            for path, content in before[::-1]:
                path.write_bytes(content)

    def record(self, content: bytes) -> object:
        """Read a damaged run.json by everything that reads it without training."""
        with self._instead("run.json", content):
            return self._read_run()

    def history(self, content: bytes) -> object:
        """Read a damaged history.csv, of a run that goes on too, by everything that reads it."""
        going = {name: value for name, value in json.loads(self.whole["run.json"]).items() if name != "best_epoch"}
        with self._instead("history.csv", content), self._instead("run.json", json.dumps(going).encode()):
            return self._read_run()

    def seen(self, content: bytes) -> object:
        """Read a damaged list of the images that a run was trained on."""
        with self._instead("seen.npy", content):
            return seen_by(self.run)

    def _read_run(self) -> object:
        run = find_run(self.run.path.parent)
        return _each(
            run.read_history,
            lambda: job_of(run.read_record()),
            lambda: best_epoch_of(run),
            lambda: RunSubject(run, choose()).origin,
            lambda: temperature_of(run.read_record()["calibration"]) if "calibration" in run.read_record() else None,
            lambda: planned_epochs(run, None),
            lambda: read_evidence(run, "onnxruntime"),
            lambda: warm_start_of(run),
            lambda: warm_start_from(run),
        )

    def read_checkpoint(self, content: bytes) -> object:
        """Read a damaged checkpoint."""
        self.checkpoint.write_bytes(content)
        return load_checkpoint(self.run.checkpoints)

    def weights(self, content: bytes) -> object:
        """Load damaged weights."""
        self.run.best_weights.write_bytes(content)
        load_weights(self.model, self.run.best_weights)
        return None

    @contextmanager
    def _instead(self, name: str, content: bytes) -> Iterator[None]:
        (self.run.path / name).write_bytes(content)
        try:
            yield
        finally:
            (self.run.path / name).write_bytes(self.whole[name])


def _each(*calls: Callable[[], object]) -> object:
    """Make every call, whatever our own errors the others raise; the first of those is raised at last."""
    first: CifarnetError | None = None
    for call in calls:
        try:
            call()
        except CifarnetError as error:
            first = first or error
    if first:
        raise first
    return None


def _changed(document: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
    document = json.loads(json.dumps(document))
    for place, value in changes:
        try:
            document = replaced(document, place, value)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    return json.dumps(document).encode()


def _sealed(payload: bytes) -> bytes:
    return hashlib.sha256(payload).hexdigest().encode() + payload


def _altered_graph(number: int) -> bytes:
    """Return a sealed model file of whose graph one to four fields, at any depth, have other values."""
    rng, graph = random.Random(number), onnx.GraphProto()  # noqa: S311  # repeatable, no secret
    graph.CopyFrom(models.graph())
    for _ in range(rng.randint(1, 4)):
        _alter(graph, rng)
    return models.resealed(graph.SerializeToString())


def _alter(message: Message, rng: random.Random) -> None:
    """Change one field of a message, or of one somewhere within it."""
    field, value = rng.choice(message.ListFields() or [(rng.choice(message.DESCRIPTOR.fields), None)])
    if rng.random() < 0.1:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if value is not None and (many := list(value) if field.is_repeated else [value]):
            chosen = rng.choice(many)
            if field.is_repeated and rng.random() < 0.1:
                value.add().CopyFrom(chosen)
            _alter(chosen, rng)
    else:
        new = _scalar(field, rng)
        if not field.is_repeated:
            setattr(message, field.name, new)
        elif value and rng.random() < 0.7:
            value[rng.randrange(len(value))] = new
        else:
            getattr(message, field.name).append(new)


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    names = ["images", "logits", "weights", "", "probabilities", "Loop", "x" * 300, "Conv", "Gather"]
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = rng.choice(names)
        return text if field.type == FieldDescriptor.TYPE_STRING else rng.choice([text.encode(), rng.randbytes(9)])
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice([0.0, -1.0, 1e38, float("nan"), float("inf")])
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice(list(field.enum_type.values_by_number))
    return rng.choice([0, 1, 2, 3, 7, 10, 16, 255, 2**20, 2**31 - 1, rng.randrange(2**31)])
