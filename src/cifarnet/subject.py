"""What is to be judged, behind one predictor: the best weights of a run on a framework, or a model file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backends import choose
from .errors import DataError, UsageError
from .evaluation import Evaluation, Predictor, flip_averaged, measure, predict, temperature_of, threshold_of
from .job import Origin, damaged, origin_of, real_place, require_weights
from .run import Run, find_run
from .runtime import OpenedModel, open_model
from .spec import FILE_ENGINE, NAMED_SOURCES, Dataset, Split

if TYPE_CHECKING:
    from .data import Progress
    from .training.experiment import Best

SUFFIX = ".onnx"
"""Of a model file: what ends in it is no run folder."""


class Subject(ABC):
    """A classifier to be judged."""

    name: str
    """What the person called it."""
    engine: str
    """What it runs on: a backend or onnxruntime."""
    labels: tuple[str, ...]
    source: str | None = None
    """Where its training images lie; None where that is not known."""
    flip = False
    """Whether it says the mean over an image and its mirror image."""

    @property
    @abstractmethod
    def origin(self) -> Origin:
        """Return what it was trained on. Raises ``DataError`` for a file that does not tell."""

    @property
    @abstractmethod
    def predictor(self) -> Predictor:
        """Return the function from images (n, h, w, 3), 0-255, to logits float32 (n, classes)."""

    @abstractmethod
    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Mapping[str, Any] | None:
        """Return what was fitted on held-out images, where there is such a thing.

        ``dataset`` is what the classifier was trained on, if it is at hand; a run without a calibration is fitted on
        its held-out part. With ``flip`` it is that of the mean over an image and its mirror image.
        """

    def judge(
        self, split: Split, dataset: Dataset | None = None, recorded: Mapping[str, Any] | None = None
    ) -> Evaluation:
        """Return everything that is told of the classifier on ``split``. Raises ``DataError`` for an empty one.

        ``recorded`` is a calibration to go by where the classifier itself tells none.
        """
        calibration = self.calibration(dataset, flip=self.flip) or recorded
        temperature = None if calibration is None else temperature_of(calibration)
        return measure(
            predict(self.predictor, split.images), split.labels, self.labels, temperature, threshold_of(calibration)
        )


class FlippedSubject(Subject):
    """A classifier by the mean of what it says of an image and of its mirror image."""

    flip = True

    def __init__(self, subject: Subject) -> None:
        self._subject, self.name, self.labels, self.engine = subject, subject.name, subject.labels, subject.engine
        self.source = subject.source

    @property
    def origin(self) -> Origin:
        """Return what the classifier was trained on."""
        return self._subject.origin

    @property
    def predictor(self) -> Predictor:
        """Return the mean."""
        return flip_averaged(self._subject.predictor)

    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Mapping[str, Any] | None:
        """Return what the classifier itself has."""
        return self._subject.calibration(dataset, flip=flip)


class RunSubject(Subject):
    """The best weights of a run, on the backend of this process."""

    def __init__(self, run: Run, backend: str) -> None:
        self.name, self.engine, self._run = str(run), backend, run
        self._origin = origin_of(run)
        self.source = self._origin.source
        require_weights(run)
        try:
            self.labels = tuple(run.read_record()["data"]["labels"])
        except (KeyError, TypeError) as error:
            raise damaged(error) from error

    @property
    def origin(self) -> Origin:
        """Return what the run's record tells."""
        return self._origin

    @cached_property
    def _best(self) -> "Best":
        from .training import load_best_and_epoch

        return load_best_and_epoch(self._run)

    @property
    def predictor(self) -> Predictor:
        """Return what the trained network says, dropout off."""
        from .model import predictor

        return predictor(self._best.model)

    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Mapping[str, Any] | None:
        """Return the calibration of the run's record, or fit one where ``dataset`` is the run's and it has none."""
        from .training import calibration_name, calibration_of, record_of

        if dataset is None or dataset.fingerprint != self.origin.fingerprint:
            return record_of(self._run, self._best.epoch).get(calibration_name(flip=flip))
        return calibration_of(self._run, self._best.model, dataset, flip=flip, epoch=self._best.epoch)


class FileSubject(Subject):
    """A model file, in onnxruntime on every core."""

    def __init__(self, path: Path) -> None:
        self._opened: OpenedModel = open_model(path, threads=0)
        self.name, self.engine, self.labels = str(path), FILE_ENGINE, self._opened.labels
        self.flip = bool(self._opened.contract.get("flip"))

    @property
    def origin(self) -> Origin:
        """Return what the file's contract tells."""
        return _origin_of(self._opened.contract, self.name)

    @property
    def predictor(self) -> Predictor:
        """Return what the file says in onnxruntime."""
        return self._opened.logits

    def calibration(self, dataset: Dataset | None, *, flip: bool = False) -> Mapping[str, Any] | None:
        """Return the calibration that the file carries, which is not fitted anew."""
        return self._opened.contract.get("calibration") if flip == self.flip else None


def _origin_of(contract: Mapping[str, Any], name: str) -> Origin:
    try:
        trained = contract["training"]
        trained_on = trained["data"]["name"]
        return Origin.read(trained, trained_on if trained_on in NAMED_SOURCES else None)
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


def open_images(subject: Subject, origin: Origin, place: str | None, progress: "Progress | None" = None) -> Dataset:
    """Return the images that ``subject`` was trained on, as ``origin`` tells, or those in the ``place`` that was named.

    Their test part is what may be scored. Raises ``DataError`` for images of other classes and as
    ``require_unseen_test_part``.
    """
    dataset = origin.open_dataset(place, progress)
    require_labels(subject, dataset)
    require_unseen_test_part(subject.name, origin, dataset, place)
    return dataset


def require_unseen_test_part(name: str, origin: Origin, dataset: Dataset, place: str | None) -> None:
    """Raise ``DataError`` where the test part of ``dataset`` may hold images that the model ``name`` was trained on.

    These are images that have changed where nobody named a ``place``, or where the folder is the model's own and is
    divided by position or has a test part of its own; and images that are divided in another way than ``origin``
    tells.
    """
    if dataset.fingerprint == origin.fingerprint:
        return
    known = real_place(origin.source)
    is_same_place = known is not None and real_place(place) == known
    if place is None or (is_same_place and (origin.split_by == "position" or dataset.split_by is None)):
        raise DataError(
            f"{dataset.name} has changed since {name} was trained: its fingerprint is "
            f"{dataset.fingerprint[:12]}; expected {origin.fingerprint[:12]}: restore it, or name other images to score"
        )
    if dataset.split_by and (dataset.split_by, dataset.split_seed) != (origin.split_by, origin.split_seed):
        raise DataError(
            f"{name} was trained on {origin.name} divided in another way, perhaps on these test images; expected "
            "images that are new to all models: name them with --images"
        )


def require_unseen_place(name: str, source: str | None, place: str, *, whole: bool = False) -> None:
    """Raise ``DataError`` where ``place`` is the training part of the folder ``source``, or with ``whole`` all of it.

    Copies elsewhere are not found out.
    """
    if source is None or NAMED_SOURCES & {source, place}:
        return
    trained_on = Path(source).resolve()
    if Path(place).expanduser().resolve() in (trained_on / "train", *([trained_on] if whole else [])):
        raise DataError(
            f"{place} holds images that {name} was trained on; expected others: name a folder of new images, or none "
            "to score the run's test images"
        )


def scored_images(dataset: Dataset, *, same_as_run: bool) -> dict[str, Any]:
    """Return what a JSON document tells of the images that were scored, the test part of ``dataset``.

    ``same_as_run`` is whether the data set is the one that the classifier was trained on.
    """
    return {
        "source": dataset.source,
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset.test),
        "same_as_run": same_as_run,
    }


def require_labels(subject: Subject, dataset: Dataset) -> None:
    """Raise ``DataError`` unless the classes of ``dataset`` are those that ``subject`` tells apart, in their order."""
    if subject.labels != dataset.labels:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.labels)}; expected {', '.join(subject.labels)} as in "
            f"{subject.name}: pass images of those classes"
        )
