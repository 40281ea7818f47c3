"""What is to be judged, behind one predictor: the best weights of a run on a framework, or a model file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarnet.backends import choose
from cifarnet.contract import FILE_ENGINE
from cifarnet.dataset import NAMED_SOURCES, Dataset, Split
from cifarnet.errors import DataError, ModelError, UsageError
from cifarnet.run.find import find_run
from cifarnet.run.folder import Run, require_weights
from cifarnet.run.origin import Origin
from cifarnet.run.record import Calibration, DataRecord
from cifarnet.run.state import run_beside
from cifarnet.run.typed_json import read
from cifarnet.runtime import OpenedModel, open_model
from cifarnet.training.seen import Digests, count_seen, seen_by

from .metrics import Evaluation, measure
from .scoring import Predictor, predict, with_tta

if TYPE_CHECKING:
    from cifarnet.data import Progress
    from cifarnet.training.train import Best

SUFFIX = ".onnx"
"""Of a model file: what ends in it is no run folder."""


class Subject(ABC):
    """A classifier to be judged."""

    name: str
    """What the person called it."""
    engine: str
    """What it runs on: a backend or onnxruntime."""
    labels: tuple[str, ...]
    run: Run | None = None
    """The run that it belongs to; None for a model file that lies elsewhere."""
    flip = False
    """Whether it says the mean over an image and its mirror image."""

    @property
    @abstractmethod
    def origin(self) -> Origin:
        """Return what it was trained on. Raises ``DataError`` for a file that does not tell."""

    @property
    def seen(self) -> Digests | None:
        """Return the digests of the images that it was trained on, or None where they are not known here."""
        return None if self.run is None else seen_by(self.run)

    @property
    @abstractmethod
    def predictor(self) -> Predictor:
        """Return the function from images (n, h, w, 3), 0-255, to logits float32 (n, classes)."""

    @abstractmethod
    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Calibration | None:
        """Return what was fitted on held-out images, where there is such a thing.

        ``dataset`` is what the classifier was trained on, if it is at hand; a run without a calibration is fitted on
        its held-out part. With ``flip`` it is that of the mean over an image and its mirror image.
        """

    def judge(self, split: Split, dataset: Dataset | None = None, recorded: Calibration | None = None) -> Evaluation:
        """Return everything that is told of the classifier on ``split``. Raises ``DataError`` for an empty one.

        ``recorded`` is a calibration to go by where the classifier itself tells none.
        """
        calibration = self.calibration(dataset, flip=self.flip) or recorded
        fitted = (None, None) if calibration is None else (calibration.temperature, calibration.threshold)
        return measure(predict(self.predictor, split.images), split.labels, self.labels, *fitted)


class FlippedSubject(Subject):
    """A classifier by the mean of what it says of an image and of its mirror image."""

    flip = True

    def __init__(self, subject: Subject) -> None:
        self._subject, self.name, self.labels, self.engine = subject, subject.name, subject.labels, subject.engine
        self.run = subject.run

    @property
    def origin(self) -> Origin:
        """Return what the classifier was trained on."""
        return self._subject.origin

    @property
    def predictor(self) -> Predictor:
        """Return the mean."""
        return with_tta(self._subject.predictor)

    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Calibration | None:
        """Return what the classifier itself has."""
        return self._subject.calibration(dataset, flip=flip)


class RunSubject(Subject):
    """The best weights of a run, on the backend of this process."""

    def __init__(self, run: Run, backend: str) -> None:
        self.name, self.engine, self.run, self._run = str(run), backend, run, run
        record = run.record
        self._origin, self.labels = record.origin, record.data.labels
        require_weights(run)

    @property
    def origin(self) -> Origin:
        """Return what the run's record tells."""
        return self._origin

    @cached_property
    def _best(self) -> "Best":
        from cifarnet.training.train import load_best_and_epoch

        return load_best_and_epoch(self._run)

    @property
    def predictor(self) -> Predictor:
        """Return what the trained network says, dropout off."""
        from cifarnet.model.network import predictor

        return predictor(self._best.model)

    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Calibration | None:
        """Return the calibration of the run's record, or fit one where ``dataset`` is the run's and it has none."""
        from cifarnet.training.train import calibration_of, record_of

        if dataset is None or dataset.fingerprint != self.origin.fingerprint:
            return record_of(self._run, self._best.epoch).calibration_for(flip=flip)
        return calibration_of(self._run, self._best.model, dataset, flip=flip, epoch=self._best.epoch)


class FileSubject(Subject):
    """A model file, in onnxruntime on every core."""

    def __init__(self, path: Path, run: Run | None = None) -> None:
        self._opened: OpenedModel = open_model(path, threads=0)
        self.run = run or run_beside(path, self._opened.contract)
        self.name, self.engine, self.labels = str(path), FILE_ENGINE, self._opened.labels
        self.flip = bool(self._opened.contract.get("flip"))

    @property
    def origin(self) -> Origin:
        """Return what the record of its run tells, or else the file's contract."""
        return self.run.record.origin if self.run else _origin_of(self._opened.contract, self.name)

    @property
    def predictor(self) -> Predictor:
        """Return what the file says in onnxruntime."""
        return self._opened.logits

    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Calibration | None:
        """Return the calibration that the file carries, which is not fitted anew."""
        told = self._opened.contract.get("calibration") if flip == self.flip else None
        try:
            return None if told is None else read(Calibration, told, "calibration")
        except ValueError as error:
            raise ModelError(
                f"{self.name} has a damaged contract ({error}); expected one as `cifarnet export` writes it: redo it"
            ) from error


def _origin_of(contract: Mapping[str, Any], name: str) -> Origin:
    try:
        trained = contract["training"]
        trained_on = trained["data"]["name"]
        source = trained_on if trained_on in NAMED_SOURCES else None
        untold = {"source": source, "labels": contract["labels"], "train_images": 0, "test_images": 0}
        data: DataRecord = read(DataRecord, untold | trained["data"], "data")
        return data.origin(read(int, trained["train"]["seed"], "seed"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name} does not tell what it was trained on; expected that in its contract: export it anew"
        ) from error


def names_file(target: str) -> bool:
    """Return whether ``target`` is to be opened as a model file, there or not, rather than looked up as a run."""
    return not Path(target).is_dir() and (target.endswith(SUFFIX) or Path(target).is_file())


def open_subject(target: str | None, runs: Path, backend: str | None = None) -> Subject:
    """Return what is to be judged: a model file, a run folder, or by default the latest run below ``runs``.

    For a run the backend is chosen, so that Keras may be imported. Raises ``RunError``, ``ModelError`` and
    ``BackendError``, and ``UsageError`` where a backend is wished for a model file, which runs in onnxruntime.
    """
    if target is None or not names_file(target):
        return RunSubject(find_run(runs, target), choose(backend))
    if backend is not None:
        raise UsageError(f"{target} runs in onnxruntime; expected no --backend with a model file: leave it out")
    return FileSubject(Path(target))


def open_images(subject: Subject, place: str | None, progress: "Progress | None" = None) -> Dataset:
    """Return the images that ``subject`` was trained on, or those in the ``place`` that was named, divided likewise.

    Their test part is what may be scored, as ``require_unseen`` tells. Raises ``DataError`` for images of other
    classes.
    """
    dataset = subject.origin.load_dataset(place, progress)
    require_labels(subject, dataset)
    return dataset


def is_own(subject: Subject, dataset: Dataset) -> bool:
    """Return whether ``dataset`` is what ``subject`` was trained on; one without a training part never is."""
    return len(dataset.train) > 0 and dataset.fingerprint == subject.origin.fingerprint


def require_unseen(subject: Subject, dataset: Dataset, place: str | None) -> bool | None:
    """Return True where ``subject`` was trained on no image of the test part of ``dataset``, None where nobody knows.

    Raises ``DataError`` where it was trained on some, where its own images changed and nobody named a ``place``, and
    where the model's file tells another division.
    """
    own = is_own(subject, dataset)
    if place is None and not own:
        raise DataError(
            f"{dataset.name} has changed since {subject.name} was trained: its fingerprint is "
            f"{dataset.fingerprint[:12]}; expected {subject.origin.fingerprint[:12]}: restore it, or name the images "
            "to score with --data"
        )
    if (seen := subject.seen) is None:
        _require_same_division(subject, dataset)
        return True if own else None
    if count := count_seen(dataset.test.images, seen):
        raise DataError(
            f"{count} of the {len(dataset.test)} images of {dataset.name} to be scored are training images of "
            f"{subject.name}; expected images that are new to it: name a folder of others"
        )
    return True


def _require_same_division(subject: Subject, dataset: Dataset) -> None:
    """Raise ``DataError`` where the test part was drawn, and in another way than the file of ``subject`` tells."""
    division = dataset.split_by, dataset.split_seed
    if dataset.split_by and division != (subject.origin.split_by, subject.origin.split_seed):
        raise DataError(
            f"{subject.name} was trained on {subject.origin.name} divided in another way, perhaps on these test "
            "images; expected images that are new to all models: name a folder of those"
        )


def scored_images(dataset: Dataset, *, same_as_run: bool, unseen: bool | None) -> dict[str, Any]:
    """Return what a JSON document tells of the images that were scored, the test part of ``dataset``.

    ``same_as_run`` is whether the data set is the one that the classifier was trained on, and ``unseen`` what
    ``require_unseen`` found.
    """
    return {
        "source": dataset.source,
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset.test),
        "same_as_run": same_as_run,
        "unseen": unseen,
    }


def require_labels(subject: Subject, dataset: Dataset) -> None:
    """Raise ``DataError`` unless the classes of ``dataset`` are those that ``subject`` tells apart, in their order."""
    if subject.labels != dataset.labels:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.labels)}; expected {', '.join(subject.labels)} as in "
            f"{subject.name}: pass images of those classes"
        )
