"""What is to be judged, behind one predictor: the best weights of a run on a framework, or a model file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backends import choose
from .errors import DataError, RunError, UsageError
from .evaluation import Evaluation, Predictor, flip_averaged, measure, predict, temperature_of, threshold_of
from .job import NAMED_SOURCES, job_of, require_weights
from .run import RECORD, Run, find_run
from .runtime import OpenedModel, open_model
from .spec import FILE_ENGINE, Dataset, Split

if TYPE_CHECKING:
    from .training.experiment import Best

SUFFIX = ".onnx"
"""Of a model file: what ends in it is no run folder."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The images that a classifier was trained on."""

    source: str | None
    """What ``open_dataset`` takes; nothing where it lies on another machine for all that is known."""
    name: str
    fingerprint: str
    seed: int
    """By which the images were divided."""


class Subject(ABC):
    """A classifier to be judged."""

    name: str
    """What the person called it."""
    engine: str
    """What it runs on: a backend or onnxruntime."""
    labels: tuple[str, ...]
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
        record = run.read_record()
        job = job_of(record)
        require_weights(run)
        try:
            self.labels = tuple(record["data"]["labels"])
            name, fingerprint = record["data"]["name"], record["data"]["fingerprint"]
        except (KeyError, TypeError) as error:
            raise RunError(
                f"{run.path / RECORD} is damaged ({error!r}); expected the record of a run: start a new one"
            ) from error
        self._origin = Origin(source=job.source, name=name, fingerprint=fingerprint, seed=job.train.seed)

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
        data, seed = contract["training"]["data"], contract["training"]["train"]["seed"]
        trained_on, fingerprint = data["name"], data["fingerprint"]
    except (KeyError, TypeError) as error:
        raise _untold(name) from error
    if not (isinstance(trained_on, str) and isinstance(fingerprint, str) and type(seed) is int and seed >= 0):
        raise _untold(name)
    source = trained_on if trained_on in NAMED_SOURCES else None
    return Origin(source=source, name=trained_on, fingerprint=fingerprint, seed=seed)


def _untold(name: str) -> DataError:
    return DataError(f"{name} does not tell what it was trained on; expected that in its contract: export it anew")


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


def require_labels(subject: Subject, dataset: Dataset) -> None:
    """Raise ``DataError`` unless the classes of ``dataset`` are those that ``subject`` tells apart, in their order."""
    if subject.labels != dataset.labels:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.labels)}; expected {', '.join(subject.labels)} as in "
            f"{subject.name}: pass images of those classes"
        )
